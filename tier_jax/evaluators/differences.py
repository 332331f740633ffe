"""Two evaluated runs, compared over the same patients."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tier_jax.evaluators import (
  bootstrap,
  comparisons,
  grounding_scores,
  metrics,
  runs,
  zero_shot,
)


def benchmark(first: runs.Run, second: runs.Run, name: str) -> dict[str, Any]:
  """Returns first - second of every AUROC of a benchmark.

  Returns:
    macro: value, low, high and p of the paired bootstrap over patients; labels:
      for each value, low and high of that, p of DeLong's test, and p_holm, that
      adjusted by Holm over the labels. None where not available.

  Raises:
    ValueError: if the two runs were not scored on the same rows and truth, or
      a file is not the one that was evaluated.
  """
  one, two = first.scores(name), second.scores(name)
  _check_same(first, second, name, one, two)
  settings = first.metrics["bootstrap"]
  draws = [
    bootstrap.ranking_draws(
      scores.truth,
      scores.scores,
      scores.patient_ids,
      num_resamples=settings["num_resamples"],
      seed=settings["seed"],
    ).values["auroc"]
    for scores in (one, two)
  ]
  entries = [run.metrics["benchmarks"][name] for run in (first, second)]
  labels: dict[str, dict[str, Any] | None] = {}
  for i, label in enumerate(one.labels):
    areas = [entry["labels"][label]["auroc"] for entry in entries]
    if areas[0] is None:
      labels[label] = None
      continue
    paired = comparisons.paired(
      *(area["value"] for area in areas), *(values[:, i] for values in draws)
    )
    test = comparisons.delong(
      one.truth[:, i], one.scores[:, i], two.scores[:, i], one.patient_ids
    )
    labels[label] = _json(paired) | {"p": test and test.p_value}
  known = [item for item in labels.values() if item]
  adjusted = comparisons.holm([item["p"] for item in known])
  for item, p_value in zip(known, adjusted, strict=True):
    item["p_holm"] = p_value
  macros = [entry["macro_auroc"]["value"] for entry in entries]
  macro = None
  if macros[0] is not None:
    macro = _json(
      comparisons.paired(
        *macros,
        *(
          metrics.macro_draws(entry["labels"], values)
          for entry, values in zip(entries, draws, strict=True)
        ),
      )
    )
  return {"macro": macro, "labels": labels}


def of_runs(pair: Sequence[runs.Run]) -> dict[str, dict[str, Any]]:
  """Returns the difference of exactly two runs a benchmark; else nothing.

  Raises:
    ValueError: as `benchmark`.
  """
  return {
    name: benchmark(pair[0], pair[1], name)
    for name in _shared(pair, "benchmarks")
  }


def grounding(pair: Sequence[runs.Run]) -> dict[str, dict[str, Any]]:
  """Returns what `grounding_scores.difference` gives of exactly two runs.

  Raises:
    ValueError: if they were scored on different items.
  """
  settings = pair[0].metrics["bootstrap"] if pair else {}
  return {
    name: grounding_scores.difference(
      *(run.grounding(name) for run in pair),
      num_resamples=settings["num_resamples"],
      seed=settings["seed"],
    )
    for name in _shared(pair, "grounding")
  }


def _shared(pair: Sequence[runs.Run], section: str) -> list[str]:
  """Returns the keys that both of two runs have in a section."""
  if len(pair) != 2:
    return []
  first, second = (run.metrics.get(section) or {} for run in pair)
  return [name for name in first if name in second]


def _check_same(
  first: runs.Run,
  second: runs.Run,
  name: str,
  one: zero_shot.Scores,
  two: zero_shot.Scores,
) -> None:
  same = (
    one.labels == two.labels
    and one.image_ids == two.image_ids
    and one.patient_ids == two.patient_ids
    and np.array_equal(one.truth, two.truth)
  )
  if not same:
    raise ValueError(
      f"benchmark {name!r}: {first.name!r} and {second.name!r} were "
      "scored on different images, labels or truths; expected the same"
    )


def _json(difference: comparisons.Difference) -> dict[str, Any]:
  values: Mapping[str, Any] = dataclasses.asdict(difference)
  return {
    "value": values["value"],
    "low": values["low"],
    "high": values["high"],
    "p": values["p_value"],
  }
