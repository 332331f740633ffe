"""Pictures that stand in two splits: equal ones, and ones that look alike."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep import splits

# Of 64 bits. Cut into five bands, two such hashes agree in one band at least:
# that is how candidates are found.
MAX_DISTANCE = 4
_BANDS = MAX_DISTANCE + 1
_CANDIDATES = 2**22  # compared at a time; bounds the memory
# More are not looked for: a set this much alike needs another way to look.
MAX_PAIRS = 100_000


@dataclasses.dataclass(frozen=True)
class Image:
  """What is known of a stored image.

  Attributes:
    image_id: hashed.
    split: one of `splits.SPLITS`.
    pixels_digest: equal for equal pixels only.
    perceptual_hash: 64 bits, from `convert.perceptual_hash`.
  """

  image_id: str
  split: str
  pixels_digest: str
  perceptual_hash: int


def find_equal(images: Iterable[Image]) -> list[str]:
  """Returns the ids of images whose pixels stand in a later split too.

  Without these, no picture is in two splits: of equal ones in train and test,
  that in train is named. Sorted.
  """
  images = list(images)
  rank = {split: place for place, split in enumerate(splits.SPLITS)}
  last: dict[str, int] = {}
  for image in images:
    place = rank[image.split]
    last[image.pixels_digest] = max(last.get(image.pixels_digest, 0), place)
  return sorted(
    image.image_id
    for image in images
    if rank[image.split] < last[image.pixels_digest]
  )


def find_near(images: Sequence[Image]) -> list[tuple[str, str, int]]:
  """Returns the pairs across splits whose hashes differ in few bits.

  Each is (image_id, image_id, bits that differ), the earlier split's first,
  for up to `MAX_DISTANCE` bits, `MAX_PAIRS` of them at most. Chest
  radiographs are much alike: such a pair is one to look at, not always one
  patient. Sorted.
  """
  found = set()
  by_split = {
    split: [image for image in images if image.split == split]
    for split in splits.SPLITS
  }
  for place, first in enumerate(splits.SPLITS):
    for second in splits.SPLITS[place + 1 :]:
      for pair in _join(by_split[first], by_split[second]):
        found.add(pair)
        if len(found) == MAX_PAIRS:
          return sorted(found)
  return sorted(found)


def _join(
  left: Sequence[Image], right: Sequence[Image]
) -> Iterable[tuple[str, str, int]]:
  a = np.array([image.perceptual_hash for image in left], np.uint64)
  b = np.array([image.perceptual_hash for image in right], np.uint64)
  if not (len(a) and len(b)):
    return
  for band in range(_BANDS):
    low, high = band * 64 // _BANDS, (band + 1) * 64 // _BANDS
    mask = np.uint64((1 << (high - low)) - 1)
    a_keys, b_keys = ((hashes >> np.uint64(low)) & mask for hashes in (a, b))
    order = np.argsort(b_keys, kind="stable")
    begins = np.searchsorted(b_keys[order], a_keys, "left")
    counts = np.searchsorted(b_keys[order], a_keys, "right") - begins
    # As many rows at a time as have that many candidates in all.
    chunks = np.cumsum(counts) // _CANDIDATES
    for chunk in np.unique(chunks[counts > 0]):
      rows = np.flatnonzero((chunks == chunk) & (counts > 0))
      i = np.repeat(rows, counts[rows])
      offsets = np.arange(len(i)) - np.repeat(
        np.cumsum(counts[rows]) - counts[rows], counts[rows]
      )
      j = order[np.repeat(begins[rows], counts[rows]) + offsets]
      distances = np.bitwise_count(a[i] ^ b[j])
      for k in np.flatnonzero(distances <= MAX_DISTANCE):
        yield left[i[k]].image_id, right[j[k]].image_id, int(distances[k])
