"""Whether two models differ: DeLong, paired bootstrap, Holm. No model, no file.

DeLong's test is per label and asks nothing of the number of resamples; the
paired bootstrap also serves macro values and any other figure. Both keep a
patient's images together.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

from tier_jax.evaluators import bootstrap, statistics

_Z = float(stats.norm.ppf(0.975))
# Of squares of sums of numbers near 1 that should cancel: rounding alone.
_NO_VARIANCE = 1e-24


@dataclasses.dataclass(frozen=True)
class Difference:
  """First minus second.

  Attributes:
    value: of the figure.
    low, high: the 95 % interval; None when not available.
    p_value: two-sided, of no difference; None when not available.
  """

  value: float
  low: float | None
  high: float | None
  p_value: float | None


def auroc_covariance(
  truth: np.ndarray,
  scores: np.ndarray,
  patients: Sequence[str] | np.ndarray,
) -> tuple[np.ndarray, np.ndarray] | None:
  """Returns AUROCs of M models on the same rows, and their covariance.

  Args:
    truth: (N,) 1 present, 0 absent, -1 not counted.
    scores: (N, M) higher means more likely present.
    patients: N ids; rows with equal ids are taken to depend on each other.

  Returns:
    areas (M,) and covariance (M, M); None when fewer than two patients have a
    positive row, or fewer than two a negative one.

  Raises:
    ValueError: if shapes differ or a counted score is not finite.

  Source: DeLong et al. 1988, by ranks as in Sun and Xu 2014; over patients
  with several rows as in Obuchowski 1997, which is DeLong's where each has one.
  """
  truth, scores = np.asarray(truth), np.asarray(scores)
  if scores.ndim != 2:
    raise ValueError(f"scores is {scores.shape}, expected (N, M)")
  index, _ = bootstrap.number_patients(patients, len(truth))
  for column in scores.T:
    statistics.check(truth, column)
  # A patient of whom no row is counted is none.
  counted = truth != -1
  truth, scores = truth[counted], scores[counted]
  index, num_patients = bootstrap.number_patients(index[counted], len(truth))
  positive, negative = truth == 1, truth == 0
  num_positives, num_negatives = positive.sum(), negative.sum()
  with_positive = len(np.unique(index[positive]))
  with_negative = len(np.unique(index[negative]))
  if with_positive < 2 or with_negative < 2:
    return None
  # The share of negatives that each positive beats, and of positives that
  # each negative loses to, ties counted half.
  hits, alarms = scores[positive], scores[negative]
  ranks = stats.rankdata(np.concatenate([hits, alarms]), axis=0)
  beats = ranks[:num_positives] - stats.rankdata(hits, axis=0)
  loses = ranks[num_positives:] - stats.rankdata(alarms, axis=0)
  beats = beats / num_negatives  # (m, M)
  loses = 1 - loses / num_positives  # (n, M)
  areas = beats.mean(axis=0)
  by_positive, by_negative = (
    bootstrap.sum_by_patient(shares - areas, index[rows], num_patients)
    for shares, rows in ((beats, positive), (loses, negative))
  )  # (M, P)
  cross = by_positive @ by_negative.T * num_patients / (num_patients - 1)
  covariance = (
    by_positive @ by_positive.T / num_positives**2 * _unbiased(with_positive)
    + by_negative @ by_negative.T / num_negatives**2 * _unbiased(with_negative)
    + (cross + cross.T) / (num_positives * num_negatives)
  )
  return areas, covariance


def delong(
  truth: np.ndarray,
  first: np.ndarray,
  second: np.ndarray,
  patients: Sequence[str] | np.ndarray,
) -> Difference | None:
  """Returns the difference of two AUROCs on the same rows, and DeLong's test.

  Args:
    truth, patients: as in `auroc_covariance`.
    first, second: (N,) scores of either model.

  Returns:
    None where `auroc_covariance` is. The p-value is not available when the
    areas differ but no variance is left, as when one score is constant and the
    other perfect.

  Raises:
    ValueError: as `auroc_covariance`.
  """
  estimate = auroc_covariance(truth, np.stack([first, second], 1), patients)
  if estimate is None:
    return None
  areas, covariance = estimate
  value = float(areas[0] - areas[1])
  variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
  if variance < _NO_VARIANCE:
    return Difference(value, value, value, None if value else 1.0)
  error = float(np.sqrt(variance))
  p_value = float(2 * stats.norm.sf(abs(value) / error))
  return Difference(value, value - _Z * error, value + _Z * error, p_value)


def paired(
  first: float,
  second: float,
  first_draws: np.ndarray,
  second_draws: np.ndarray,
) -> Difference:
  """Returns the difference of a figure with its paired bootstrap.

  Args:
    first, second: the figure on all rows.
    first_draws, second_draws: (R,) the figure in each resample; row r of both
      from the same patients, as `bootstrap` gives it for the same truth,
      patients and seed.

  Returns:
    The percentile interval, and twice the share of resamples on the side of 0
    where fewer lie; with R resamples it is never below 2 / (R + 1).

  Raises:
    ValueError: if the draws are not as many.
  """
  if first_draws.shape != second_draws.shape:
    raise ValueError(
      f"draws are {first_draws.shape} and {second_draws.shape}, expected as "
      "many of both"
    )
  draws = first_draws - second_draws
  low, high = statistics.interval(draws)
  p_value = None
  if low is not None:
    fewer = min((draws <= 0).sum(), (draws >= 0).sum())
    p_value = float(min(1.0, 2 * (fewer + 1) / (len(draws) + 1)))
  return Difference(first - second, low, high, p_value)


def holm(p_values: Sequence[float | None]) -> list[float | None]:
  """Returns p-values adjusted for all that are available, in their order.

  Raises:
    ValueError: if one is not in [0, 1].

  Source: Holm 1979, step down.
  """
  known = [i for i, value in enumerate(p_values) if value is not None]
  values = np.array([p_values[i] for i in known], np.float64)
  if not ((values >= 0) & (values <= 1)).all():
    raise ValueError("p_values holds a number outside [0, 1]")
  order = np.argsort(values, kind="stable")
  steps = values[order] * np.arange(len(values), 0, -1)
  adjusted = np.minimum(np.maximum.accumulate(steps), 1.0)
  result: list[float | None] = [None] * len(p_values)
  for place, value in zip(order, adjusted, strict=True):
    result[known[place]] = float(value)
  return result


def _unbiased(count: int) -> float:
  return count / (count - 1)
