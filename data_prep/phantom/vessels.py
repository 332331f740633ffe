"""The vessels of the lungs, branching from the hila."""

import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import canvas as canvas_lib

# Generations of vessels: length and width in units, density in [0, 1].
TWIGS = (
  (0.085, 0.0135, 0.50),
  (0.085, 0.0090, 0.55),
  (0.080, 0.0060, 0.60),
  (0.070, 0.0040, 0.60),
)


def draw(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  depth: np.ndarray,
  shade: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the attenuation (H, W) of both lungs' vessels and hila.

  Args:
    canvas: the sheet.
    anatomy: whose.
    depth: (H, W) how much air there is, in [0, 1].
    shade: (H, W) the heart, which hides them.
    rng: of the branching.
  """
  layer = np.zeros(canvas.shape, np.uint8)
  rough = canvas.half()
  near = np.zeros(rough.shape, np.float32)
  roots = np.zeros(rough.shape, np.float32)
  grown: list[list[np.ndarray]] = [[] for _ in TWIGS]
  for side in (-1, 1):
    hilum_x = side * rng.uniform(0.085, 0.11)
    hilum_y = -0.045 - (0.025 if side > 0 else 0.0)
    roots += rough.spot(hilum_x, hilum_y, 0.030, 0.055, 0.35 * side)
    near += rough.spot(hilum_x * 1.3, hilum_y + 0.03, 0.15, 0.20)
    heads = np.linspace(-1.45, 1.5, 9) + rng.normal(0, 0.15, 9)
    starts = np.stack([np.full(9, hilum_x), hilum_y + 0.05 * np.sin(heads)], 1)
    for level, (length, _, _) in enumerate(TWIGS):
      twigs, heads = grow(starts, heads, side, length, rng)
      grown[level].extend(twigs)
      starts = np.repeat(twigs[:, -1], 2, 0)
      turns = rng.uniform(0.1, 0.6, len(starts))
      turns[::2] *= -1
      heads = np.repeat(heads, 2) + turns
  for twigs, (_, width, value) in reversed(
    list(zip(grown, TWIGS, strict=True))
  ):
    canvas.stroke(twigs, width, value, layer)
  vessels = canvas.blur(layer.astype(np.float32) / 255, 0.0028)
  # More flow runs to the bases of a person who stands.
  near = (0.35 + 0.65 * near) * (
    0.7 + 0.3 * canvas_lib.rise(rough.y, -0.4, 0.1)
  )
  vessels *= canvas.whole(near)
  vessels *= 1 - 0.75 * shade
  vessels = 0.17 * vessels + canvas.whole(0.10 * roots)
  return np.float32(anatomy.vessels) * vessels * np.minimum(1, 1.5 * depth)


def grow(
  starts: np.ndarray,
  heads: np.ndarray,
  side: int,
  length: float,
  rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
  """Returns (n, 5, 2) twigs from (n, 2) starts and the (n,) ends' headings."""
  n = len(starts)
  bends = rng.normal(0, 0.35, n)
  lengths = length * rng.uniform(0.6, 1.35, n)
  angles = heads[:, None] + bends[:, None] * np.linspace(0, 1, 4)  # (n, 4)
  steps = np.stack([side * np.cos(angles), np.sin(angles)], 2)  # (n, 4, 2)
  path = np.cumsum(steps * lengths[:, None, None] / 4, 1)
  twigs = np.concatenate([np.zeros((n, 1, 2)), path], 1) + starts[:, None]
  return twigs, angles[:, -1]
