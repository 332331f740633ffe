"""The vectors of a split's images and reports, and which are nearest.

They are computed once and kept in a file, named by the digest of all that they
depend on: vectors alone, and where their records stand. Texts and pixels stay
in the prepared dataset.
"""

import dataclasses
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from data_prep import progress
from tier_jax import inference
from tier_jax.data import records, shards, texts
from tier_jax.evaluators import digests, pairs

_TEXT_BATCH = 256


@dataclasses.dataclass(frozen=True)
class Vectors:
  """What is kept of N images, no laterals, and of the M texts they have.

  Attributes:
    image_embeds: (N, D) float32 unit rows.
    image_places: (N,) int64, of the records in their split.
    text_embeds: (M, D) float32 unit rows; no two texts say the same.
    text_places: (M,) int64, of the first record that has the text.
    text_studies: (M,) int64, how many studies have it.
  """

  image_embeds: np.ndarray
  image_places: np.ndarray
  text_embeds: np.ndarray
  text_places: np.ndarray
  text_studies: np.ndarray


@dataclasses.dataclass(frozen=True)
class Neighbour:
  """An image of the index with its report.

  Attributes:
    cosine: with what was asked for.
    image: (H, W) uint8.
    text: impression or else findings.
    studies: how many have that text.
  """

  cosine: float
  image: np.ndarray
  text: str
  studies: int = 1


@dataclasses.dataclass(frozen=True)
class Index:
  """The vectors of a split, and its records.

  Attributes:
    name: dataset and split, to be shown.
    vectors: of the split.
    source: its records.
  """

  name: str
  vectors: Vectors
  source: shards.Shards

  def nearest_images(self, vector: np.ndarray, count: int) -> list[Neighbour]:
    """Returns those whose image is nearest to a (D,) vector, nearest first.

    Raises:
      ValueError: if a record does not read.
    """
    cosines = self.vectors.image_embeds @ vector
    return [
      self._read(int(self.vectors.image_places[row]), float(cosines[row]))
      for row in np.argsort(-cosines, kind="stable")[:count]
    ]

  def nearest_reports(self, vector: np.ndarray, count: int) -> list[Neighbour]:
    """Returns those whose text is nearest, nearest first, each text once.

    Raises:
      ValueError: if a record does not read.
    """
    cosines = self.vectors.text_embeds @ vector
    return [
      dataclasses.replace(
        self._read(int(self.vectors.text_places[row]), float(cosines[row])),
        studies=int(self.vectors.text_studies[row]),
      )
      for row in np.argsort(-cosines, kind="stable")[:count]
    ]

  def _read(self, place: int, cosine: float) -> Neighbour:
    record = records.decode(self.source[place])
    sections = {"impression": record.impression, "findings": record.findings}
    text = texts.choose(sections, texts.SECTIONS)
    return Neighbour(cosine, record.image, text)


def load(
  model: inference.Model, directory: Path, split: str | None, folder: Path
) -> Index:
  """Returns the index of a split, built if it is not in the folder.

  Args:
    model: embeds.
    directory: of a prepared dataset with reports.
    split: of it; by default test or, without one, validate.
    folder: keeps the vectors; made if it is not there.

  Raises:
    ValueError: if there is no such split, none of its images has a report, or
      a record does not read.
    OSError: if the vectors cannot be written.
  """
  split = split or pairs.held_out(directory) or "test"
  source = shards.open_split(directory, split)
  path = folder / f"{_digest(model, directory, split)}.npz"
  vectors = _read_vectors(path)
  if vectors is None:
    vectors = _build(model, source, f"{directory.name} {split}")
    _write(path, vectors)
  return Index(f"{directory.name} {split}", vectors, source)


def _digest(model: inference.Model, directory: Path, split: str) -> str:
  facts = {
    # Of what is no parameter, as batch statistics, the step tells.
    "model": [model.params_digest, model.params_kind, model.step],
    "data": [split, shards.read_manifest(directory)["splits"][split]],
    "code": digests.of_code(),
  }
  text = json.dumps(facts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _read_vectors(path: Path) -> Vectors | None:
  """Returns what `_write` wrote, or None where there is nothing sound."""
  try:
    with np.load(path, allow_pickle=False) as arrays:
      return Vectors(**arrays)
  except FileNotFoundError:
    return None
  except (ValueError, TypeError, OSError, EOFError, zipfile.BadZipFile):
    logging.warning("%s is damaged, it is built anew", path)
    return None


def _write(path: Path, vectors: Vectors) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  part = path.with_suffix(f".{os.getpid()}.part")
  try:
    with part.open("wb") as file:
      np.savez(file, **vars(vectors))
    part.replace(path)  # whole, or not there
  finally:
    part.unlink(missing_ok=True)


def _build(model: inference.Model, source: shards.Shards, name: str) -> Vectors:
  found = pairs.read(source)
  if not found:
    raise ValueError(
      f"no image of {name} has a report, expected a dataset with texts"
    )
  logging.info("indexing %d images of %s, once", len(found), name)
  image_places = [pair.place for pair in found]
  image_embeds = []
  with progress.Counter(len(found)) as counter:
    for images in pairs.images(source, image_places, model.encoder.image_size):
      image_embeds.append(model.encoder.embed_image_vectors(images))
      counter.add(len(images))
  same: dict[str, list[pairs.Pair]] = {}
  for pair in found:
    same.setdefault(texts.normalise(pair.text), []).append(pair)
  firsts = [group[0] for group in same.values()]
  text_embeds = []
  with progress.Counter(len(firsts), "texts") as counter:
    for start in range(0, len(firsts), _TEXT_BATCH):
      batch = [pair.text for pair in firsts[start : start + _TEXT_BATCH]]
      text_embeds.append(model.encoder.embed_texts(batch).text_embeds)
      counter.add(len(batch))
  arrays: dict[str, Any] = {
    "image_embeds": np.concatenate(image_embeds),
    "image_places": np.array(image_places, np.int64),
    "text_embeds": np.concatenate(text_embeds),
    "text_places": np.array([pair.place for pair in firsts], np.int64),
    "text_studies": np.array(
      [len({pair.study_id for pair in group}) for group in same.values()],
      np.int64,
    ),
  }
  return Vectors(**arrays)
