"""Radiologists beside models: their tables, and where they stand on a ROC.

A table is a CSV with the column "Study" and one column a label, found by name,
since the files of one test set order them differently.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import bootstrap, statistics, thresholds

ID_COLUMN = "Study"
MEAN = "mean reader"
_ROUNDING = 1e-12  # of 1 - specificity, by which a vertical stretch is missed
_MAX_BYTES = 64 * 2**20  # some 500,000 studies: a table of readers is no larger

_Figures = Mapping[str, Mapping[str, Any] | None]  # of a reader, by label


def read(
  path: Path, labels: Sequence[str]
) -> tuple[tuple[str, ...], np.ndarray]:
  """Returns the studies of a table, and N x L numbers, its columns by name.

  Args:
    path: a CSV of calls (0 and 1), of truth, or of any model's scores.
    labels: L names; other columns are ignored.

  Returns:
    N names of studies as the file has them, and (N, L) float64.

  Raises:
    ValueError: if the file is missing, too large or no CSV; a column is
      missing or there twice; a study is there twice; or a cell of a label is
      no finite number.
  """
  if not path.is_file():
    raise ValueError(f"{path} is missing, expected a table of studies")
  if path.stat().st_size > _MAX_BYTES:
    raise ValueError(f"{path.name} is larger than {_MAX_BYTES >> 20} MiB")
  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      header, *rows = list(csv.reader(file, strict=True)) or [[]]
  except (csv.Error, UnicodeDecodeError) as error:
    raise ValueError(f"{path.name} is no CSV in UTF-8: {error}") from error
  for name in (ID_COLUMN, *labels):
    if header.count(name) != 1:
      raise ValueError(
        f"{path.name} has {header.count(name)} columns {name!r}, expected one"
      )
  places = [header.index(name) for name in labels]
  values = np.empty((len(rows), len(labels)))
  for number, row in enumerate(rows, 2):
    if len(row) != len(header):
      raise ValueError(
        f"{path.name}, row {number} has {len(row)} cells, expected "
        f"{len(header)}"
      )
    for k, place in enumerate(places):
      values[number - 2, k] = _number(row[place], path, number, labels[k])
  studies = tuple(row[header.index(ID_COLUMN)] for row in rows)
  if len(set(studies)) != len(studies):
    raise ValueError(
      f"{path.name} has {len(studies) - len(set(studies))} rows of studies "
      "that are there already, expected one row a study"
    )
  return studies, values


def align(
  studies: Sequence[str], values: np.ndarray, wanted: Sequence[str]
) -> np.ndarray:
  """Returns the rows of `values` in the order of the `wanted` studies.

  Raises:
    ValueError: if one of them has no row.
  """
  place = {study: i for i, study in enumerate(studies)}
  missing = sum(study not in place for study in wanted)
  if missing:
    raise ValueError(
      f"{missing} of {len(wanted)} studies have no row, expected all"
    )
  return values[[place[study] for study in wanted]]


def summarise(
  labels: Sequence[str],
  truth: np.ndarray,
  calls: Mapping[str, np.ndarray],
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, dict[str, dict[str, Any] | None]]:
  """Returns each reader's figures a label, as metrics.json holds them.

  Args:
    labels: L names.
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    calls: for each reader (N, L) 1 called, 0 not called.
    patients: N ids; what is resampled.
    num_resamples: 0 for no intervals.
    seed: of the resampling; with that of a model's figures, both are paired.

  Returns:
    For each reader and label f1, mcc, sensitivity and specificity (value, low,
    high); None for a label that lacks a class.

  Raises:
    ValueError: if shapes differ or a call is neither 0 nor 1.
  """
  summary = {}
  for reader, called in calls.items():
    if not np.isin(called, (0, 1)).all():
      raise ValueError(f"reader {reader!r} has calls other than 0 and 1")
    figures = thresholds.calls_summary(
      truth, called, patients, num_resamples=num_resamples, seed=seed
    )
    summary[reader] = dict(zip(labels, figures, strict=True))
  return summary


def beside_curve(
  figures: Mapping[str, _Figures] | None, rows: thresholds.Rows
) -> dict[str, _Figures] | None:
  """Returns readers' figures with where each stands to a model's ROC curve.

  Args:
    figures: as `summarise` returns them; None gives None.
    rows: the same studies as the model scored them, in any order.

  Returns:
    The figures, and with them model_sensitivity, the curve's at the reader's
    specificity, between its points on a straight line, and below, whether the
    reader's is less. Of two readers or more also MEAN, their mean point:
    sensitivity and specificity without an interval, and these two.
  """
  if figures is None:
    return None
  found: dict[str, dict[str, Mapping[str, Any] | None]]
  found = {reader: dict(labels) for reader, labels in figures.items()}
  if len(found) > 1:
    found[MEAN] = _mean(list(figures.values()))
  for i, label in enumerate(rows.labels):
    truth = rows.truth[:, i]
    if not statistics.has_classes(truth):
      continue
    alarms, hits = statistics.roc_curve(truth, rows.scores[:, i])
    for labels in found.values():
      item = labels.get(label)
      if item is None:
        continue
      level = _height(alarms, hits, 1 - item["specificity"]["value"])
      below = item["sensitivity"]["value"] < level
      labels[label] = {**item, "model_sensitivity": level, "below": below}
  return {**found}


def _mean(
  readers: Sequence[_Figures],
) -> dict[str, Mapping[str, Any] | None]:
  """Returns for each label the mean point of all readers."""
  means: dict[str, Mapping[str, Any] | None] = {}
  for label in readers[0]:
    items = [item for labels in readers if (item := labels[label])]
    means[label] = None
    if len(items) == len(readers):
      means[label] = {
        rate: {
          "value": float(np.mean([item[rate]["value"] for item in items])),
          "low": None,
          "high": None,
        }
        for rate in ("sensitivity", "specificity")
      }
  return means


def _height(alarms: np.ndarray, hits: np.ndarray, at: float) -> float:
  """Returns the curve's height, at a vertical stretch its upper end."""
  place = int(np.searchsorted(alarms, at + _ROUNDING, "right"))
  if place == len(alarms):
    return float(hits[-1])
  left, right = alarms[place - 1], alarms[place]
  share = max((at - left) / (right - left), 0.0)
  return float(hits[place - 1] + share * (hits[place] - hits[place - 1]))


def _number(cell: str, path: Path, row: int, label: str) -> float:
  try:
    value = float(cell)
  except ValueError:
    value = np.nan
  if not np.isfinite(value):
    raise ValueError(
      f"{path.name}, row {row}, column {label!r} is no finite number"
    )
  return value
