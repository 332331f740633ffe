"""Figures of scores and of calls against a truth: numpy and scipy only.

Truth is an int8 array of 1 (present), 0 (absent) and -1 (not counted). A call
is 1 (present) or 0. A figure that the truth cannot give is None, never a
number that looks like one.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

CALLS = ("f1", "mcc", "sensitivity", "specificity")  # as call_figures gives


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


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float | None:
  """Returns the mean precision at each positive, equal scores taken together.

  Args and errors are those of `auroc`.

  Returns:
    A value in (0, 1], or None when the truth lacks one of the classes. There
    scikit-learn gives 0 with a warning (no positives) or 1 (no negatives),
    whatever the scores: neither belongs in a macro value.

  Source: the step-wise sum of scikit-learn, without interpolation.
  """
  truth, scores = _counted(truth, scores)
  if not has_classes(truth):
    return None
  _, hits, alarms = sweep(truth, scores)
  gained = np.diff(hits, prepend=0)
  return float(gained @ (hits / (hits + alarms)) / hits[-1])


def f1(truth: np.ndarray, calls: np.ndarray) -> float | None:
  """Returns 2 TP / (2 TP + FP + FN) of (N,) calls.

  None when nothing is present and nothing called, where scikit-learn leaves
  the value to its `zero_division`; 0, as there, when something is.

  Raises:
    ValueError: if the shapes differ or either holds another value.
  """
  return _figure(truth, calls, "f1")


def mcc(truth: np.ndarray, calls: np.ndarray) -> float | None:
  """Returns Matthews' correlation of (N,) calls with the truth, in [-1, 1].

  None when the truth lacks one of the classes. When all calls are alike the
  formula is 0 / 0 and the value 0, as scikit-learn defines it: such calls tell
  nothing.

  Raises:
    ValueError: as in `f1`.
  """
  return _figure(truth, calls, "mcc")


def sensitivity(truth: np.ndarray, calls: np.ndarray) -> float | None:
  """Returns the share of what is present that is called; None if none is.

  Raises:
    ValueError: as in `f1`.
  """
  return _figure(truth, calls, "sensitivity")


def specificity(truth: np.ndarray, calls: np.ndarray) -> float | None:
  """Returns the share of what is absent that is not called; None if none is.

  Raises:
    ValueError: as in `f1`.
  """
  return _figure(truth, calls, "specificity")


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
  _, hits, alarms = sweep(truth, scores)
  if not len(hits) or not hits[-1] or not alarms[-1]:
    positives, negatives = (int(c[-1]) if len(c) else 0 for c in (hits, alarms))
    raise ValueError(
      f"truth holds {positives} positives and {negatives} negatives, "
      "expected both classes"
    )
  return (
    np.concatenate([[0.0], alarms / alarms[-1]]),
    np.concatenate([[0.0], hits / hits[-1]]),
  )


def sweep(
  truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns what each possible threshold calls.

  Args and errors are those of `auroc`.

  Returns:
    thresholds: (K,) the distinct counted scores, from high to low.
    hits, alarms: (K,) int64, positives and negatives that score at least that.
  """
  truth, scores = _counted(truth, scores)
  order = np.argsort(-scores, kind="stable")
  truth, scores = truth[order], scores[order]
  last_of_tie = np.flatnonzero(np.append(np.diff(scores), 1)[: len(scores)])
  hits = np.cumsum(truth, dtype=np.int64)[last_of_tie]
  return scores[last_of_tie], hits, last_of_tie + 1 - hits


def confusion(truth: np.ndarray, calls: np.ndarray) -> np.ndarray:
  """Returns (N, 4) bool: a row is a true positive, false positive, false
  negative or true negative, or, when it is not counted, none of them.

  Raises:
    ValueError: if the shapes differ or either holds another value.
  """
  truth, calls = np.asarray(truth), np.asarray(calls)
  counted = check(truth, calls)
  if not np.isin(calls[counted], (0, 1)).all():
    raise ValueError("calls holds a value other than 1 and 0")
  called = calls == 1
  present, absent = truth == 1, truth == 0
  return np.stack(
    [present & called, absent & called, present & ~called, absent & ~called],
    axis=1,
  )


def call_figures(cells: np.ndarray) -> np.ndarray:
  """Returns the figures named by `CALLS`, (4, ...), NaN where undefined.

  Args:
    cells: (4, ...) counts of true positives, false positives, false negatives
      and true negatives.
  """
  tp, fp, fn, tn = np.asarray(cells, np.float64)
  with np.errstate(invalid="ignore"):
    # Roots of each factor: a product of four counts would lose digits.
    called = np.sqrt(tp + fp) * np.sqrt(tn + fn)
    stated = np.sqrt(tp + fn) * np.sqrt(tn + fp)
    correlation = (tp * tn - fp * fn) / np.where(called == 0, 1, called)
    return np.stack(
      [
        2 * tp / (2 * tp + fp + fn),
        correlation / np.where(stated == 0, np.nan, stated),
        tp / (tp + fn),
        tn / (tn + fp),
      ]
    )


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


def estimate(
  value: float | None, draws: np.ndarray
) -> dict[str, float | None] | None:
  """Returns value, low and high of the 95 % interval of (R,) draws.

  None when the value is not available.
  """
  if value is None:
    return None
  low, high = interval(draws)
  return {"value": value, "low": low, "high": high}


def check(truth: np.ndarray, scores: np.ndarray) -> np.ndarray:
  """Returns (N,) bool: which rows are counted.

  Raises:
    ValueError: as in `auroc`.
  """
  if truth.shape != scores.shape or truth.ndim != 1:
    raise ValueError(
      f"truth is {truth.shape}, scores {scores.shape}; expected the same (N,)"
    )
  if not np.isin(truth, (1, 0, -1)).all():
    raise ValueError("truth holds a value other than 1, 0 and -1")
  counted = truth != -1
  if not np.isfinite(scores[counted]).all():
    raise ValueError("scores holds a value that is not finite")
  return counted


def _counted(
  truth: np.ndarray, scores: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the rows with a stated truth, after checking both arrays."""
  truth, scores = np.asarray(truth), np.asarray(scores)
  counted = check(truth, scores)
  return truth[counted], scores[counted]


def has_classes(truth: np.ndarray) -> bool:
  """Returns whether both classes are there."""
  return bool((truth == 1).any() and (truth == 0).any())


def _figure(truth: np.ndarray, calls: np.ndarray, name: str) -> float | None:
  value = call_figures(confusion(truth, calls).sum(axis=0))[CALLS.index(name)]
  return None if np.isnan(value) else float(value)
