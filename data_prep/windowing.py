"""Grey values to the unit range: windows, and what stands in for a bad one.

Everything here works elementwise, so callers apply it to a table of the
values that occur instead of to every pixel.
"""

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


def subsample(image: np.ndarray) -> np.ndarray:
  """Returns every `STRIDE`-th row and column of an (H, W) image."""
  return image[::STRIDE, ::STRIDE]


def percentile_limits(sample: np.ndarray) -> tuple[float, float]:
  """Returns the values (low, high) to show as 0 and 1.

  They are the `PERCENTILES` of the sample, or its extremes where these
  coincide; low equals high only for a constant sample.
  """
  low, high = np.percentile(sample, PERCENTILES)
  if low == high:
    low, high = sample.min(), sample.max()
  return float(low), float(high)


def apply_limits(values: np.ndarray, low: float, high: float) -> np.ndarray:
  """Returns `values` scaled from [low, high] to [0, 1], float64."""
  return np.clip((values.astype(np.float64) - low) / (high - low), 0, 1)


def is_blank(unit_sample: np.ndarray) -> bool:
  """Says whether grey values in [0, 1] show next to nothing."""
  low, high = percentile_limits(unit_sample)
  return high - low < MIN_CONTRAST


def to_uint8(unit_values: np.ndarray) -> np.ndarray:
  """Returns [0, 1] as uint8 in [0, 255], rounded."""
  return np.rint(unit_values * 255).astype(np.uint8)
