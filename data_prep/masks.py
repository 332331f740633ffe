"""Outlines of findings, as COCO's compressed run lengths hold them."""

import cv2
import numpy as np

MAX_PIXELS = 2**27
_MAX_DIGITS = 7  # of 5 bits: more than any run of MAX_PIXELS needs


def decode_rle(counts: str, size: tuple[int, int]) -> np.ndarray:
  """Returns the mask, (H, W) bool.

  Args:
    counts: COCO's compressed form: the lengths of runs, outside and inside in
      turn, down the columns. A length is written in digits of 5 bits, the
      lowest first, each as the character 48 + digit, with 32 added where
      another follows; from the fourth on, less the length two before it.
    size: (H, W) of the mask.

  Raises:
    ValueError: if the characters are no run lengths, or do not fill `size`,
      or that is not between 1 and MAX_PIXELS pixels.

  Source: the format of pycocotools' `maskApi`, written anew.
  """
  runs = _decode_runs(counts, size)
  inside = np.arange(len(runs)) % 2 == 1
  height, width = size
  return np.repeat(inside, runs).reshape(width, height).T


def area(counts: str, size: tuple[int, int]) -> int:
  """Returns how many pixels are inside; arguments and errors as above."""
  return int(_decode_runs(counts, size)[1::2].sum())


def shrink_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Returns the mask at the stored image's size, as bool.

  Args:
    mask: (H, W) bool.
    shape: (height, width), neither above H, W. A pixel there is inside where
      half of the area it covers is; of a thin outline nothing may be left.
  """
  if mask.shape == shape:
    return mask
  height, width = shape
  covered = cv2.resize(
    np.uint8(255) * mask, (width, height), interpolation=cv2.INTER_AREA
  )
  return covered >= 128


def _decode_runs(counts: str, size: tuple[int, int]) -> np.ndarray:
  height, width = size
  pixels = height * width
  if not (height > 0 and width > 0 and pixels <= MAX_PIXELS):
    raise ValueError(
      f"mask size {height} x {width} is not between 1 and {MAX_PIXELS} pixels"
    )
  digits = np.frombuffer(counts.encode("utf-8"), np.uint8).astype(np.int64) - 48
  if not digits.size or digits.min() < 0 or digits.max() > 63:
    raise ValueError("mask counts hold characters that are no digits")
  ends = np.flatnonzero(digits < 32)
  starts = np.concatenate([[0], ends[:-1] + 1])
  lengths = ends - starts + 1
  if not ends.size or ends[-1] != digits.size - 1:
    raise ValueError("mask counts end within a number")
  if lengths.max() > _MAX_DIGITS:
    raise ValueError(f"mask counts hold a number of over {_MAX_DIGITS} digits")
  places = np.arange(digits.size) - np.repeat(starts, lengths)
  runs = np.add.reduceat((digits & 31) << (5 * places), starts)
  # The highest bit of the last digit is the sign, in two's complement.
  runs -= (digits[ends] & 16) << (5 * lengths - 4)
  runs[1::2] = np.cumsum(runs[1::2])
  runs[2::2] = np.cumsum(runs[2::2])
  if runs.min() < 0 or runs.max() > pixels or runs.sum() != pixels:
    raise ValueError(f"mask counts do not fill {height} x {width} pixels")
  return runs
