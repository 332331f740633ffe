"""How well a map of an image points at a finding: numpy and OpenCV alone.

A map may be of any resolution and scale. Where it points is read off the map
itself; all else from the map brought to the truth's size, by bilinear
interpolation with pixel centres aligned. What depends on a threshold first
scales the map's own minimum to 0 and its maximum to 1, so that no score depends
on a model's range of cosines.
"""

import cv2
import numpy as np

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
METRICS = (
  *("pointing_game", "cnr", "miou", "dice"),
  *(f"iou@{threshold}" for threshold in THRESHOLDS),
)
# All METRICS of a map are in this order; these come first and are the summary.
SUMMARY = METRICS[:4]

_DICE_THRESHOLD = 0.5
# Of a map's range. Maps of chance have four times as much, and below a few
# hundredths what is left is how the map was enlarged.
_LEAST_NOISE = 0.1
_ROUNDING = 1e-9  # of float64, after some operations
_TIE = 1e-6  # of the largest value: what float32 does not tell apart


def score(similarity: np.ndarray, truth: np.ndarray) -> np.ndarray:
  """Returns the METRICS of one map.

  pointing_game: whether the centre of the map's largest entry lies inside; a
    centre between pixels counts by their mean. Of several largest entries, the
    share that does, so that a constant map scores as pointing anywhere would.
    Not the largest pixel of the enlarged map: interpolation lowers peaks, but
    not those at the image's border, and so points there more often than chance.
  cnr: contrast to noise, (mean inside - mean outside) / sqrt(variance inside +
    variance outside), signed: negative where the map is turned over; in
    [-10, 10], as the noise counts as a tenth of the map's range at least. A
    perfect map, which has none, so scores 10, and cannot outweigh all others in
    a mean. 0 for a constant map; NaN if nothing lies outside, whatever the map.
  iou@t: of the truth with the pixels at t or above of the map scaled to [0, 1].
    The paper below cuts the cosines themselves. A constant map marks nothing.
  miou: mean of iou@t over THRESHOLDS.
  dice: of the truth with the pixels at 0.5 or above of the scaled map.

  Args:
    similarity: (rows, columns) float, of any range.
    truth: (S, S) bool, True where the finding is.

  Returns:
    (len(METRICS),) float64; all but the cnr in [0, 1], none but it NaN.

  Raises:
    ValueError: if truth is empty or no (S, S) bool, or the map not finite.

  Source: pointing game: Zhang et al. 2016; the others, and the thresholds:
    Boecking et al. 2022 (BioViL), whose cnr has no least noise.
  """
  if truth.ndim != 2 or truth.dtype != np.bool_ or not truth.any():
    raise ValueError(
      f"truth is {truth.dtype} {truth.shape} with {np.count_nonzero(truth)} "
      "pixels inside, expected bool (S, S) with some"
    )
  if similarity.ndim != 2 or not np.isfinite(similarity).all():
    raise ValueError(
      f"similarity {similarity.shape} holds {(~np.isfinite(similarity)).sum()} "
      "values that are not finite, expected (rows, columns) without any"
    )
  low, high = float(similarity.min()), float(similarity.max())
  tie = _TIE * max(abs(low), abs(high))
  pointing = _at_centres(truth, similarity.shape)[similarity >= high - tie]
  if high - low <= 2 * tie:
    level = np.zeros(truth.shape)
  else:
    level = enlarge(similarity, truth.shape)
    level = (level - level.min()) / (level.max() - level.min())
  overlaps = [_overlap(level, truth, t) for t in THRESHOLDS]
  ious = [both / (one + own - both) for both, one, own in overlaps]
  both, one, own = _overlap(level, truth, _DICE_THRESHOLD)
  return np.array(
    [
      pointing.mean(),
      _cnr(level, truth),
      np.mean(ious),
      2 * both / (one + own),
      *ious,
    ]
  )


def chance(truth: np.ndarray) -> np.ndarray:
  """Returns the METRICS to expect of a map that knows nothing.

  Its pixels are independent and uniform in [0, 1], so that a threshold t marks
  1 - t of the image wherever that is. With s the truth's share of the image,
  the pointing game is s, the cnr 0, iou@t s (1 - t) / (s + (1 - t) - s (1 - t))
  and dice at 0.5 2 s / 2 / (s + 1 / 2), in the limit of many pixels. The cnr is
  NaN where that of any map is.

  Args:
    truth: (S, S) bool.
  """
  share = float(truth.mean())
  ious = [
    share * (1 - t) / (share + (1 - t) - share * (1 - t)) for t in THRESHOLDS
  ]
  dice = share / (share + _DICE_THRESHOLD)
  cnr = np.nan if truth.all() else 0.0
  return np.array([share, cnr, np.mean(ious), dice, *ious])


def enlarge(similarity: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns a map (rows, columns) at `shape`, float64, bilinear."""
  return cv2.resize(
    similarity.astype(np.float64),
    (shape[1], shape[0]),
    interpolation=cv2.INTER_LINEAR,
  )


def _at_centres(truth: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the truth, in [0, 1], at the centres of a map of `shape`."""
  mean = truth.astype(np.float64)
  for axis in (0, 1):
    spots = (np.arange(shape[axis]) + 0.5) * truth.shape[axis] / shape[axis]
    spots -= 0.5  # the first pixel's centre is 0
    before, after = np.floor(spots).astype(int), np.ceil(spots).astype(int)
    mean = (mean.take(before, axis) + mean.take(after, axis)) / 2
  return mean


def _overlap(level, truth, threshold) -> tuple[int, int, int]:
  """Pixels in both, at or above the threshold, and in the truth."""
  # Less a rounding error: a value of the threshold itself is in.
  marked = level >= threshold - _ROUNDING
  return (
    int(np.count_nonzero(marked & truth)),
    int(np.count_nonzero(marked)),
    int(np.count_nonzero(truth)),
  )


def _cnr(level, truth) -> float:
  inside, outside = level[truth], level[~truth]
  if not len(outside):
    return np.nan
  noise = max(np.sqrt(inside.var() + outside.var()), _LEAST_NOISE)
  return float((inside.mean() - outside.mean()) / noise)
