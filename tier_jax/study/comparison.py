"""Arms of a study against their baseline, paired by seed.

A seed fixes a run's start and the order of its data, so that the arm and the
baseline of one seed are a pair. The interval of a difference is Student's t
over the pairs' differences: what another set of seeds would give. Beside it
stands, where the scores allow, a bootstrap that draws patients and seeds anew
together: what other patients would give as well. It is the lesser of the two,
since a handful of seeds drawn with replacement varies too little.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from tier_jax.evaluators import (
  bootstrap,
  comparisons,
  grounding_scores,
  metrics,
  statistics,
  wording,
)
from tier_jax.evaluators.grounding_metrics import METRICS
from tier_jax.study import figures, members
from tier_jax.study.members import Member

NUM_RESAMPLES = 500
_SEED = 0  # of the bootstrap
_ROUNDING = 1e-12  # of numbers near 1 that should be alike
_RESAMPLED = ("chexpert_auroc", "padchest_auroc", "pointing_game")
# By the map that is judged.
_PRIORS = ("against_prior", "against_prior_of_phrase")

_Draws = Mapping[str, Mapping[str, np.ndarray]]  # run -> figure -> (R,)


def summarise(
  directory: Path, baseline: str, *, num_resamples: int = NUM_RESAMPLES
) -> dict[str, Any]:
  """Returns all that the finished runs say, as JSON values.

  Args:
    directory: holds a directory SETTING.ARM.SEED for each run.
    baseline: the arm that the others are compared with.
    num_resamples: of the bootstrap.

  Returns:
    baseline, figures (titles), primary, tests (how many Holm adjusted for),
    bootstrap;
    settings: for each its `gate`, and by arm the figures' `means` (over all
      seeds), the `histogram` of similarities, and, but for the baseline,
      `seeds` that both have and `paired`: for each figure the means of baseline
      and arm over them, `difference` with low, high, p and n, of the primary
      ones also p_holm, and `bootstrap`, its interval or None;
    runs: by name; unfinished: names; unpaired: runs whose other half is not
      there.

  Raises:
    ValueError: if there is no finished run, none of the baseline, or the runs
      of a setting differ in more than seed and loss.
  """
  found, unfinished = members.read(directory)
  arms = dict.fromkeys(one.arm for one in found)
  if baseline not in arms:
    raise ValueError(
      f"baseline {baseline!r} has no finished run, expected one of "
      f"{', '.join(arms)}"
    )
  settings, unpaired = {}, []
  for setting in dict.fromkeys(one.setting for one in found):
    group = [one for one in found if one.setting == setting]
    members.check_alike(group)
    settings[setting] = _setting(group, baseline, num_resamples)
    unpaired += _unpaired(group, baseline)
  tests = [
    arm["paired"][key]["difference"]
    for setting in settings.values()
    for arm in setting["arms"].values()
    for key in figures.PRIMARY
    if key in arm.get("paired", {})
  ]
  adjusted = comparisons.holm([test["p"] for test in tests])
  for test, p_value in zip(tests, adjusted, strict=True):
    test["p_holm"] = p_value
  return {
    "baseline": baseline,
    "primary": list(figures.PRIMARY),
    "figures": {key: item.title for key, item in figures.FIGURES.items()},
    "tests": sum(p_value is not None for p_value in adjusted),
    "bootstrap": {
      "resampled": "patients and seeds",
      "num_resamples": num_resamples,
      "seed": _SEED,
    },
    "settings": settings,
    "runs": {
      one.run.name: members.record(one) | {"figures": values(one)}
      for one in found
    },
    "unfinished": unfinished,
    "unpaired": unpaired,
  }


def over_seeds(numbers: Sequence[float] | np.ndarray) -> dict[str, Any]:
  """Returns the mean of N >= 1 numbers, one a seed, with Student's interval.

  Returns:
    value, low, high, p (two-sided, of a mean of 0) and n. Two numbers at least
    give an interval; p is not available if they are all alike and not 0.
  """
  array = np.asarray(numbers, np.float64)
  mean, n = float(array.mean()), len(array)
  low = high = p_value = None
  if n > 1:
    error = float(array.std(ddof=1)) / n**0.5
    reach = float(stats.t.ppf(0.975, n - 1)) * error
    low, high = mean - reach, mean + reach
    if error > _ROUNDING:
      p_value = float(2 * stats.t.sf(abs(mean) / error, n - 1))
    elif abs(mean) < _ROUNDING:
      p_value = 1.0
  return {"value": mean, "low": low, "high": high, "p": p_value, "n": n}


def values(member: Member) -> dict[str, float]:
  """Returns the figures that a run has."""
  found = {
    key: figures.find(member.run.metrics, item.path)
    for key, item in figures.FIGURES.items()
  }
  return {key: value for key, value in found.items() if value is not None}


def _setting(
  group: Sequence[Member], baseline: str, num_resamples: int
) -> dict[str, Any]:
  arms = {
    name: {one.seed: one for one in group if one.arm == name}
    for name in dict.fromkeys(one.arm for one in group)
  }
  base = arms.pop(baseline, {})
  draws = _all_draws(group, num_resamples)
  described = {baseline: _describe(base.values())} if base else {}
  for name, runs in arms.items():
    pairs = [(runs[seed], base[seed]) for seed in sorted(runs) if seed in base]
    described[name] = _describe(runs.values()) | {
      "seeds": [one.seed for one, _ in pairs],
      "paired": _paired(pairs, draws),
    }
  return {"gate": _gate(base.values()), "arms": described}


def _describe(runs) -> dict[str, Any]:
  """Returns the means of an arm's figures and its mean histogram."""
  rows = [values(one) for one in runs]
  means = {}
  for key in figures.FIGURES:
    numbers = [row[key] for row in rows if key in row]
    if numbers:
      means[key] = over_seeds(numbers)
      del means[key]["p"]  # of being 0, which nobody asks
  counts = [
    np.asarray(part["histogram"], np.float64)
    for one in runs
    if (part := one.run.metrics.get("similarity"))
  ]
  shares = [count / max(count.sum(), 1) for count in counts]
  histogram = np.mean(shares, axis=0).tolist() if shares else None
  return {"means": means, "histogram": histogram}


def _paired(
  pairs: Sequence[tuple[Member, Member]], draws: _Draws
) -> dict[str, Any]:
  found = {}
  for key in figures.FIGURES:
    both = [
      (one, two)
      for one, two in pairs
      if key in values(one) and key in values(two)
    ]
    if not both:
      continue
    numbers = np.array(
      [[values(one)[key], values(two)[key]] for one, two in both]
    )
    found[key] = {
      "baseline": float(numbers[:, 1].mean()),
      "arm": float(numbers[:, 0].mean()),
      "difference": over_seeds(numbers[:, 0] - numbers[:, 1]),
      "bootstrap": _bootstrap(both, key, draws),
    }
  return found


def _bootstrap(
  pairs: Sequence[tuple[Member, Member]], key: str, draws: _Draws
) -> dict[str, float | None] | None:
  """Returns the interval over patients and seeds; None with a seed alone."""
  if len(pairs) < 2 or any(
    key not in draws[one.run.name] for pair in pairs for one in pair
  ):
    return None
  table = np.stack(
    [draws[one.run.name][key] - draws[two.run.name][key] for one, two in pairs],
    axis=1,
  )  # (R, seeds)
  drawn = np.random.default_rng(_SEED).integers(len(pairs), size=table.shape)
  means = np.take_along_axis(table, drawn, axis=1).mean(axis=1)
  low, high = statistics.interval(means)
  return {"low": low, "high": high}


def _all_draws(
  group: Sequence[Member], num_resamples: int
) -> dict[str, dict[str, np.ndarray]]:
  """Returns the figures of every run in resamples, the same for all runs.

  Raises:
    ValueError: if two runs were scored on different rows.
  """
  found: dict[str, dict[str, np.ndarray]] = {one.run.name: {} for one in group}
  for key in _RESAMPLED:
    first: tuple[str, Any] | None = None
    for one in group:
      made = _draws(one, key, num_resamples)
      if made is None:
        continue
      rows, found[one.run.name][key] = made
      first = first or (one.run.name, rows)
      if rows != first[1]:
        raise ValueError(
          f"runs {first[0]} and {one.run.name} were scored on different rows "
          f"for {figures.FIGURES[key].title}, expected the same"
        )
  return found


def _draws(
  member: Member, key: str, num_resamples: int
) -> tuple[Any, np.ndarray] | None:
  """Returns what was scored and (R,) the figure; None without a file of it."""
  part, name = figures.FIGURES[key].path[:2]
  entry = (member.run.metrics.get(part) or {}).get(name)
  if not entry or not entry.get("scores") or key not in values(member):
    return None
  if not (member.run.directory / Path(entry["scores"]).name).is_file():
    return None
  settings = {"num_resamples": num_resamples, "seed": _SEED}
  if part == "benchmarks":
    scores = member.run.scores(name)
    drawn = bootstrap.ranking_draws(
      scores.truth, scores.scores, scores.patient_ids, **settings
    )
    rows = scores.labels, scores.image_ids, scores.truth.tobytes()
    return rows, metrics.macro_draws(entry["labels"], drawn.values["auroc"])
  items = member.run.grounding(name)
  column = items.values["contrast"][:, METRICS.index(key)]
  names, index = np.unique(items.findings, return_inverse=True)
  table = np.full((len(column), len(names)), np.nan)
  table[np.arange(len(column)), index] = column
  drawn = bootstrap.mean_draws(table, items.patient_ids, **settings)
  rows = items.image_ids, items.findings
  there = np.isin(names, list(grounding_scores.in_macro(items)))
  there &= ~np.isnan(table).all(axis=0)
  return rows, drawn[:, there].mean(axis=1)


def _gate(runs) -> dict[str, Any] | None:
  """Returns whether the baseline's map beats the location prior.

  Models that cannot localise cannot differ in how well they do.

  Returns:
    passed: by the pointing game, its whole interval above 0; and for each prior
    the mean over seeds of the baseline less it, by metric. None without them.
  """
  found: dict[str, Any] = {}
  for prior in _PRIORS:
    for metric in wording.GROUNDING:
      path = "grounding", figures.GROUNDED, f"contrast_{prior}", metric
      numbers = [figures.find(one.run.metrics, path) for one in runs]
      numbers = [number for number in numbers if number is not None]
      if numbers:
        found.setdefault(prior, {})[metric] = over_seeds(numbers)
  decides = found.get("against_prior", {}).get("pointing_game")
  if decides is None:
    return None
  passed = decides["low"] is not None and decides["low"] > 0
  return {"passed": passed, **found}


def _unpaired(
  group: Sequence[Member], baseline: str
) -> list[dict[str, str | int]]:
  """Returns the runs that have no partner, and who it would be."""
  there = {(one.arm, one.seed) for one in group}
  arms = dict.fromkeys(one.arm for one in group if one.arm != baseline)
  missing = []
  for one in group:
    partners = arms if one.arm == baseline else (baseline,)
    missing += [
      {"run": one.run.name, "lacks": f"{one.setting}.{other}.{one.seed}"}
      for other in partners
      if (other, one.seed) not in there
    ]
  return missing
