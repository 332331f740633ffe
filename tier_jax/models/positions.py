"""Position embeddings of one grid of patches made to fit another."""

import math

import numpy as np


def resize(
  table: np.ndarray, count: int, *, antialias: bool = False
) -> np.ndarray:
  """Returns positions (1, count, W), float32, of a square grid.

  Bicubic, with the edges repeated, as torch's `interpolate` has it with
  align_corners=False, and so Hugging Face's `interpolate_pos_encoding`.

  Args:
    table: (1, N, W) of a square grid, row-major. Where N is one more than a
      square, the first is the class token's, and stays as it is.
    count: positions wanted, a square, or one more where N is.
    antialias: torch's option of that name, whose kernel is another one even
      where the grid grows; DINOv2 with registers has it.

  Raises:
    ValueError: if N or count is no such number, or only one is a square.
  """
  (old, extra), (new, wanted) = _grid(table.shape[1]), _grid(count)
  if extra != wanted:
    raise ValueError(
      f"{table.shape[1]} positions cannot become {count}: one has a class token"
    )
  matrix = _matrix(old, new, antialias)
  grid = table[0, extra:].reshape(old, old, -1)
  grid = np.einsum("rs,cd,sdw->rcw", matrix, matrix, grid, optimize=True)
  patches = grid.reshape(1, new * new, -1).astype(np.float32)
  return np.concatenate([table[:, :extra], patches], axis=1)


def _grid(count):
  """The side of a square grid, and the tokens that come before it."""
  side = math.isqrt(count)
  extra = count - side * side
  if extra > 1:
    raise ValueError(f"{count} positions, expected a square or one more")
  return side, extra


def _matrix(old, new, antialias):
  """(new, old) float64 weights of the old positions along one axis."""
  scale = old / new
  stretch = max(scale, 1.0) if antialias else 1.0
  a = -0.5 if antialias else -0.75
  reach = math.ceil(2 * stretch)
  source = (np.arange(new) + 0.5) * scale - 0.5
  matrix = np.zeros((new, old))
  for j in range(-reach, old + reach):
    weight = _cubic(np.abs(j - source) / stretch, a)
    if 0 <= j < old or not antialias:
      matrix[:, min(max(j, 0), old - 1)] += weight
  return matrix / matrix.sum(1, keepdims=True)


def _cubic(x, a):
  """Keys's kernel at distance x."""
  near = ((a + 2) * x - (a + 3)) * x * x + 1
  far = ((x - 5) * x + 8) * a * x - 4 * a
  return np.where(x < 1, near, np.where(x < 2, far, 0.0))
