"""Image transforms on the host: grey uint8 in, grey uint8 out.

The random one takes a numpy generator, so that a seed and an index fix it.
"""

import dataclasses
import math

import cv2
import numpy as np

# Evaluation resizes the short side to 256 for a crop of 224, as the paper.
_CROP_FRACTION = 224 / 256
_GREY = np.arange(256.0)  # all values of a pixel


@dataclasses.dataclass(frozen=True)
class AugmentConfig:
  """Ranges of the random training transform.

  Attributes:
    min_area, max_area: of the crop, as shares of the largest crop of its ratio
      that fits. The released code goes down to 0.08 of the image, where the
      crop may exclude the finding that the text names; the default is safe.
    min_ratio, max_ratio: width over height of the crop.
    degrees: largest rotation either way.
    shift: largest shift either way, as a share of the side.
    scale: largest zoom either way, as a share.
    brightness, contrast: largest change either way, as a share.
  """

  min_area: float = 0.6
  max_area: float = 1.0
  min_ratio: float = 0.9
  max_ratio: float = 1.0
  degrees: float = 10.0
  shift: float = 0.05
  scale: float = 0.05
  brightness: float = 0.2
  contrast: float = 0.2

  def __post_init__(self):
    if not 0 < self.min_area <= self.max_area <= 1:
      raise ValueError(
        f"augment.min_area {self.min_area} and max_area {self.max_area}: "
        "expected 0 < min <= max <= 1"
      )
    if not 0 < self.min_ratio <= self.max_ratio:
      raise ValueError(
        f"augment.min_ratio {self.min_ratio} and max_ratio {self.max_ratio}: "
        "expected 0 < min <= max"
      )
    for field in ("degrees", "shift", "scale", "brightness", "contrast"):
      limit = 180 if field == "degrees" else 1
      if not 0 <= getattr(self, field) < limit:
        raise ValueError(
          f"augment.{field} is {getattr(self, field)}, expected 0 <= {field} "
          f"< {limit}"
        )


@dataclasses.dataclass(frozen=True)
class Rendering:
  """How data_prep made the stored pictures of files.

  Attributes:
    recipe: for grey values, one of `data_prep.dicom.RECIPES`.
    short_side: pixels; pictures with a larger shorter side were reduced.
  """

  recipe: str
  short_side: int


def train_image(
  image: np.ndarray, size: int, config: AugmentConfig, rng: np.random.Generator
) -> np.ndarray:
  """Returns a random view (size, size) uint8 of an image (H, W) uint8.

  Crop, rotation, shift and zoom are one affine map, so that the image is
  resampled once; brightness and contrast follow. No flip: the heart's side
  carries meaning.

  Source: Palepu and Beam's training transform, with a safer crop.
  """
  height, width = image.shape
  # In Python's own numbers: numpy's small arrays would take as long as the
  # pixels do, and keep other threads waiting.
  draws = iter(rng.random(10).tolist())

  def uniform(low: float, high: float) -> float:
    return low + (high - low) * next(draws)

  # The largest crop of the ratio that fits, shrunk to the share of its area.
  ratio = uniform(config.min_ratio, config.max_ratio)
  share = math.sqrt(uniform(config.min_area, config.max_area))
  crop_height = share * min(height, width / ratio)
  crop_width = crop_height * ratio
  x0 = uniform(0, width - crop_width)
  y0 = uniform(0, height - crop_height)
  angle = math.radians(uniform(-config.degrees, config.degrees))
  zoom = 1 + uniform(-config.scale, config.scale)
  shift_x = uniform(-config.shift, config.shift) * size
  shift_y = uniform(-config.shift, config.shift) * size
  gain = 1 + uniform(-config.brightness, config.brightness)
  contrast = 1 + uniform(-config.contrast, config.contrast)

  # Output pixel -> image pixel: from (u, v), where the crop's centre is seen,
  # turned and zoomed, then scaled to the crop and placed.
  u, v = (size - 1) / 2 + shift_x, (size - 1) / 2 + shift_y
  cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
  scale_x, scale_y = crop_width / size, crop_height / size
  x = x0 + (crop_width - 1) / 2 - scale_x * (cos * u - sin * v)
  y = y0 + (crop_height - 1) / 2 - scale_y * (sin * u + cos * v)
  to_image = np.array(
    [
      [scale_x * cos, -scale_x * sin, x],
      [scale_y * sin, scale_y * cos, y],
    ]
  )
  # Shrink first when far larger than needed: a bilinear warp alone would
  # alias, since it sees only four pixels of each neighbourhood.
  factor = min(crop_width, crop_height) / size
  if factor > 1.5:
    shrunk = (max(round(width / factor), 1), max(round(height / factor), 1))
    image = cv2.resize(image, shrunk, interpolation=cv2.INTER_AREA)
    shares = np.array([[shrunk[0] / width], [shrunk[1] / height]])
    to_image *= shares
    to_image[:, 2:] += 0.5 * shares - 0.5
  warped = cv2.warpAffine(
    image,
    to_image,
    (size, size),
    flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
    borderMode=cv2.BORDER_CONSTANT,
    borderValue=0,
  )
  # Contrast turns about the mean of the brightened image: one line y = a x + b.
  mean = cv2.sumElems(warped)[0] / warped.size * gain
  grey = _GREY * (gain * contrast) + mean * (1 - contrast)
  return cv2.LUT(warped, np.rint(np.clip(grey, 0, 255)).astype(np.uint8))


def eval_image(image: np.ndarray, size: int) -> np.ndarray:
  """Returns (size, size) uint8: short side resized, then the centre crop."""
  scale, x0, y0 = _eval_geometry(image.shape, size)
  height, width = image.shape
  resized = cv2.resize(
    image,
    (max(round(width * scale), size), max(round(height * scale), size)),
    interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR,
  )
  return np.ascontiguousarray(resized[y0 : y0 + size, x0 : x0 + size])


def eval_boxes(
  boxes: np.ndarray, shape: tuple[int, int], size: int
) -> np.ndarray:
  """Returns boxes (n, 4) of an image (H, W) as `eval_image` shows them.

  Boxes are x0, y0, x1, y1 in pixels and are clipped to the crop.
  """
  scale, x0, y0 = _eval_geometry(shape, size)
  moved = np.asarray(boxes, np.float32).reshape(-1, 4) * scale
  moved -= np.array([x0, y0, x0, y0], np.float32)
  return np.clip(moved, 0, size)


def eval_mask(mask: np.ndarray, size: int) -> np.ndarray:
  """Returns a mask (H, W) bool as `eval_image` shows it, (size, size) bool.

  A pixel is inside where half of it or more is; a speck below that is lost.
  """
  return eval_image(np.uint8(255) * mask, size) > 127


def eval_map(grid: np.ndarray, shape: tuple[int, int], size: int) -> np.ndarray:
  """Returns what lies on `eval_image`'s crop, on the pixels of the image.

  Args:
    grid: (rows, columns) float, a value for each cell of an even grid over the
      crop; between the cells' centres it is interpolated.
    shape: (H, W) of the image.
    size: of the crop.

  Returns:
    (H, W) float32, NaN outside the crop.
  """
  scale, x0, y0 = _eval_geometry(shape, size)
  weights = [
    _cell_weights(length, max(round(length * scale), size), start, size, cells)
    for length, start, cells in zip(shape, (y0, x0), grid.shape, strict=True)
  ]
  return weights[0] @ grid.astype(np.float32) @ weights[1].T


def _cell_weights(length, resized, start, size, cells) -> np.ndarray:
  """Returns (length, cells) float32: of each pixel, what each cell counts."""
  places = (np.arange(length) + 0.5) * resized / length - start
  centres = np.clip(places / size * cells - 0.5, 0, cells - 1)
  weights = np.maximum(0, 1 - np.abs(centres[:, None] - np.arange(cells)))
  weights[(places < 0) | (places > size)] = np.nan
  return weights.astype(np.float32)


def _eval_geometry(shape, size):
  """Factor on the image, and the crop's left and top in the resized image."""
  height, width = shape
  scale = size / _CROP_FRACTION / min(height, width)
  x0 = (max(round(width * scale), size) - size) // 2
  y0 = (max(round(height * scale), size) - size) // 2
  return scale, x0, y0
