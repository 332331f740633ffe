"""A study as one HTML page that fetches nothing and runs nothing."""

import urllib.parse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tier_jax.evaluators import figures as drawing
from tier_jax.evaluators import wording
from tier_jax.evaluators.sections import markup, palette
from tier_jax.study import pictures, words


def write(path: Path, study: words.Study) -> None:
  """Writes the page of what `comparison.summarise` returned.

  Reports of the runs are linked to as they lie beside it.
  """
  path.write_text(render(study), "utf-8")


def render(study: words.Study) -> str:
  """Returns the page that `write` writes."""
  sections = [
    markup.Section("What is compared", _statement(study)),
    *(
      markup.Section(f"Setting {name}", _setting(study, name))
      for name in study["settings"]
    ),
    markup.Section("Runs", _runs(study)),
  ]
  arms = dict.fromkeys(run["arm"] for run in study["runs"].values())
  arms.pop(study["baseline"], None)
  base = study["baseline"]
  return markup.page(
    f"Study: {wording.listing(list(arms))} against {base}"
    if 0 < len(arms) <= words.FEW_ARMS
    else f"Study: {len(arms)} arms against {base}",
    "Differences with their 95 % intervals over seeds.",
    sections,
    items=[
      f"<b>{markup.text(name)}</b>, "
      f"{sum(run['setting'] == name for run in study['runs'].values())} runs"
      for name in study["settings"]
    ],
  )


def _statement(study) -> str:
  body = "".join(
    f"<p>{markup.text(line)}</p>" for line in words.statement(study)
  )
  for setting in study["settings"]:
    good, line = words.gate(study, setting)
    body += markup.verdict(markup.text(line), good=good)
    if len(words.compared(study, setting)) <= words.FEW_ARMS:
      for shown, line in words.verdicts(study, setting):
        body += markup.verdict(markup.text(line), good=shown)
  return body + "".join(
    f'<p class="note">{markup.text(line)}</p>' for line in words.missing(study)
  )


def _setting(study, setting: str) -> str:
  arms = words.compared(study, setting)
  colours = {study["baseline"]: drawing.GREY} | {
    arm: drawing.run_colour(i) for i, arm in enumerate(arms)
  }
  body = _gate(study, setting)
  if not arms:
    return body + "<p>No arm has a pair with the baseline yet.</p>"
  if len(arms) <= words.FEW_ARMS:
    shown = [*pictures.forests(study, setting, colours)]
    shown += pictures.seeds(study, setting, colours)
    shown += pictures.histograms(study, setting, {"": arms}, colours)
    legend = "".join(
      f"<span>{palette.dot(colour)}{markup.text(arm)}</span>"
      for arm, colour in colours.items()
    )
    body += f'<p class="legend">{legend}</p>{markup.grid("charts", shown)}'
    return body + "".join(_table(study, setting, arm) for arm in arms)
  by_temperature: dict[str, list[str]] = {}
  for arm in arms:
    match = pictures.GRID.fullmatch(arm)
    by_temperature.setdefault(match[1] if match else "", []).append(arm)
  shown = [*pictures.trends(study, setting)]
  if not all(map(pictures.GRID.fullmatch, arms)):
    shown += pictures.by_arm(study, setting, arms)
  shown += pictures.histograms(study, setting, by_temperature, colours)
  head, rows = words.overview(study, setting)
  body += markup.table(
    [wording.capital(markup.text(cell)) for cell in head],
    [markup.row([markup.text(cell) for cell in row]) for row in rows],
  )
  body += markup.grid("charts", shown)
  return body + "".join(
    markup.details(f"Every figure of {arm}", _table(study, setting, arm))
    for arm in arms
  )


def _gate(study, setting: str) -> str:
  """A table of how the baseline stands to the priors."""
  found = study["settings"][setting]["gate"] or {}
  titles = {
    "against_prior": "location prior",
    "against_prior_of_phrase": "location prior by phrase",
  }
  rows = [
    markup.row(
      [
        f"{markup.text(study['baseline'])} less the {title}",
        *(
          markup.interval(found[prior].get(metric), sign=True)
          for metric in wording.GROUNDING
        ),
      ]
    )
    for prior, title in titles.items()
    if prior in found
  ]
  heads = ["Phrase map, mean over seeds", *wording.GROUNDING.values()]
  return markup.table(heads, rows) if rows else ""


def _table(study, setting: str, arm: str) -> str:
  rows = []
  for key, item in study["settings"][setting]["arms"][arm]["paired"].items():
    delta, drawn = item["difference"], item["bootstrap"]
    both = drawn and delta | drawn
    cells = [
      markup.text(words.title(study, setting, key)),
      wording.number(item["baseline"]),
      wording.number(item["arm"]),
      markup.interval(delta, sign=True),
      markup.p_value(delta["p"]) if key in study["primary"] else "",
      markup.p_value(delta["p_holm"]) if key in study["primary"] else "",
      markup.interval(both, sign=True) if both else "",
      str(delta["n"]),
    ]
    rows.append(markup.row(cells, strong=key in study["primary"]))
  base, name = markup.text(study["baseline"]), markup.text(arm)
  draws = study["bootstrap"]["num_resamples"]
  head = [
    *("Figure", base, name, f"{name} less {base}, over seeds"),
    *("p", "p by Holm", f"over patients and seeds ({draws} draws)", "Seeds"),
  ]
  return markup.table(head, rows)


def _runs(study) -> str:
  rows = []
  for name, run in study["runs"].items():
    words_of = markup.text(name)
    if run["report"]:
      link = urllib.parse.quote(f"{name}/report.html")
      words_of = f'<a href="{link}">{words_of}</a>'
    rows.append(
      markup.row(
        [
          words_of,
          *(wording.number(run["figures"].get(k)) for k in study["primary"]),
          f"<code>{markup.text(run['metrics_sha256'][:12])}</code>",
        ]
      )
    )
  primary = [study["figures"][key] for key in study["primary"]]
  head = ["Run", *primary, "metrics.json, SHA-256"]
  budget = markup.table(
    [wording.capital(head) for head in words.BUDGET_HEAD],
    [markup.row([markup.text(c) for c in row]) for row in words.budgets(study)],
  )
  return budget + markup.table(head, rows) + _digests(study)


def _digests(study) -> str:
  """A table of what the runs of each setting have in common."""
  rows = []
  for setting in study["settings"]:
    run: Mapping[str, Any] = next(
      r for r in study["runs"].values() if r["setting"] == setting
    )
    kinds = run["digests"] or {}
    facts = {kind: kinds.get(kind) for kind in ("code", "prompts")}
    facts |= {f"data {k}": v for k, v in (kinds.get("data") or {}).items()}
    for kind, digest in facts.items():
      code = f"<code>{markup.text(digest)}</code>"
      rows.append(markup.row([markup.text(setting), markup.text(kind), code]))
  table = markup.table(["Setting", "What", "SHA-256"], rows)
  return markup.details("Digests that the runs of a setting share", table)
