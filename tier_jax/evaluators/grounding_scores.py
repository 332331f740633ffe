"""Scores of grounding, item by item: figures of a run, of two, and a file.

No model is needed, so that runs are compared from what they wrote.
"""

import csv
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import bootstrap, statistics
from tier_jax.evaluators.grounding_metrics import METRICS, SUMMARY

# How an item was pointed at; `grounding` says what each is.
ASKED = ("phrase", "token", "contrast")  # of the model
MAPS = (*ASKED, "prior", "prior_of_phrase", "random")

_ID_COLUMNS = ("image_id", "patient_id", "finding")


@dataclasses.dataclass(frozen=True)
class Scores:
  """METRICS of N items under each of MAPS.

  Attributes:
    image_ids, patient_ids: N hashed ids.
    findings: N names.
    values: map -> (N, len(METRICS)) float64, NaN where there is no such map or
      the metric is not defined.
  """

  image_ids: tuple[str, ...]
  patient_ids: tuple[str, ...]
  findings: tuple[str, ...]
  values: Mapping[str, np.ndarray]


def summarise(
  scores: Scores,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns mean scores with 95 % intervals, as metrics.json holds them.

  Returns:
    maps: for each of ASKED, and beside it prior, prior_of_phrase and
      random: rows, macro (the mean over findings of each metric's mean) and
      findings (rows and the mean of each); None for a map that is not there.
    without_prior: findings that have no prior while others have. They count
      towards no macro, so that all macros are over the same items.
    against_prior, against_prior_of_phrase: macro of the paired differences of
      the phrase's map to each prior; with "token_" and "contrast_" before, of
      the others. None without a prior.
  """

  def figures(values, metrics=METRICS):
    return _figures(
      values, scores, metrics, num_resamples=num_resamples, seed=seed
    )

  parts = {name: figures(scores.values[name]) for name in MAPS}
  against = {}
  for name in ASKED:
    prefix = "" if name == "phrase" else f"{name}_"
    for prior in ("prior", "prior_of_phrase"):
      part = figures(scores.values[name] - scores.values[prior], SUMMARY)
      against[f"{prefix}against_{prior}"] = part and part["macro"]
  return {
    "maps": {name: parts[name] for name in ASKED},
    **{name: parts[name] for name in MAPS[len(ASKED) :]},
    "without_prior": sorted(set(scores.findings) - in_macro(scores)),
    **against,
  }


def difference(
  first: Scores,
  second: Scores,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns first - second over the items of both, with intervals.

  Models of different image size may see different items: a box can lie outside
  of one crop alone.

  Returns:
    Each of ASKED: rows, macro and findings, as in `summarise`, or None without
    an item; left_out, how many items only one of the two has.
  """
  one, two = (_places(scores) for scores in (first, second))
  shared = [key for key in one if key in two]
  first = _take(first, [one[key] for key in shared])
  second = _take(second, [two[key] for key in shared])
  parts = {
    name: _figures(
      first.values[name] - second.values[name],
      first,
      SUMMARY,
      num_resamples=num_resamples,
      seed=seed,
    )
    for name in ASKED
  }
  return {**parts, "left_out": len(one) + len(two) - 2 * len(shared)}


def _places(scores: Scores) -> dict[tuple[str, str, str], int]:
  """Returns the row of each item by its image, patient and finding."""
  ids = zip(scores.image_ids, scores.patient_ids, scores.findings, strict=True)
  return {key: i for i, key in enumerate(ids)}


def _take(scores: Scores, rows: Sequence[int]) -> Scores:
  """Returns the items of some rows, in their order."""
  return Scores(
    image_ids=tuple(scores.image_ids[i] for i in rows),
    patient_ids=tuple(scores.patient_ids[i] for i in rows),
    findings=tuple(scores.findings[i] for i in rows),
    values={name: values[list(rows)] for name, values in scores.values.items()},
  )


def write(path: Path, scores: Scores) -> None:
  """Writes one row an item: ids, finding, then each map's METRICS.

  Numbers are written so that reading gives the same; NaN is a blank.
  """
  with path.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(_header())
    table = np.concatenate([scores.values[name] for name in MAPS], axis=1)
    for i, row in enumerate(table.tolist()):
      cells = ["" if np.isnan(value) else repr(value) for value in row]
      ids = scores.image_ids[i], scores.patient_ids[i], scores.findings[i]
      writer.writerow([*ids, *cells])


def read(path: Path) -> Scores:
  """Returns what `write` wrote.

  Raises:
    ValueError: if the file is missing, or its columns or cells are others.
  """
  if not path.is_file():
    raise ValueError(f"{path} is missing, expected the scores of grounding")
  with path.open(encoding="utf-8", newline="") as file:
    header, *rows = list(csv.reader(file)) or [[]]
  if header != _header() or any(len(row) != len(header) for row in rows):
    raise ValueError(
      f"{path.name}: expected the columns {', '.join(_ID_COLUMNS)} and the "
      f"metrics of {', '.join(MAPS)}"
    )
  try:
    cells = [[float(cell or "nan") for cell in row[3:]] for row in rows]
  except ValueError as error:
    raise ValueError(f"{path.name}: a metric is no number") from error
  table = np.array(cells).reshape(len(rows), len(MAPS), len(METRICS))
  if np.isinf(table).any():
    raise ValueError(f"{path.name}: a metric is infinite")
  return Scores(
    image_ids=tuple(row[0] for row in rows),
    patient_ids=tuple(row[1] for row in rows),
    findings=tuple(row[2] for row in rows),
    values={name: table[:, i] for i, name in enumerate(MAPS)},
  )


def _header() -> list[str]:
  names = [f"{name} {metric}" for name in MAPS for metric in METRICS]
  return [*_ID_COLUMNS, *names]


def _figures(
  values: np.ndarray,
  scores: Scores,
  metrics: Sequence[str],
  *,
  num_resamples: int,
  seed: int,
) -> dict[str, Any] | None:
  """Returns rows, macro and findings of (N, len(METRICS)) values.

  Each item counts in the column of its finding; a metric that none of a
  finding's items has is left out there and in the macro. In that count only
  findings that have a prior, if any have.
  """
  rows = ~np.isnan(values).all(axis=1)
  if not rows.any():
    return None
  names, index = np.unique(scores.findings, return_inverse=True)
  table = np.full((len(values), len(names), len(metrics)), np.nan)
  table[np.arange(len(values)), index] = values[:, : len(metrics)]
  counted = ~np.isnan(table)
  counts = counted.sum(axis=0)  # (F, M)
  sums = np.where(counted, table, 0).sum(axis=0)
  means = np.where(counts, sums / np.maximum(counts, 1), np.nan)
  draws = bootstrap.mean_draws(
    table.reshape(len(values), -1),
    scores.patient_ids,
    num_resamples=num_resamples,
    seed=seed,
  ).reshape(num_resamples, *means.shape)

  findings = {}
  for f, name in enumerate(names.tolist()):
    findings[name] = {"rows": int((rows & (index == f)).sum())}
    for m, metric in enumerate(metrics):
      if metric in SUMMARY:
        value = float(means[f, m]) if counts[f, m] else None
        findings[name][metric] = statistics.estimate(value, draws[:, f, m])
  macro = {}
  in_mean = np.isin(names, list(in_macro(scores)))
  for m, metric in enumerate(metrics):
    there = in_mean & (counts[:, m] > 0)
    macro[metric] = statistics.estimate(
      float(means[there, m].mean()) if there.any() else None,
      draws[:, there, m].mean(axis=1) if there.any() else draws[:0, 0, m],
    )
  return {"rows": int(rows.sum()), "macro": macro, "findings": findings}


def in_macro(scores: Scores) -> set[str]:
  """Returns the findings that have a prior or, if none has, all of them."""
  known = ~np.isnan(scores.values["prior"]).all(axis=1)
  names = np.array(scores.findings)
  return set((names[known] if known.any() else names).tolist())
