"""Thresholds chosen on one set of rows and used on another, never the same.

A threshold that has seen the rows it is judged on flatters its model. So what
is chosen remembers the rows it was chosen on and refuses them, and any image
of their patients.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from tier_jax.evaluators import bootstrap, statistics

MIN_SPECIFICITY = 0.9
KINDS = ("f1", "mcc", "sensitivity")  # what each threshold is best for


class Rows(Protocol):
  """Truth and scores of N rows for L labels, as `zero_shot.Scores` has them."""

  @property
  def labels(self) -> Sequence[str]: ...
  @property
  def image_ids(self) -> Sequence[str]: ...
  @property
  def patient_ids(self) -> Sequence[str]: ...
  @property
  def truth(self) -> np.ndarray: ...
  @property
  def scores(self) -> np.ndarray: ...


@dataclasses.dataclass(frozen=True)
class Seen:
  """The images and patients on which something was chosen."""

  image_ids: frozenset[str]
  patient_ids: frozenset[str]

  @classmethod
  def of(cls, rows: Rows) -> "Seen":
    return cls(frozenset(rows.image_ids), frozenset(rows.patient_ids))

  def refuse(self, rows: Rows) -> None:
    """Raises ValueError if one of the images or patients was seen."""
    images = len(self.image_ids.intersection(rows.image_ids))
    patients = len(self.patient_ids.intersection(rows.patient_ids))
    if images or patients:
      raise ValueError(
        f"{images} images and {patients} patients are among those on which "
        "thresholds or calibration were chosen; expected others"
      )


@dataclasses.dataclass(frozen=True)
class Thresholds:
  """A label is called present when its score is at least its threshold.

  Attributes:
    values: for each of `KINDS`, the threshold of each label that had both
      classes. "f1" and "mcc" maximise that figure; "sensitivity" does so among
      those whose specificity is at least `MIN_SPECIFICITY`.
    seen: the rows they were chosen on.
  """

  values: Mapping[str, Mapping[str, float]]
  seen: Seen

  def apply(self, rows: Rows, kind: str) -> np.ndarray:
    """Returns (N, L) int8 calls, -1 throughout for labels without threshold.

    Raises:
      ValueError: if thresholds were chosen on one of the rows or patients.
    """
    self.seen.refuse(rows)
    known = self.values[kind]
    calls = np.full(rows.scores.shape, -1, np.int8)
    for i, name in enumerate(rows.labels):
      if name in known:
        calls[:, i] = rows.scores[:, i] >= known[name]
    return calls


def choose(validation: Rows) -> Thresholds:
  """Returns the thresholds that serve the validation rows best.

  Of several that do equally well the highest is taken.

  Raises:
    ValueError: if truth holds a value other than 1, 0 and -1, or a counted
      score is not finite.
  """
  values: dict[str, dict[str, float]] = {kind: {} for kind in KINDS}
  for i, name in enumerate(validation.labels):
    thresholds, hits, alarms = statistics.sweep(
      validation.truth[:, i], validation.scores[:, i]
    )
    if not len(hits) or not hits[-1] or not alarms[-1]:
      continue
    # And one above all scores, which calls nothing.
    top = np.nextafter(thresholds[:1], np.inf, dtype=thresholds.dtype)
    thresholds = np.concatenate([top, thresholds])
    hits, alarms = (np.append(0, counts) for counts in (hits, alarms))
    figures = dict(
      zip(
        statistics.CALLS,
        statistics.call_figures(
          np.stack([hits, alarms, hits[-1] - hits, alarms[-1] - alarms])
        ),
        strict=True,
      )
    )
    figures["sensitivity"][figures["specificity"] < MIN_SPECIFICITY] = -1
    for kind in KINDS:
      values[kind][name] = float(thresholds[np.argmax(figures[kind])])
  return Thresholds(values, Seen.of(validation))


def summarise(
  thresholds: Thresholds,
  test: Rows,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, dict[str, Any] | None]:
  """Returns each label's figures at the thresholds, as metrics.json holds them.

  Returns:
    For each label None, when it has no threshold or the test rows lack one of
    its classes; else f1 and mcc, each at its own threshold, and sensitivity
    and specificity at the one for sensitivity (value, low, high); and
    f1_threshold, mcc_threshold and sensitivity_threshold.

  Raises:
    ValueError: if thresholds were chosen on one of the rows or patients.
  """
  figures = {
    kind: calls_summary(
      test.truth,
      thresholds.apply(test, kind),
      test.patient_ids,
      num_resamples=num_resamples,
      seed=seed,
    )
    for kind in KINDS
  }
  result: dict[str, dict[str, Any] | None] = {}
  for i, name in enumerate(test.labels):
    f1, mcc, sensitivity = (figures[kind][i] for kind in KINDS)
    if f1 is None or mcc is None or sensitivity is None:
      result[name] = None
      continue
    result[name] = {
      "f1": f1["f1"],
      "mcc": mcc["mcc"],
      "sensitivity": sensitivity["sensitivity"],
      "specificity": sensitivity["specificity"],
    } | {f"{kind}_threshold": thresholds.values[kind][name] for kind in KINDS}
  return result


def calls_summary(
  truth: np.ndarray,
  calls: np.ndarray,
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> list[dict[str, Any] | None]:
  """Returns the figures of calls for each of L labels, with intervals.

  Args:
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    calls: (N, L) 1 called, 0 not called, -1 not counted either.
    patients: N ids; what is resampled.
    num_resamples: 0 for no intervals.
    seed: of the resampling.

  Returns:
    For each label f1, mcc, sensitivity and specificity (value, low, high), or
    None when what is counted lacks a class.

  Raises:
    ValueError: if shapes differ or a call is another number.
  """
  truth = np.where(calls == -1, -1, truth)
  draws = bootstrap.call_draws(
    truth, calls, patients, num_resamples=num_resamples, seed=seed
  )
  figures: dict[str, Callable[..., float | None]] = {
    "f1": statistics.f1,
    "mcc": statistics.mcc,
    "sensitivity": statistics.sensitivity,
    "specificity": statistics.specificity,
  }
  summary: list[dict[str, Any] | None] = []
  for i in range(truth.shape[1]):
    if not statistics.has_classes(truth[:, i]):
      summary.append(None)
      continue
    summary.append(
      {
        name: statistics.estimate(
          figure(truth[:, i], calls[:, i]), draws.values[name][:, i]
        )
        for name, figure in figures.items()
      }
    )
  return summary
