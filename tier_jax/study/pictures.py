"""The pictures of a study's page, a <figure> each."""

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from tier_jax.evaluators import figures as drawing
from tier_jax.evaluators.sections import markup
from tier_jax.study import charts, figures, words

# An arm of a grid: t0.3_w0.2_0.1 has that temperature and those weights of the
# penalties on tokens and patches.
_NUMBER = r"(\d+(?:\.\d+)?)"
GRID = re.compile(f"t{_NUMBER}_w{_NUMBER}_{_NUMBER}")
_TRENDS = (*figures.HEADLINE, "above_prior")

Colours = Mapping[str, str]  # of each arm, the baseline first


def forests(
  study: words.Study, setting: str, colours: Colours
) -> Iterator[str]:
  """Differences of all figures, those of a kind on one axis."""
  groups: dict[str, list[str]] = {}
  for key, figure in figures.FIGURES.items():
    groups.setdefault(figure.group, []).append(key)
  arms = study["settings"][setting]["arms"]
  for group, keys in groups.items():
    rows = []
    for key in keys:
      title = study["figures"][key]
      for arm in words.compared(study, setting):
        item = arms[arm]["paired"].get(key)
        if item:
          bold = key in study["primary"]
          rows.append(_row(title, item["difference"], colours[arm], bold))
          title = ""
    if rows:
      still = words.is_open(study, setting, keys[0])
      yield _forest(f"{group} (inconclusive)" if still else group, rows)


def by_arm(
  study: words.Study, setting: str, arms: Sequence[str]
) -> Iterator[str]:
  """Differences of the headline figures, each on an axis with all arms."""
  found = study["settings"][setting]["arms"]
  for key in figures.HEADLINE:
    rows = [
      _row(arm, item["difference"], drawing.RUN_COLOURS[0], False)
      for arm in arms
      if (item := found[arm]["paired"].get(key))
    ]
    if rows:
      yield _forest(words.title(study, setting, key), rows)


def _row(title: str, item, colour: str, bold: bool) -> drawing.ForestRow:
  return drawing.ForestRow(
    title, item["value"], item["low"], item["high"], colour, bold
  )


def _forest(title: str, rows: Sequence[drawing.ForestRow]) -> str:
  uri = drawing.forest(rows, reference=0, x_label="difference, 95 % over seeds")
  return markup.figure(f"Differences: {title}", uri)


def seeds(study: words.Study, setting: str, colours: Colours) -> Iterator[str]:
  """The primary figures of each seed, joined from arm to arm."""
  runs = [r for r in study["runs"].values() if r["setting"] == setting]
  for key in study["primary"]:
    values = {
      (run["arm"], run["seed"]): run["figures"][key]
      for run in runs
      if key in run["figures"]
    }
    seeds = sorted({seed for _, seed in values})
    if not seeds:
      continue
    prior, note = None, ""
    base = study["settings"][setting]["arms"][study["baseline"]]["means"]
    if key == "pointing_game" and "above_prior" in base:
      prior = base[key]["value"] - base["above_prior"]["value"]
      note = "<small>dashed: the location prior</small>"
    uri = charts.paired(
      colours,
      [[values.get((arm, seed)) for arm in colours] for seed in seeds],
      y_label="value",
      reference=prior,
    )
    title = f"{words.title(study, setting, key)}, a line a seed"
    yield markup.figure(title, uri, note)


def histograms(
  study: words.Study,
  setting: str,
  groups: Mapping[str, Sequence[str]],
  colours: Colours,
) -> Iterator[str]:
  """Similarities of arms and baseline, mean over seeds, a picture a group."""
  found = study["settings"][setting]["arms"]
  for name, arms in groups.items():
    shares = {
      arm: np.array(found[arm]["histogram"])
      for arm in (study["baseline"], *arms)
      if found[arm]["histogram"]
    }
    if shares:
      title = "Cosines of tokens and patches, mean over seeds"
      if name:
        title += f", penalty temperature {name}"
      uri = drawing.histogram(shares, [colours[arm] for arm in shares])
      yield markup.figure(title, uri)


def trends(study: words.Study, setting: str) -> Iterator[str]:
  """Differences over the penalties' temperature, a line a pair of weights."""
  for key in _TRENDS:
    lines: dict[str, list[charts.Mean]] = {}
    for arm, figure, item in words.differences(study, setting):
      match = GRID.fullmatch(arm)
      if figure == key and match:
        delta = item["difference"]
        mean = charts.Mean(
          float(match[1]), delta["value"], delta["low"], delta["high"]
        )
        lines.setdefault(f"weights {match[2]}, {match[3]}", []).append(mean)
    lines = {
      name: sorted(means, key=lambda mean: mean.x)
      for name, means in lines.items()
    }
    if len({mean.x for means in lines.values() for mean in means}) > 1:
      uri = charts.trend(lines, x_label="temperature of the penalties")
      title = f"{words.title(study, setting, key)}: arm less baseline"
      yield markup.figure(title, uri)
