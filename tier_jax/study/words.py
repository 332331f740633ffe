"""What a study says, in plain words and as Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from tier_jax.evaluators import wording
from tier_jax.study import figures

# More arms are shown by figures.HEADLINE, a line an arm.
FEW_ARMS = 4
_LEVEL = 0.05
_INCONCLUSIVE = "inconclusive"
_GROUNDED = {
  key for key, item in figures.FIGURES.items() if item.path[0] == "grounding"
}

Study = Mapping[str, Any]


def statement(study: Study) -> list[str]:
  """Returns the paragraphs that say what is compared and how."""
  base = study["baseline"]
  primary = " and ".join(study["figures"][key] for key in study["primary"])
  return [
    "Runs of one setting share data, steps and every field of the "
    f"configuration but the seed and the loss. Each arm is paired with {base} "
    f"by seed. A difference is the arm less {base}; its 95 % interval is "
    "Student's t over the seeds' differences.",
    f"Primary are {primary}: their p is two-sided, of that t, and adjusted by "
    f"Holm for all {study['tests']} tests here. All other figures describe.",
    "A finding's map is that of a phrase less that of its denial, what each "
    "patch adds to the zero-shot score.",
    "Grounding is judged only where the baseline's map beats the "
    "location prior, which always points at the finding's most common place "
    "in another split: models that cannot localise cannot differ in it.",
  ]


def gate(study: Study, setting: str) -> tuple[bool, str]:
  """Returns whether grounding can be judged in a setting, and a sentence."""
  base, found = study["baseline"], study["settings"][setting]["gate"]
  if found is None:
    return False, (
      f"{setting}: grounding is {_INCONCLUSIVE}; no finished run of {base} was "
      "measured beside a location prior."
    )
  against = found["against_prior"]["pointing_game"]
  words = f"pointing game less the prior's {_over(against)}"
  by_phrase = found.get("against_prior_of_phrase", {}).get("pointing_game")
  if by_phrase:
    words += (
      ", less that of the prior by phrase, which knows the side too, "
      f"{_over(by_phrase)}"
    )
  if found["passed"]:
    return True, (
      f"{setting}: the map of {base} beats the location prior ({words})."
    )
  return False, (
    f"{setting}: grounding is {_INCONCLUSIVE}; the map of {base} does "
    f"not beat the location prior ({words})."
  )


def verdicts(study: Study, setting: str) -> Iterator[tuple[bool, str]]:
  """Yields for each primary test whether a difference is shown, in words."""
  for arm, key, item in differences(study, setting):
    if key not in study["primary"]:
      continue
    difference = item["difference"]
    shown, words = _verdict(difference)
    if is_open(study, setting, key):
      shown, words = False, _INCONCLUSIVE
    p_value = (
      ""
      if difference["p"] is None
      else (
        f", p {wording.p_value(difference['p'])}, by Holm "
        f"{wording.p_value(difference['p_holm'])}"
      )
    )
    yield (
      shown,
      (
        f"{setting}, {arm} - {study['baseline']}, {study['figures'][key]}: "
        f"{_over(difference)}{p_value}: {words}."
      ),
    )


def differences(
  study: Study, setting: str
) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
  """Yields arm, figure and what is paired, by arm."""
  for arm, described in study["settings"][setting]["arms"].items():
    for key, item in described.get("paired", {}).items():
      yield arm, key, item


def compared(study: Study, setting: str) -> list[str]:
  """Returns the arms of a setting that are paired with the baseline."""
  return list(dict.fromkeys(arm for arm, *_ in differences(study, setting)))


def is_open(study: Study, setting: str, key: str) -> bool:
  """Returns whether a figure is of grounding that cannot be judged."""
  return key in _GROUNDED and not gate(study, setting)[0]


def missing(study: Study) -> list[str]:
  """Returns sentences about runs that are not finished or have no pair."""
  found = []
  if study["unfinished"]:
    found.append(f"Not finished: {', '.join(study['unfinished'])}.")
  lacking = dict.fromkeys(item["lacks"] for item in study["unpaired"])
  if lacking:
    found.append(
      f"Without a finished {', '.join(lacking)}, the runs of the same seed are "
      "left out of the differences with them."
    )
  return found


def budgets(study: Study) -> list[list[str]]:
  """Returns rows of setting, arm, runs, steps, device, minutes of training."""
  groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
  for run in study["runs"].values():
    groups.setdefault((run["setting"], run["arm"]), []).append(run)
  rows = []
  for (setting, arm), runs in groups.items():
    minutes = [run["minutes"] for run in runs if run["minutes"] is not None]
    rows.append(
      [
        setting,
        arm,
        str(len(runs)),
        _listing(run["step"] for run in runs),
        _listing(run["device"] for run in runs),
        f"{np.median(minutes):.1f}" if minutes else "-",
      ]
    )
  return rows


BUDGET_HEAD = (
  *("setting", "arm", "runs", "steps", "device"),
  "training, minutes a run (median)",
)


def markdown(study: Study) -> str:
  """Returns the study's tables, with what must be said beside them."""
  parts = ["\n\n".join(statement(study))]
  for setting in study["settings"]:
    lines = [gate(study, setting)[1]]
    few = len(compared(study, setting)) <= FEW_ARMS
    if few:
      lines += [words for _, words in verdicts(study, setting)]
    parts.append("\n".join(f"- {line}" for line in lines))
    if few:
      parts.append(_full(study, setting))
    else:
      head, rows = overview(study, setting)
      parts.append(
        _table(["setting", *head], [[setting, *row] for row in rows])
      )
  parts += missing(study)
  parts.append(_table(BUDGET_HEAD, budgets(study)))
  return "\n\n".join(part for part in parts if part) + "\n"


def _full(study: Study, setting: str) -> str:
  """A line a figure, of each arm."""
  rows = [
    [
      setting,
      arm,
      title(study, setting, key),
      wording.number(item["baseline"]),
      wording.number(item["arm"]),
      wording.interval(item["difference"], sign=True),
      wording.p_value(item["difference"].get("p_holm")),
      str(item["difference"]["n"]),
    ]
    for arm, key, item in differences(study, setting)
  ]
  head = (
    *("setting", "arm", "figure", study["baseline"], "arm's"),
    *("difference [95 %]", "p (Holm)", "seeds"),
  )
  return _table(head, rows) if rows else ""


def overview(study: Study, setting: str) -> tuple[list[str], list[list[str]]]:
  """Returns head and rows, an arm each, of the figures that matter most.

  The baseline's row holds its means, the others their differences, of the
  primary figures with Holm's p.
  """
  arms = study["settings"][setting]["arms"]
  base = arms[study["baseline"]]["means"]
  keys = [key for key in figures.HEADLINE if key in base]
  seeds = max((item["n"] for item in base.values()), default=0)
  means = [wording.number(base[key]["value"]) for key in keys]
  rows = [[study["baseline"], str(seeds), *means]]
  for arm in compared(study, setting):
    cells = []
    for key in keys:
      item = arms[arm]["paired"].get(key, {}).get("difference")
      cell = wording.interval(item, sign=True)
      if item and item.get("p_holm") is not None:
        cell += f", p {wording.p_value(item['p_holm'])}"
      cells.append(cell)
    rows.append([arm, str(len(arms[arm]["seeds"])), *cells])
  return ["arm", "seeds", *(title(study, setting, key) for key in keys)], rows


def title(study: Study, setting: str, key: str) -> str:
  """Returns a figure's title, with a word when it cannot be judged."""
  words = study["figures"][key]
  return f"{words} ({_INCONCLUSIVE})" if is_open(study, setting, key) else words


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  lines = [head, ["---"] * len(head), *rows]
  # A name may hold what would end a cell.
  return "\n".join(
    f"| {' | '.join(cell.replace('|', '/') for cell in line)} |"
    for line in lines
  )


def _over(item: Mapping[str, Any]) -> str:
  seeds = "1 seed" if item["n"] == 1 else f"{item['n']} seeds"
  return f"{wording.interval(item, sign=True)}, {seeds}"


def _verdict(difference: Mapping[str, Any]) -> tuple[bool, str]:
  p_value = difference["p_holm"]
  if difference["low"] is None:
    return False, "too few seeds for an interval"
  if p_value is None or p_value >= _LEVEL:
    return False, "no difference shown"
  return True, "higher" if difference["value"] > 0 else "lower"


def _listing(values) -> str:
  return ", ".join(dict.fromkeys("-" if v is None else str(v) for v in values))
