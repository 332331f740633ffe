"""Figures under resampling of patients: numpy and scipy only, no model.

Images of one patient are not independent, so patients are drawn, with
replacement, as many as there are. A resample is a count for each patient, and
all figures here follow from sums weighted by those counts, so that no row is
ever copied. One resample serves all columns (labels), and row r may be averaged
over them; only a column that lacks a class in it is drawn again, by itself.
Which patients are drawn depends on the truth (or on what is counted), the
patients and the seed, never on scores: two models scored on the same rows are
paired, row by row.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import sparse

from tier_jax.evaluators import statistics

NUM_RESAMPLES = 2000

# A class is missed with probability at most about 1/e, so that a column is
# redrawn this often with probability below 1e-19: reaching it means a bug.
_MAX_ROUNDS = 100
# Counts are drawn for so many resamples at a time that they stay in the
# processor's cache, and memory does not grow with the number of resamples.
_CELLS, _CHUNK = 2**20, 256

# Counts (P, C) of P patients in C resamples -> (F, C) figures, NaN in all of
# them where the column lacks a class.
Column = Callable[[np.ndarray], np.ndarray]


@dataclasses.dataclass(frozen=True)
class Draws:
  """Figures of every column in every resample.

  Attributes:
    values: for each figure's name (R, K) float64, NaN where a column lacks a
      class altogether.
    redrawn: (K,) int64, resamples drawn anew because they lacked a class.
  """

  values: Mapping[str, np.ndarray]
  redrawn: np.ndarray


def ranking_draws(
  truth: np.ndarray,
  scores: np.ndarray,
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> Draws:
  """Returns the draws of "auroc" and "average_precision" of L labels.

  Args:
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    scores: (N, L) higher means more likely present.
    patients: N ids; rows with equal ids are drawn together.
    num_resamples: R.
    seed: of the resampling.

  Raises:
    ValueError: if shapes differ or a counted score is not finite.
  """
  index, num_patients = number_patients(patients, len(truth))
  columns = [
    _ranking(truth[:, i], scores[:, i], index, num_patients)
    for i in range(truth.shape[1])
  ]
  names = ("auroc", "average_precision")
  return resample(columns, names, num_patients, num_resamples, seed)


def call_draws(
  truth: np.ndarray,
  calls: np.ndarray,
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> Draws:
  """Returns the draws of "f1", "mcc", "sensitivity" and "specificity".

  The patients drawn are those of `ranking_draws` for the same truth.

  Args:
    truth: (N, L) 1 present, 0 absent, -1 not counted.
    calls: (N, L) 1 called, 0 not called.
    patients, num_resamples, seed: as in `ranking_draws`.

  Raises:
    ValueError: if shapes differ, or a counted call is neither 0 nor 1.
  """
  index, num_patients = number_patients(patients, len(truth))
  columns = []
  for i in range(truth.shape[1]):
    cells = statistics.confusion(truth[:, i], calls[:, i])
    table = sum_by_patient(cells, index, num_patients)
    columns.append(_calls(table))
  return resample(columns, statistics.CALLS, num_patients, num_resamples, seed)


def mean_draws(
  values: np.ndarray,
  patients: Sequence[str] | np.ndarray,
  *,
  num_resamples: int = NUM_RESAMPLES,
  seed: int = 0,
) -> np.ndarray:
  """Returns (R, K) means of the rows drawn, NaN where a column has none.

  Args:
    values: (N, K) float, NaN is not counted.
    patients, num_resamples, seed: as in `ranking_draws`.

  Raises:
    ValueError: if shapes differ or a value is infinite.
  """
  values = np.asarray(values, np.float64)
  if np.isinf(values).any():
    raise ValueError("values holds an infinite number")
  index, num_patients = number_patients(patients, len(values))
  columns = []
  for column in values.T:
    counted = ~np.isnan(column)
    cells = np.stack([np.where(counted, column, 0.0), counted], axis=1)
    table = sum_by_patient(cells, index, num_patients)
    columns.append(_mean(table))
  draws = resample(columns, ("mean",), num_patients, num_resamples, seed)
  return draws.values["mean"]


def number_patients(
  patients: Sequence[str] | np.ndarray, num_rows: int
) -> tuple[np.ndarray, int]:
  """Returns the number of each row's patient, and how many patients there are.

  Raises:
    ValueError: if there are not `num_rows` of them.
  """
  if len(patients) != num_rows:
    raise ValueError(f"{len(patients)} patients, expected {num_rows}")
  names, index = np.unique(np.asarray(patients), return_inverse=True)
  return index, len(names)


def sum_by_patient(
  cells: np.ndarray, index: np.ndarray, num_patients: int
) -> np.ndarray:
  """Returns (S, P): the sum of each patient's rows of `cells` (N, S)."""
  return np.stack(
    [np.bincount(index, column, num_patients) for column in cells.T]
  )


def resample(
  columns: Sequence[Column | None],
  names: Sequence[str],
  num_patients: int,
  num_resamples: int,
  seed: int,
) -> Draws:
  """Returns the F = len(names) figures of K columns in R resamples.

  Args:
    columns: K functions of counts; None where a column lacks a class.
    names: of the figures that each column gives.
    num_patients: P.
    num_resamples: R.
    seed: of the resampling.
  """
  values = np.full((len(names), num_resamples, len(columns)), np.nan)
  redrawn = np.zeros(len(columns), np.int64)
  available = np.array([column is not None for column in columns], bool)
  pending = np.tile(available, (num_resamples, 1))
  rng = np.random.default_rng(seed)
  size = min(max(_CELLS // max(num_patients, 1), 1), _CHUNK)
  for _ in range(_MAX_ROUNDS):
    rows = np.flatnonzero(pending.any(axis=1))
    for start in range(0, len(rows), size):
      chunk = rows[start : start + size]
      counts = _draw(rng, num_patients, len(chunk))
      for k, column in enumerate(columns):
        todo = pending[chunk, k]
        if column is not None and todo.any():
          values[:, chunk[todo], k] = column(counts)[:, todo]
    pending = available & np.isnan(values[0])
    redrawn += pending.sum(axis=0)
    if not pending.any():
      return Draws(dict(zip(names, values, strict=True)), redrawn)
  raise RuntimeError("a column lacked a class in every resample drawn")


def _draw(
  rng: np.random.Generator, num_patients: int, num_draws: int
) -> np.ndarray:
  """Returns (P, C) float64: how often each patient is drawn in each draw."""
  drawn = rng.integers(num_patients, size=(num_draws, num_patients))
  cells = drawn * num_draws + np.arange(num_draws)[:, None]
  counts = np.bincount(cells.ravel(), minlength=num_patients * num_draws)
  return counts.reshape(num_patients, num_draws).astype(np.float64)


def _ranking(
  truth: np.ndarray,
  scores: np.ndarray,
  index: np.ndarray,
  num_patients: int,
) -> Column | None:
  """Returns the column of a label's AUROC and average precision.

  Only the V distinct scores of positives matter: how many positives have each,
  how many negatives have it too, and how many lie between it and the one below.
  Three sparse matrices sum the patients' counts to that.
  """
  counted = statistics.check(truth, scores)
  truth, scores, index = truth[counted], scores[counted], index[counted]
  positive, negative = truth == 1, truth == 0
  if not positive.any() or not negative.any():
    return None
  ladder, rung = np.unique(scores[positive], return_inverse=True)
  above = np.searchsorted(ladder, scores[negative], "right")
  tied = above > np.searchsorted(ladder, scores[negative], "left")
  shape = (len(ladder), num_patients)
  at_rung = _summing(rung, index[positive], shape)
  tied_at = _summing(above[tied] - 1, index[negative][tied], shape)
  between = _summing(above, index[negative], (shape[0] + 1, num_patients))

  def column(counts: np.ndarray) -> np.ndarray:
    positives = at_rung @ counts  # (V, C), and so on
    # Whole numbers below 2**53 as they are, these sums are exact.
    below = np.cumsum(between @ counts, axis=0)
    total, below = below[-1], below[:-1]
    hits = np.cumsum(positives[::-1], axis=0)[::-1]
    wins = np.einsum("vc,vc->c", positives, 2 * below + (tied_at @ counts))
    # A rung of which no positive is drawn adds nothing, even when it is empty.
    precision = hits / np.maximum(hits + total - below, 1)
    gained = np.einsum("vc,vc->c", positives, precision)
    lacking = (hits[0] == 0) | (total == 0)
    with np.errstate(invalid="ignore"):
      figures = np.stack([wins / (2 * hits[0] * total), gained / hits[0]])
    return np.where(lacking, np.nan, figures)

  return column


def _summing(
  rows: np.ndarray, patients: np.ndarray, shape: tuple[int, int]
) -> sparse.csr_array:
  """Returns the matrix that adds patients' counts to the rows they lie in."""
  return sparse.csr_array((np.ones(len(rows)), (rows, patients)), shape=shape)


def _calls(table: np.ndarray) -> Column | None:
  """Returns the column of a label's calls; (4, P) sums as `CALLS` needs."""
  tp, fp, fn, tn = table.sum(axis=1)
  if not tp + fn or not fp + tn:
    return None

  def column(counts: np.ndarray) -> np.ndarray:
    cells = tp, fp, fn, tn = table @ counts  # (4, C)
    lacking = (tp + fn == 0) | (fp + tn == 0)
    return np.where(lacking, np.nan, statistics.call_figures(cells))

  return column


def _mean(table: np.ndarray) -> Column | None:
  """Returns the column of a mean; (2, P) sums of values and of rows."""
  if not table[1].any():
    return None

  def column(counts: np.ndarray) -> np.ndarray:
    total, number = table @ counts
    with np.errstate(invalid="ignore"):
      return (total / number)[None]

  return column
