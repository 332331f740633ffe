"""Held-out images with their reports' texts."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tier_jax.data import records, shards, texts, transforms

_BATCH = 64  # images decoded at a time


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image, no lateral, and the text of its study.

  Attributes:
    place: of the record in its split.
    study_id, patient_id: hashed ids.
    text: the impression or, without one, the findings.
  """

  place: int
  study_id: str
  patient_id: str
  text: str


def held_out(directory: Path) -> str | None:
  """Returns "test" or else "validate", whichever has records; else None.

  Raises:
    ValueError: if the directory is there but no prepared dataset.
  """
  there = shards.splits(directory)
  return next((split for split in ("test", "validate") if split in there), None)


def read(source: shards.Shards) -> list[Pair]:
  """Returns the images of a split that have a text, in order."""
  found = []
  for place in range(len(source)):
    facts = records.read_facts(source[place])
    text = texts.choose(
      {"impression": facts.impression, "findings": facts.findings},
      texts.SECTIONS,
    )
    if text and facts.view != "lateral":
      found.append(Pair(place, facts.study_id, facts.patient_id, text))
  return found


def images(
  source: shards.Shards, places: Sequence[int], size: int
) -> Iterator[np.ndarray]:
  """Yields the images at `places` as a model sees them, (B, S, S) uint8."""
  for start in range(0, len(places), _BATCH):
    yield np.stack(
      [
        transforms.eval_image(records.decode(source[place]).image, size)
        for place in places[start : start + _BATCH]
      ]
    )
