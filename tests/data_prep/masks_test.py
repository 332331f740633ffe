"""Run lengths against a slow decoder that follows the format's definition."""

import json

import cv2
import numpy as np
import pytest

from data_prep import masks

SIZE = (12, 9)


def slow_encode(mask: np.ndarray) -> str:
  """Returns COCO's compressed run lengths, one pixel and bit at a time."""
  runs, last = [0], False
  for pixel in mask.T.ravel():
    if pixel != last:
      runs.append(0)
      last = pixel
    runs[-1] += 1
  text = ""
  for i, run in enumerate(runs):
    number = run - runs[i - 2] if i > 2 else run
    more = True
    while more:
      digit, number = number & 31, number >> 5
      more = number != (-1 if digit & 16 else 0)
      text += chr(48 + digit + 32 * more)
  return text


def slow_decode(counts: str, size: tuple[int, int]) -> np.ndarray:
  """Returns the mask, one character at a time."""
  runs, number, shift = [], 0, 0
  for character in counts:
    digit = ord(character) - 48
    number += (digit % 32) * 32**shift
    shift += 1
    if digit >= 32:
      continue
    if digit >= 16:
      number -= 32**shift
    runs.append(number + runs[-2] if len(runs) > 2 else number)
    number, shift = 0, 0
  pixels = []
  for i, run in enumerate(runs):
    pixels += [i % 2 == 1] * run
  return np.array(pixels).reshape(size[1], size[0]).T


def random_mask(seed: int, size: tuple[int, int]) -> np.ndarray:
  """Returns blobs, so that runs of many lengths occur."""
  noise = np.random.default_rng(seed).normal(size=size)
  return cv2.GaussianBlur(noise, (0, 0), 0.3 + seed % 5) > 0


@pytest.mark.parametrize("seed", range(20))
def test_decode_gives_back_what_was_encoded(seed):
  mask = random_mask(seed, (7 + seed * 13, 5 + seed * 17))
  counts = slow_encode(mask)
  np.testing.assert_array_equal(slow_decode(counts, mask.shape), mask)
  np.testing.assert_array_equal(masks.decode_rle(counts, mask.shape), mask)
  assert masks.area(counts, mask.shape) == mask.sum()


def test_empty_and_full_masks():
  for mask in (np.zeros(SIZE, bool), np.ones(SIZE, bool)):
    got = masks.decode_rle(slow_encode(mask), SIZE)
    np.testing.assert_array_equal(got, mask)


@pytest.mark.parametrize(
  ("counts", "size", "words"),
  [
    ("", SIZE, "no digits"),
    ("12 3", SIZE, "no digits"),
    ("é", SIZE, "no digits"),
    ("\u0661", SIZE, "no digits"),
    ("l", SIZE, "within a number"),
    ("ooooooooooooooo0", SIZE, "over 7 digits"),
    ("11", SIZE, "do not fill 12 x 9"),
    ("oooooo?", SIZE, "do not fill"),
    # 108 pixels, by a run of -1.
    ("O]30", (12, 9), "do not fill"),
    (slow_encode(np.ones((13, 9), bool)), SIZE, "do not fill"),
    ("0", (0, 9), "size 0 x 9 is not"),
    ("0", (-1, -1), "size -1 x -1 is not"),
    ("0", (2**14, 2**14), "is not between 1 and"),
  ],
)
def test_malformed_counts_are_refused(counts, size, words):
  with pytest.raises(ValueError, match=words):
    masks.decode_rle(counts, size)


def test_shrinking_keeps_what_covers_half():
  mask = random_mask(3, (40, 60))
  covered = mask.reshape(20, 2, 30, 2).mean((1, 3))
  np.testing.assert_array_equal(
    masks.shrink_mask(mask, (20, 30)), covered >= 0.5
  )
  assert masks.shrink_mask(mask, (40, 60)) is mask


def test_shrinking_by_a_broken_ratio_keeps_what_covers_half():
  mask = random_mask(4, (61, 97))
  covered = _overlaps(61, 25) @ mask @ _overlaps(97, 40).T
  clear = np.abs(covered - 0.5) > 0.01  # OpenCV counts in 255ths
  small = masks.shrink_mask(mask, (25, 40))
  assert clear.mean() > 0.9
  np.testing.assert_array_equal(small[clear], (covered > 0.5)[clear])


def _overlaps(source: int, stored: int) -> np.ndarray:
  """Returns (stored, source): the share of each pixel in a stored one."""
  scale = source / stored
  shares = np.zeros((stored, source))
  for i in range(stored):
    for j in range(source):
      shared = min((i + 1) * scale, j + 1) - max(i * scale, j)
      shares[i, j] = max(shared, 0) / scale
  return shares


def test_masks_lie_where_radiologists_drew(shared_dir):
  """The release's masks against the polygons that they were drawn from."""
  directory = shared_dir / "labels/chexlocalize"
  segmentations = json.loads(
    (directory / "gt_segmentations_val.json").read_text("utf-8")
  )
  outlines = json.loads(
    (directory / "gt_annotations_val.json").read_text("utf-8")
  )
  compared = 0
  for name, polygons in outlines.items():
    for label, points in polygons.items():
      if label == "img_size":
        continue
      rle = segmentations[name][label]
      size = tuple(rle["size"])
      assert size == tuple(polygons["img_size"])
      mask = masks.decode_rle(rle["counts"], size)
      np.testing.assert_array_equal(mask, slow_decode(rle["counts"], size))
      drawn = np.zeros(size, np.uint8)
      for polygon in points:  # which may overlap
        cv2.fillPoly(drawn, [np.round(polygon).astype(np.int32)], 1)
      both = (mask & (drawn > 0)).sum()
      assert both / (mask | (drawn > 0)).sum() > 0.95
      compared += 1
  assert compared == 4
