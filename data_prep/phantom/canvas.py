"""A sheet to draw attenuation on, in units of the chest and not of pixels.

The chest is about one unit wide; (0, 0) is its centre, x grows to the image's
right, y downwards. Layers are (H, W) float32; a film adds them up, since what
a detector's logarithm sees of tissues behind each other is a sum.
"""

from collections.abc import Sequence

import cv2
import numpy as np

_SHIFT = 4  # fractional bits of the coordinates that OpenCV draws


class Canvas:
  """A (height, width) sheet seen through a rotation, a scale and a shift.

  Attributes:
    shape: (height, width) in pixels.
    scale: pixels a unit.
    x, y: (H, W) float32, the position of each pixel in units.
  """

  def __init__(
    self,
    shape: tuple[int, int],
    scale: float,
    rotation: float = 0.0,
    shift: tuple[float, float] = (0.0, 0.0),
  ):
    """Lays the sheet.

    Args:
      shape: (height, width) in pixels.
      scale: pixels a unit.
      rotation: radians, clockwise on the image.
      shift: (x, y) of the chest's centre from the sheet's, in units.
    """
    self.shape = shape
    self.scale = scale
    height, width = shape
    cos, sin = np.cos(rotation) * scale, np.sin(rotation) * scale
    self._matrix = np.array([[cos, -sin], [sin, cos]])
    self._origin = np.array(
      [width / 2 + shift[0] * scale, height / 2 + shift[1] * scale]
    )
    inverse = np.linalg.inv(self._matrix)
    columns = np.arange(width, dtype=np.float32) - np.float32(self._origin[0])
    rows = np.arange(height, dtype=np.float32) - np.float32(self._origin[1])
    a, b, c, d = inverse.astype(np.float32).ravel()
    self.x = a * columns[None, :] + b * rows[:, None]
    self.y = c * columns[None, :] + d * rows[:, None]

  def half(self) -> "Canvas":
    """Returns a sheet of half the resolution, for layers without edges."""
    other = object.__new__(Canvas)
    height, width = self.shape
    other.shape = (height // 2, width // 2)
    other.scale = self.scale / 2
    other._matrix = self._matrix / 2
    other._origin = self._origin / 2 - 0.25
    other.x = cv2.resize(self.x, other.shape[::-1])
    other.y = cv2.resize(self.y, other.shape[::-1])
    return other

  def whole(self, layer: np.ndarray) -> np.ndarray:
    """Returns a layer of the `half` sheet at this one's resolution."""
    return cv2.resize(layer, self.shape[::-1], interpolation=cv2.INTER_LINEAR)

  def fill(self, points: np.ndarray) -> np.ndarray:
    """Returns (H, W) float32 in [0, 1], the inside of (n, 2) `points`."""
    layer = np.zeros(self.shape, np.uint8)
    pixels = self._pixels(points)
    cv2.fillPoly(layer, [pixels], 255, cv2.LINE_AA, _SHIFT)
    return layer.astype(np.float32) / 255

  def stroke(
    self,
    curves: Sequence[np.ndarray],
    width: float,
    value: float = 1.0,
    onto: np.ndarray | None = None,
  ) -> np.ndarray:
    """Draws lines of `width` units on a (H, W) uint8 layer.

    Args:
      curves: (n, 2) points each.
      width: in units; never thinner than a pixel.
      value: in [0, 1]; it replaces what lies under it.
      onto: the layer, a new one if None.

    Returns:
      The layer; divide by 255.
    """
    layer = np.zeros(self.shape, np.uint8) if onto is None else onto
    thickness = max(1, round(width * self.scale))
    ends = np.cumsum([len(points) for points in curves])[:-1]
    pixels = np.split(self._pixels(np.concatenate(curves)), ends)
    cv2.polylines(
      layer, pixels, False, round(value * 255), thickness, cv2.LINE_AA, _SHIFT
    )
    return layer

  def blur(self, layer: np.ndarray, sigma: float) -> np.ndarray:
    """Returns `layer` blurred by `sigma` units, coarsely where that is wide."""
    pixels = sigma * self.scale
    factor = int(pixels / 2)
    if factor < 2:
      return cv2.GaussianBlur(layer, (0, 0), pixels)
    height, width = self.shape
    small = (max(2, width // factor), max(2, height // factor))
    layer = cv2.resize(layer, small, interpolation=cv2.INTER_AREA)
    layer = cv2.GaussianBlur(
      layer, (0, 0), pixels / factor, borderType=cv2.BORDER_REPLICATE
    )
    return cv2.resize(layer, (width, height), interpolation=cv2.INTER_LINEAR)

  def spot(
    self, x: float, y: float, rx: float, ry: float, angle: float = 0.0
  ) -> np.ndarray:
    """Returns a Gaussian hill of height 1, its deviations along its axes."""
    cos, sin = np.cos(angle), np.sin(angle)
    # The quadratic form a dx^2 + b dx dy + c dy^2 of the turned axes.
    a = -0.5 * ((cos / rx) ** 2 + (sin / ry) ** 2)
    b = -cos * sin * (1 / rx**2 - 1 / ry**2)
    c = -0.5 * ((sin / rx) ** 2 + (cos / ry) ** 2)
    dx, dy = self.x - np.float32(x), self.y - np.float32(y)
    hill = dx * np.float32(a)
    hill += dy * np.float32(b)
    hill *= dx
    dy *= dy
    dy *= np.float32(c)
    hill += dy
    return np.exp(hill, out=hill)

  def clouds(self, rng: np.random.Generator, size: float) -> np.ndarray:
    """Returns smooth noise, about N(0, 1), whose lumps are `size` units."""
    height, width = self.shape
    pixels = max(1.0, size * self.scale)
    small = (int(height / pixels) + 2, int(width / pixels) + 2)
    noise = rng.standard_normal(small, np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)

  def _pixels(self, points: np.ndarray) -> np.ndarray:
    pixels = np.asarray(points) @ self._matrix.T + self._origin
    return np.round(pixels * (1 << _SHIFT)).astype(np.int32).reshape(-1, 1, 2)


def curve(points, num: int = 24) -> np.ndarray:
  """Returns (num, 2) points of a smooth curve through (n, 2) `points`."""
  points = np.asarray(points, float)
  # An end's tangent points at its neighbour.
  before, after = 2 * points[0] - points[1], 2 * points[-1] - points[-2]
  return _spline(np.concatenate([[before], points, [after]]), num)


def loop(points, num: int = 64) -> np.ndarray:
  """Returns (num, 2) points of a smooth closed curve through `points`."""
  points = np.asarray(points, float)
  return _spline(np.concatenate([points[-1:], points, points[:2]]), num)


def _spline(points: np.ndarray, num: int) -> np.ndarray:
  """Returns the Catmull-Rom curve from the second point to the last but one.

  Tangents are taken over chord lengths, so that uneven points do not
  overshoot.
  """
  steps = points[1:] - points[:-1]
  chords = np.sqrt((steps * steps).sum(1))
  chords = np.maximum(chords, 1e-9)[:, None]
  speeds = steps / chords
  tangents = (speeds[1:] * chords[:-1] + speeds[:-1] * chords[1:]) / (
    chords[1:] + chords[:-1]
  )
  knots, lengths = points[1:-1], chords[1:-1]
  place = np.concatenate([[0.0], np.cumsum(lengths)])
  where = np.linspace(0, place[-1], num)
  k = np.clip(np.searchsorted(place, where, "right") - 1, 0, len(lengths) - 1)
  h = lengths[k]
  t = (where - place[k])[:, None] / h
  a = (1 + 2 * t) * (1 - t) ** 2
  b = t * t * (3 - 2 * t)
  c = t * (1 - t) ** 2 * h
  d = t * t * (t - 1) * h
  return a * knots[k] + b * knots[k + 1] + c * tangents[k] + d * tangents[k + 1]


def rise(values: np.ndarray, low: float, high: float) -> np.ndarray:
  """Returns 0 below `low`, 1 above `high` and a smooth step between."""
  # In place: a third of the drawing time went into copies here.
  t = values - np.float32(low)
  t *= np.float32(1 / (high - low))
  np.clip(t, 0, 1, out=t)
  step = t * t
  t *= -2
  t += 3
  step *= t
  return step


def box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
  """Returns x0, y0, x1, y1 (ends excluded) of where (H, W) `mask` is True."""
  if not mask.any():
    return None
  rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
  return (
    int(columns[0]),
    int(rows[0]),
    int(columns[-1]) + 1,
    int(rows[-1]) + 1,
  )
