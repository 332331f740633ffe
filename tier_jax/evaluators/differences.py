"""Two evaluated runs, compared over the same patients."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tier_jax.evaluators import (
  bootstrap,
  comparisons,
  digests,
  grounding_scores,
  metrics,
  protocols,
  runs,
  zero_shot,
)


class IncomparableError(ValueError):
  """Two runs whose difference would say nothing of the models."""


def benchmark(first: runs.Run, second: runs.Run, name: str) -> dict[str, Any]:
  """Returns first - second of every AUROC of a benchmark.

  Returns:
    macro: value, low, high and p of the paired bootstrap over patients; labels:
      for each value, low and high of that, p of DeLong's test, and p_holm, that
      adjusted by Holm over the labels. None where not available.

  Raises:
    IncomparableError: if the two runs were not scored alike, or not on the same
      rows and truth.
    ValueError: if a file is not the one that was evaluated.
  """
  _check_alike(first, second, "benchmarks", name)
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


def grounding(first: runs.Run, second: runs.Run, name: str) -> dict[str, Any]:
  """Returns what `grounding_scores.difference` gives for a dataset.

  Raises:
    IncomparableError: if the two runs were not scored alike.
    ValueError: if a file is not the one that was evaluated.
  """
  _check_alike(first, second, "grounding", name)
  settings = first.metrics["bootstrap"]
  return grounding_scores.difference(
    first.grounding(name),
    second.grounding(name),
    num_resamples=settings["num_resamples"],
    seed=settings["seed"],
  )


def of_runs(pair: Sequence[runs.Run]) -> dict[str, dict[str, Any]]:
  """Returns the differences of exactly two runs; of others none.

  Returns:
    benchmarks, grounding: by name, as the functions of these names give them.
    refused: of each of the two by name, why there is no difference.

  Raises:
    ValueError: if a file is not the one that was evaluated.
  """
  found: dict[str, dict[str, Any]] = {}
  refused: dict[str, dict[str, str]] = {}
  for section, compare in (("benchmarks", benchmark), ("grounding", grounding)):
    found[section], refused[section] = {}, {}
    for name in _shared(pair, section):
      try:
        found[section][name] = compare(pair[0], pair[1], name)
      except IncomparableError as error:
        refused[section][name] = str(error)
  return {**found, "refused": refused}


def to_json(
  pair: Sequence[runs.Run], deltas: Mapping[str, Mapping[str, Any]]
) -> str:
  """Returns what `of_runs` gave as JSON, with the digests of what it is of."""
  metrics_sha256 = {
    run.name: digests.of_file(run.directory / "metrics.json") for run in pair
  }
  facts = {"metrics_sha256": metrics_sha256, **deltas}
  return json.dumps(facts, indent=2, allow_nan=False) + "\n"


def _shared(pair: Sequence[runs.Run], section: str) -> list[str]:
  """Returns the keys that both of two runs have in a section."""
  if len(pair) != 2:
    return []
  first, second = (run.metrics.get(section) or {} for run in pair)
  return [name for name in first if name in second]


def _check_alike(
  first: runs.Run, second: runs.Run, section: str, name: str
) -> None:
  entries = [(run, run.metrics[section][name]) for run in (first, second)]
  found = protocols.unlike(*entries, prompts=True)
  if found:
    raise IncomparableError(f"{first.name} and {second.name} differ in {found}")


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
    raise IncomparableError(
      f"{first.name} and {second.name} were scored on different images, labels "
      f"or truths of {name}"
    )


def _json(difference: comparisons.Difference) -> dict[str, Any]:
  values: Mapping[str, Any] = dataclasses.asdict(difference)
  return {
    "value": values["value"],
    "low": values["low"],
    "high": values["high"],
    "p": values["p_value"],
  }
