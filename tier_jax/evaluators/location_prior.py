"""Pointing without looking: the most common place of each finding.

A model that grounds must beat this: in a chest, most findings have their place.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tier_jax.data import shards
from tier_jax.evaluators import regions

# Grounding sets such as MS-CXR lie outside of train.
_SPLITS = ("train", "validate")


@dataclasses.dataclass(frozen=True)
class LocationPrior:
  """Mean truths of a split, as maps of the model's view.

  Attributes:
    split: that they were taken from.
    by_finding: finding -> (S, S) float64 in [0, 1], how often it lies there.
    by_phrase: the same of the items that one sentence asks for: a sentence
      that names a side tells more than the finding.
    rows: finding -> how many items its map is the mean of.
  """

  split: str
  by_finding: Mapping[str, np.ndarray]
  by_phrase: Mapping[str, np.ndarray]
  rows: Mapping[str, int]


def fit(directory: Path, scored_split: str, size: int) -> LocationPrior | None:
  """Returns the prior of train, or where that has no outlines, of validate.

  None if neither has any: the split that is scored is never looked at.

  Args:
    directory: of a prepared dataset.
    scored_split: to be scored.
    size: S, the side of the model's images.

  Raises:
    ValueError: if the directory is no prepared dataset, or a shard is damaged.
  """
  there = shards.splits(directory)
  for split in _SPLITS:
    if split == scored_split or split not in there:
      continue
    by_finding, by_phrase = _Means(), _Means()
    for _, items in regions.read(shards.open_split(directory, split), size):
      for item in items:
        by_finding.add(item.finding, item.mask)
        by_phrase.add(item.phrase, item.mask)
    if by_finding.counts:
      return LocationPrior(
        split=split,
        by_finding=by_finding.maps(),
        by_phrase=by_phrase.maps(),
        rows=by_finding.counts,
      )
  return None


class _Means:
  """Running means of masks under names."""

  def __init__(self):
    self.counts: dict[str, int] = {}
    self._sums: dict[str, np.ndarray] = {}

  def add(self, name: str, mask: np.ndarray) -> None:
    self.counts[name] = self.counts.get(name, 0) + 1
    self._sums[name] = self._sums.get(name, 0.0) + mask

  def maps(self) -> dict[str, np.ndarray]:
    return {name: self._sums[name] / self.counts[name] for name in self.counts}
