"""Whether probabilities mean what they say: Platt scaling and its error.

A zero-shot score is no probability. So it is mapped to one by two numbers a
label, fitted on rows that are then refused, and what is measured is how far
such probabilities lie from the frequencies on others.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
from sklearn import linear_model

from tier_jax.evaluators import bootstrap, statistics, thresholds

NUM_BINS = 15
# Of standardised scores: so weak that it only keeps a separable label finite.
_INVERSE_PENALTY = 1e6


@dataclasses.dataclass(frozen=True)
class Calibration:
  """A probability is sigmoid(slope * score + intercept).

  Attributes:
    values: for each label that had both classes, slope and intercept.
    seen: the rows they were fitted on.
  """

  values: Mapping[str, tuple[float, float]]
  seen: thresholds.Seen

  def apply(self, rows: thresholds.Rows) -> np.ndarray:
    """Returns (N, L) float64 probabilities, NaN for labels without a fit.

    Raises:
      ValueError: if they were fitted on one of the rows or patients.
    """
    self.seen.refuse(rows)
    probabilities = np.full(rows.scores.shape, np.nan)
    for i, name in enumerate(rows.labels):
      if name in self.values:
        slope, intercept = self.values[name]
        logits = slope * rows.scores[:, i].astype(np.float64) + intercept
        # tanh, since exp of a large logit would overflow.
        probabilities[:, i] = 0.5 + 0.5 * np.tanh(logits / 2)
    return probabilities


def fit(validation: thresholds.Rows) -> Calibration:
  """Returns the Platt scaling of each label on the validation rows.

  Raises:
    ValueError: if truth holds a value other than 1, 0 and -1, or a counted
      score is not finite.

  Source: Platt 1999, without his smoothed targets.
  """
  values = {}
  for i, name in enumerate(validation.labels):
    truth = validation.truth[:, i]
    counted = statistics.check(truth, validation.scores[:, i])
    if not statistics.has_classes(truth):
      continue
    scores = validation.scores[counted, i].astype(np.float64)
    # Scores of a model lie close together: unscaled, the fit would not end.
    mean, deviation = scores.mean(), scores.std() or 1.0
    model = linear_model.LogisticRegression(C=_INVERSE_PENALTY)
    model.fit((scores[:, None] - mean) / deviation, truth[counted])
    slope = np.asarray(model.coef_).item() / deviation
    intercept = np.asarray(model.intercept_).item() - slope * mean
    values[name] = float(slope), float(intercept)
  return Calibration(values, thresholds.Seen.of(validation))


def expected_error(
  truth: np.ndarray, probabilities: np.ndarray
) -> tuple[float | None, list[dict[str, Any]]]:
  """Returns the expected calibration error and the reliability curve.

  Args:
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    probabilities: (N, L) in [0, 1], NaN not counted either. All counted cells
      are pooled: for one label, pass that column alone.

  Returns:
    The mean over cells of |mean probability - frequency| of the cell's bin,
    None when nothing is counted; and `NUM_BINS` equal bins: low, high, count,
    confidence (mean probability) and frequency, both None in an empty bin.

  Raises:
    ValueError: if shapes differ or a probability is outside [0, 1].

  Source: Naeini et al. 2015.
  """
  counts, confidences, frequencies = _cells(truth, probabilities).sum(axis=0)
  bins = []
  for i, count in enumerate(counts.astype(int).tolist()):
    bins.append(
      {
        "low": i / NUM_BINS,
        "high": (i + 1) / NUM_BINS,
        "count": count,
        "confidence": float(confidences[i] / count) if count else None,
        "frequency": float(frequencies[i] / count) if count else None,
      }
    )
  if not counts.any():
    return None, bins
  error = np.abs(confidences - frequencies).sum() / counts.sum()
  return float(error), bins


def summarise(
  calibration: Calibration,
  test: thresholds.Rows,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any] | None:
  """Returns the error of the calibrated test rows, as metrics.json holds it.

  In a resample the error is larger than on all rows, as chance moves the
  frequencies further from the probabilities. So the draws are reflected at the
  value (the basic bootstrap interval), cut off at 0, and the interval widened
  where it would not hold the value. The value itself is too high by chance as
  well, most where rows are few and the calibration good: there even this
  interval lies above the error that endless rows would show.

  Returns:
    ece (value, low, high) and bins, as `expected_error` gives them over all
    labels; None when no label was fitted or none is counted.

  Raises:
    ValueError: if it was fitted on one of the rows or patients.
  """
  probabilities = calibration.apply(test)
  error, bins = expected_error(test.truth, probabilities)
  if error is None:
    return None
  index, num_patients = bootstrap.number_patients(
    test.patient_ids, len(test.truth)
  )
  cells = _cells(test.truth, probabilities).reshape(len(test.truth), -1)
  table = bootstrap.sum_by_patient(cells, index, num_patients)

  def column(counts: np.ndarray) -> np.ndarray:
    sums = (table @ counts).reshape(3, NUM_BINS, -1)
    gaps = np.abs(sums[1] - sums[2]).sum(axis=0)
    with np.errstate(invalid="ignore"):  # a resample of rows not counted
      return (gaps / sums[0].sum(axis=0))[None]

  draws = bootstrap.resample(
    [column], ("ece",), num_patients, num_resamples, seed
  )
  low, high = statistics.interval(draws.values["ece"][:, 0])
  if low is not None and high is not None:
    low, high = max(0.0, 2 * error - high), 2 * error - low
    low, high = min(low, error), max(high, error)
  return {"ece": {"value": error, "low": low, "high": high}, "bins": bins}


def _cells(truth: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
  """Returns (N, 3, B): each row's count, sum of probabilities and of truths."""
  if truth.shape != probabilities.shape or truth.ndim != 2:
    raise ValueError(
      f"truth is {truth.shape}, probabilities {probabilities.shape}; expected "
      "the same (N, L)"
    )
  counted = (truth != -1) & ~np.isnan(probabilities)
  rows, shown, stated = (
    np.nonzero(counted)[0],
    probabilities[counted],
    truth[counted],
  )
  if not ((shown >= 0) & (shown <= 1)).all():
    raise ValueError("probabilities holds a number outside [0, 1]")
  # A probability of 1 belongs to the last bin.
  bins = np.minimum((shown * NUM_BINS).astype(int), NUM_BINS - 1)
  place = rows * NUM_BINS + bins
  sums = [
    np.bincount(place, weights, len(truth) * NUM_BINS)
    for weights in (np.ones(len(rows)), shown, stated)
  ]
  return np.stack(sums).reshape(3, len(truth), NUM_BINS).transpose(1, 0, 2)
