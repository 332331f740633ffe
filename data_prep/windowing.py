"""Grey values to the unit range: windows, and what stands in for a bad one.

Everything here works on a table of the values that may occur, with how often
each does, instead of on every pixel.
"""

import cv2
import numpy as np

# The darkest and brightest half per cent are collimator edges and markers.
PERCENTILES = (0.5, 99.5)
STRIDE = 4  # percentiles of every fourth row and column are close enough
# A window that leaves less contrast than this shows nothing.
MIN_CONTRAST = 0.1


def apply_window(
  values: np.ndarray, center: float, width: float, function: str = "LINEAR"
) -> np.ndarray:
  """Returns `values` windowed into [0, 1], float64.

  Args:
    values: any shape, after the modality LUT.
    center, width: as DICOM states them; width >= 1, or > 0 for the functions
      other than LINEAR.
    function: VOI LUT Function: "LINEAR", "LINEAR_EXACT" or "SIGMOID".

  Raises:
    ValueError: if the width is too small or the function is not one of these.

  Source: DICOM PS3.3 C.11.2.1.2 and C.11.2.1.3.
  """
  values = values.astype(np.float64)
  if function == "LINEAR":
    if width < 1:
      raise ValueError(f"width {width} is below 1")
    if width == 1:
      return (values > center - 0.5).astype(np.float64)
    return np.clip((values - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
  if width <= 0:
    raise ValueError(f"width {width} is not above 0")
  if function == "LINEAR_EXACT":
    return np.clip((values - center) / width + 0.5, 0, 1)
  if function == "SIGMOID":
    # Beyond +-50 the curve is flat, and exp would overflow.
    return 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -50, 50)))
  raise ValueError("the VOI LUT function is unknown")


def count(
  image: np.ndarray, stride: int = STRIDE, bits: int | None = None
) -> np.ndarray:
  """Returns how often each value occurs, (2**bits,) float32.

  Counts are exact up to 2**24, which a default stride never reaches.

  Args:
    image: (H, W) uint8 or uint16.
    stride: only every `stride`-th row and column is looked at.
    bits: only this many low ones of each value are looked at; None for all.
  """
  sample = np.ascontiguousarray(image[::stride, ::stride])
  allocated = 8 * image.itemsize
  size = 1 << (bits or allocated)
  if size < 1 << allocated:
    sample = sample & (size - 1)  # a short table stays in the cache
  return cv2.calcHist([sample], [0], None, [size], [0, size]).ravel()


def percentile_limits(
  values: np.ndarray, counts: np.ndarray
) -> tuple[float, float]:
  """Returns the values (low, high) to show as 0 and 1.

  They are the `PERCENTILES` of the values, each taken as often as it occurs
  and interpolated as numpy does by default, or the extremes where these
  coincide; low equals high only if a single value occurs.

  Args:
    values: (N,) finite.
    counts: (N,) >= 0, not all 0.
  """
  present = np.flatnonzero(counts)
  values = values[present].astype(np.float64)
  order = np.argsort(values, kind="stable")
  values = values[order]
  ends = np.cumsum(counts[present][order], dtype=np.float64)
  low, high = (
    _value_at(values, ends, percent / 100 * (ends[-1] - 1))
    for percent in PERCENTILES
  )
  if low == high:
    low, high = float(values[0]), float(values[-1])
  return low, high


def _value_at(values: np.ndarray, ends: np.ndarray, place: float) -> float:
  """Returns the value at a place, perhaps between two, of the sorted pixels."""
  before = np.floor(place)
  low, high = values[
    np.searchsorted(ends, [before, min(before + 1, ends[-1] - 1)], "right")
  ]
  share = place - before
  # The form numpy uses: exact at both ends.
  if share >= 0.5:
    return float(high - (high - low) * (1 - share))
  return float(low + (high - low) * share)


def apply_limits(values: np.ndarray, low: float, high: float) -> np.ndarray:
  """Returns `values` scaled from [low, high] to [0, 1], float64."""
  return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def is_blank(unit_values: np.ndarray, counts: np.ndarray) -> bool:
  """Says whether grey values in [0, 1] show next to nothing."""
  low, high = percentile_limits(unit_values, counts)
  return high - low < MIN_CONTRAST


def to_uint8(unit_values: np.ndarray) -> np.ndarray:
  """Returns [0, 1] as uint8 in [0, 255], rounded."""
  return np.rint(unit_values * 255).astype(np.uint8)


def scale_mimic_jpg(values: np.ndarray, low: int, high: int) -> np.ndarray:
  """Returns `values` as MIMIC-CXR-JPG scales them, uint8, before equalising.

  Args:
    values: any shape, integers as stored.
    low, high: the extremes of the picture, low < high.

  Source: the authors' code, `MIT-LCP/mimic-cxr#16`. It rounds down.
  """
  unit = np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)
  return (unit * 255).astype(np.uint8)


def scale_chexpert(values: np.ndarray, high: int) -> np.ndarray:
  """Returns `values` as CheXpert scales them, uint8, before equalising.

  Zero stays zero, whatever the darkest pixel is, and negative values come out
  as positive ones do.

  Args:
    values: any shape, integers as stored, of at most 16 bits.
    high: the largest of the picture, > 0.

  Source: the authors' code, `stanfordmlgroup/chexpert-labeler#11`.
  """
  # OpenCV scales signed and unsigned values of 16 bits alike, through float32.
  scaled = cv2.convertScaleAbs(values.astype(np.float32), alpha=255 / high)
  return scaled.reshape(values.shape)
