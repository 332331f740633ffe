"""AUROC and its interval: numpy and scipy only, no model, no file.

Truth is an int8 array of 1 (present), 0 (absent) and -1 (not counted). The
bootstrap resamples patients, since images of one patient are not independent.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import stats

# Under a fair chance of 1/e of missing a patient, a label is redrawn this
# often with probability below 1e-19: reaching it means a bug.
_MAX_ROUNDS = 100


@dataclasses.dataclass(frozen=True)
class Bootstrap:
  """AUROC of every label in every resample of the patients.

  Attributes:
    values: (R, L) float64, NaN where a label lacks a class altogether.
    redrawn: (L,) int64, resamples drawn anew because they lacked a class.
  """

  values: np.ndarray
  redrawn: np.ndarray


def auroc(truth: np.ndarray, scores: np.ndarray) -> float | None:
  """Returns the area under the ROC curve, ties counted half.

  Args:
    truth: (N,) 1 present, 0 absent, -1 not counted.
    scores: (N,) higher means more likely present.

  Returns:
    The area in [0, 1], or None when the truth lacks one of the classes.

  Raises:
    ValueError: if the shapes differ, truth holds another value, or a counted
      score is not finite.

  Source: Hanley and McNeil 1982, the Mann-Whitney form.
  """
  truth, scores = _counted(truth, scores)
  positives = int(np.count_nonzero(truth))
  negatives = len(truth) - positives
  if not positives or not negatives:
    return None
  ranks = stats.rankdata(scores)
  wins = ranks[truth == 1].sum() - positives * (positives + 1) / 2
  return float(wins / (positives * negatives))


def macro(values: Sequence[float | None]) -> tuple[float | None, int]:
  """Returns the mean of the available values and how many there were."""
  available = [value for value in values if value is not None]
  if not available:
    return None, 0
  return float(np.mean(available)), len(available)


def roc_curve(
  truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns false and true positive rates, one point per distinct score.

  Args:
    truth: (N,) 1 present, 0 absent, -1 not counted.
    scores: (N,) higher means more likely present.

  Returns:
    false_positive_rate, true_positive_rate: (K,) from (0, 0) to (1, 1).

  Raises:
    ValueError: if the truth lacks a class, or as in `auroc`.
  """
  truth, scores = _counted(truth, scores)
  positives = int(np.count_nonzero(truth))
  negatives = len(truth) - positives
  if not positives or not negatives:
    raise ValueError(
      f"truth holds {positives} positives and {negatives} negatives, "
      "expected both classes"
    )
  order = np.argsort(-scores, kind="stable")
  last_of_tie = np.append(
    np.flatnonzero(np.diff(scores[order])), len(order) - 1
  )
  hits = np.cumsum(truth[order])[last_of_tie]
  alarms = last_of_tie + 1 - hits
  return (
    np.concatenate([[0.0], alarms / negatives]),
    np.concatenate([[0.0], hits / positives]),
  )


def bootstrap(
  truth: np.ndarray,
  scores: np.ndarray,
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = 2000,
  seed: int = 0,
) -> Bootstrap:
  """Returns AUROCs under resampling of patients with replacement.

  One resample serves all labels, so that row r may be averaged to a macro
  value; only a label that lacks a class in it is drawn again, by itself. Which
  patients are drawn depends on the truth, the patients and the seed, never on
  the scores: two models scored on the same rows are paired row by row.

  Args:
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    scores: (N, L).
    patients: N ids; rows with equal ids are drawn together.
    num_resamples: R.
    seed: of the resampling.

  Raises:
    ValueError: if shapes differ or a counted score is not finite.
  """
  if len(patients) != len(truth):
    raise ValueError(f"{len(patients)} patients, expected {len(truth)}")
  _, patient_index = np.unique(np.asarray(patients), return_inverse=True)
  num_patients = int(patient_index.max()) + 1 if len(patient_index) else 0
  num_labels = truth.shape[1]
  columns: dict[int, _Column] = {}
  for i in range(num_labels):
    column = _Column.make(truth[:, i], scores[:, i], patient_index)
    if column is not None:
      columns[i] = column
  values = np.full((num_resamples, num_labels), np.nan)
  redrawn = np.zeros(num_labels, np.int64)
  available = np.isin(np.arange(num_labels), list(columns))
  pending = np.tile(available, (num_resamples, 1))
  rng = np.random.default_rng(seed)
  for _ in range(_MAX_ROUNDS):
    for row in np.flatnonzero(pending.any(axis=1)):
      drawn = rng.integers(num_patients, size=num_patients)
      counts = np.bincount(drawn, minlength=num_patients)
      for i in np.flatnonzero(pending[row]).tolist():
        values[row, i] = columns[i].auroc(counts)
    pending = available & np.isnan(values)
    redrawn += pending.sum(axis=0)
    if not pending.any():
      return Bootstrap(values, redrawn)
  raise RuntimeError("a label lacked a class in every resample drawn")


def interval(
  values: np.ndarray, level: float = 0.95
) -> tuple[float | None, float | None]:
  """Returns the percentile interval of (R,) values; None, None if any is NaN.

  Two Nones also when there are no values.
  """
  if not len(values) or np.isnan(values).any():
    return None, None
  tail = 100 * (1 - level) / 2
  low, high = np.percentile(values, [tail, 100 - tail])
  return float(low), float(high)


@dataclasses.dataclass(frozen=True)
class _Column:
  """One label's scores, sorted once, so that a resample only adds weights.

  Attributes:
    negatives: (M,) patient of each negative row, in the order of the scores.
    positives: (K,) patient of each positive row.
    below, upto: (K,) how many negatives score below, and not above, each.
  """

  negatives: np.ndarray
  positives: np.ndarray
  below: np.ndarray
  upto: np.ndarray

  @classmethod
  def make(
    cls, truth: np.ndarray, scores: np.ndarray, patient_index: np.ndarray
  ) -> "_Column | None":
    _counted(truth, scores)  # for its checks
    positive = truth == 1
    negative = np.flatnonzero(truth == 0)
    if not positive.any() or not len(negative):
      return None
    negative = negative[np.argsort(scores[negative], kind="stable")]
    below = np.searchsorted(scores[negative], scores[positive], "left")
    upto = np.searchsorted(scores[negative], scores[positive], "right")
    return cls(patient_index[negative], patient_index[positive], below, upto)

  def auroc(self, counts: np.ndarray) -> float:
    """Returns the AUROC with each patient's rows counted `counts` times."""
    weights = counts[self.positives]
    total = np.zeros(len(self.negatives) + 1, np.int64)
    np.cumsum(counts[self.negatives], out=total[1:])
    pairs = 2 * int(weights.sum()) * int(total[-1])
    if not pairs:
      return np.nan
    return float(weights @ (total[self.below] + total[self.upto])) / pairs


def _counted(
  truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the rows with a stated truth, after checking both arrays."""
  truth, scores = np.asarray(truth), np.asarray(scores)
  if truth.shape != scores.shape or truth.ndim != 1:
    raise ValueError(
      f"truth is {truth.shape}, scores {scores.shape}; expected the same (N,)"
    )
  if not np.isin(truth, (1, 0, -1)).all():
    raise ValueError("truth holds a value other than 1, 0 and -1")
  counted = truth != -1
  if not np.isfinite(scores[counted]).all():
    raise ValueError("scores holds a value that is not finite")
  return truth[counted], scores[counted]
