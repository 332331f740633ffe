"""Zero-shot classification: is an image nearer to "there is" or to "no"?

`ZeroShot` is made once from a prepared dataset and run on any encoder, so that
evaluation during training and `launch/eval.py` cannot drift apart.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import tqdm
from scipy import special

from tier_jax.data import records, shards, transforms
from tier_jax.evaluators import prompts
from tier_jax.evaluators.benchmarks import benchmark as benchmarks

# Embeddings of all images of a split, by dataset and split.
Kept = dict[tuple[pathlib.Path, str], np.ndarray]

GROUPS = ("sex", "age_band", "view")
# A study has images of several views, so that these alone are its own.
_STUDY_GROUPS = ("sex", "age_band")

_BATCH = 256  # images decoded at a time
_KEEP_BYTES = 256 * 2**20  # decoded images up to this much stay for later runs


class TextEmbeds(Protocol):
  """What an encoder returns for N texts.

  `text_embeds` (N, D) and `token_embeds` (N, T, D) are float32 of unit norm;
  `token_mask` (N, T) is True where a token counts; `tokens` are N lists of T
  strings or fewer.
  """

  @property
  def text_embeds(self) -> np.ndarray: ...
  @property
  def token_embeds(self) -> np.ndarray: ...
  @property
  def token_mask(self) -> np.ndarray: ...
  @property
  def tokens(self) -> Sequence[Sequence[str]]: ...


class Encoder(Protocol):
  """A model, seen by an evaluator: arrays and texts in, embeddings out.

  `embed_images` takes (N, S, S) uint8, S = `image_size`, and returns unit
  float32 `image_embeds` (N, D) and `patch_embeds` (N, P, D); the patches are
  those of `grid` = (rows, columns), row by row. `embed_image_vectors` returns
  the same `image_embeds` alone: many images have room for no more.
  `embed_patches` returns the patches before they are scaled to unit norm.
  """

  @property
  def image_size(self) -> int: ...
  @property
  def grid(self) -> tuple[int, int]: ...
  def embed_images(
    self, images: np.ndarray, /
  ) -> tuple[np.ndarray, np.ndarray]: ...
  def embed_image_vectors(self, images: np.ndarray, /) -> np.ndarray: ...
  def embed_patches(self, images: np.ndarray, /) -> np.ndarray: ...
  def embed_texts(self, texts: Sequence[str], /) -> TextEmbeds: ...


@dataclasses.dataclass(frozen=True)
class Scores:
  """Truth and scores of N images (or studies) for L labels.

  Attributes:
    labels: L names.
    image_ids: N hashed ids; of studies, the study's.
    study_ids, patient_ids: N hashed ids.
    truth: (N, L) int8, 1 present, 0 absent, -1 not counted.
    scores: (N, L) float32, higher means more likely present; for the range see
      `benchmark.Benchmark`.
    groups: "sex", "age_band", "view" -> N values, "" where unknown; of studies,
      without "view".
  """

  labels: tuple[str, ...]
  image_ids: tuple[str, ...]
  study_ids: tuple[str, ...]
  patient_ids: tuple[str, ...]
  truth: np.ndarray
  scores: np.ndarray
  groups: Mapping[str, tuple[str, ...]]

  def by_study(self) -> "Scores":
    """Returns one row a study: its labels, and the mean of its images' scores.

    Sex and age of a study are those of its first image.

    Raises:
      ValueError: if images of one study carry different labels or patients.
    """
    ids, first, index = np.unique(
      self.study_ids, return_index=True, return_inverse=True
    )
    patients = np.asarray(self.patient_ids)
    clash = (self.truth != self.truth[first][index]).any(axis=1)
    clash |= patients != patients[first][index]
    if clash.any():
      raise ValueError(
        f"{len(np.unique(index[clash]))} studies hold images of different "
        "labels or patients, expected the study's own on each"
      )
    sums = np.zeros((len(ids), len(self.labels)))
    np.add.at(sums, index, self.scores.astype(np.float64))
    means = sums / np.bincount(index)[:, None]
    names = tuple(map(str, ids))
    return dataclasses.replace(
      self,
      image_ids=names,
      study_ids=names,
      patient_ids=tuple(map(str, patients[first])),
      truth=self.truth[first],
      scores=means.astype(np.float32),
      groups={
        name: tuple(self.groups[name][i] for i in first)
        for name in _STUDY_GROUPS
      },
    )


class NoLabelsError(ValueError):
  """No record of a split states one of a benchmark's labels."""


class ZeroShot:
  """One benchmark over one prepared dataset.

  Attributes:
    benchmark: what is asked.
    directory: of the dataset.
    unscored: its rows, with scores of 0.
  """

  def __init__(
    self, benchmark: benchmarks.Benchmark, directory: str | pathlib.Path
  ):
    """Reads the labels and ids of the split, and no pixels.

    Args:
      benchmark: what is asked.
      directory: of the prepared dataset.

    Raises:
      ValueError: if the directory is not a prepared dataset, the split is
        missing or empty.
      NoLabelsError: if none of its records states one of the labels.
    """
    self.benchmark = benchmark
    self.directory = pathlib.Path(directory)
    self._source = shards.open_split(directory, benchmark.split)
    self._images: tuple[int, np.ndarray] | None = None
    blank = 0 if benchmark.unlisted_is_absent else -1
    rows = [
      records.read_facts(self._source[i])
      for i in _progress(len(self._source), "reading labels")
    ]
    names = sorted({name for row in rows for name in row.labels})
    labels = benchmark.labels or tuple(names)
    if not set(labels).intersection(names):
      raise NoLabelsError(
        f"benchmark {benchmark.name!r}: no record of the split "
        f"{benchmark.split!r} states any of its {len(labels)} labels, "
        f"expected labels such as {', '.join(labels[:3]) or 'a finding'}"
      )
    self.unscored = Scores(
      labels=labels,
      image_ids=tuple(row.image_id for row in rows),
      study_ids=tuple(row.study_id for row in rows),
      patient_ids=tuple(row.patient_id for row in rows),
      truth=np.array(
        [[row.labels.get(name, blank) for name in labels] for row in rows],
        np.int8,
      ),
      scores=np.zeros((len(rows), len(labels)), np.float32),
      groups={
        name: tuple(getattr(row, name) for row in rows) for name in GROUPS
      },
    )

  def texts(self) -> list[str]:
    """Returns the sentences that stand for the labels, each once."""
    return texts_of(self._prompts())

  def run(self, encoder: Encoder) -> Scores:
    """Returns the score of every image for every label."""
    text_embeds = encoder.embed_texts(self.texts()).text_embeds
    return self.score(self.embed(encoder), text_embeds)

  def embed(self, encoder: Encoder, kept: Kept | None = None) -> np.ndarray:
    """Returns the (N, D) float32 embeddings of all images, in order.

    Args:
      encoder: of the images.
      kept: what the same encoder gave before; looked up, and added to.
    """
    key = self.directory, self.benchmark.split
    kept = {} if kept is None else kept
    if key not in kept:
      kept[key] = np.concatenate(
        [
          encoder.embed_image_vectors(images).astype(np.float32)
          for images in self._batches(encoder.image_size)
        ]
      )
    return kept[key]

  def score(self, image_embeds: np.ndarray, text_embeds: np.ndarray) -> Scores:
    """Returns the score of every image for every label.

    Args:
      image_embeds: (N, D) unit rows, of `unscored.image_ids`.
      text_embeds: (M, D) unit rows, of `texts`.
    """
    classes = class_embeds(self._prompts(), text_embeds)
    scores = score(image_embeds, classes, self.benchmark.scoring)
    return dataclasses.replace(self.unscored, scores=scores)

  def sibling(self, split: str) -> "ZeroShot | None":
    """Returns the same question of another split of the dataset.

    None if the dataset has no such split or none of the labels in it.
    """
    if split not in shards.splits(self.directory):
      return None
    benchmark = dataclasses.replace(
      self.benchmark, split=split, labels=self.unscored.labels
    )
    try:
      return ZeroShot(benchmark, self.directory)
    except NoLabelsError:
      return None

  def record(self, index: int) -> records.Record:
    """Returns the record of row `index`."""
    return records.decode(self._source[index])

  def positives(self) -> dict[str, list[int]]:
    """Returns the rows in which each label is present."""
    return {
      name: np.flatnonzero(self.unscored.truth[:, i] == 1).tolist()
      for i, name in enumerate(self.unscored.labels)
    }

  def _prompts(self) -> list[prompts.Prompts]:
    return [self.benchmark.prompts(name) for name in self.unscored.labels]

  def _batches(self, size: int) -> Iterator[np.ndarray]:
    """Yields all images in order, (B, S, S) uint8; few ones stay decoded."""
    if self._images is not None and self._images[0] == size:
      images = self._images[1]
      for start in range(0, len(images), _BATCH):
        yield images[start : start + _BATCH]
      return
    keep = len(self._source) * size * size <= _KEEP_BYTES
    kept = []
    for start in _progress(len(self._source), "scoring images", _BATCH):
      stop = min(start + _BATCH, len(self._source))
      batch = np.stack(
        [
          transforms.eval_image(self.record(i).image, size)
          for i in range(start, stop)
        ]
      )
      if keep:
        kept.append(batch)
      yield batch
    if keep:
      self._images = size, np.concatenate(kept)


def _progress(count: int, what: str, step: int = 1) -> Iterable[int]:
  """Returns range(0, count, step), with a bar on a terminal if slow."""
  return tqdm.tqdm(
    range(0, count, step), what, disable=None, leave=False, delay=3
  )


def texts_of(asked: Sequence[prompts.Prompts]) -> list[str]:
  """Returns the sentences that stand for labels, each once."""
  return list(dict.fromkeys(text for side in _sides(asked) for text in side))


def class_embeds(
  asked: Sequence[prompts.Prompts], text_embeds: np.ndarray
) -> np.ndarray:
  """Returns (2, L, D): the labels' positive and negative class embeddings.

  A class embedding is the mean of the unit embeddings of its sentences, scaled
  back to unit norm.

  Args:
    asked: the sentences of L labels.
    text_embeds: (M, D) unit rows, of `texts_of(asked)`.
  """
  embeds = dict(zip(texts_of(asked), text_embeds, strict=True))
  classes = [
    class_embed([embeds[text] for text in side]) for side in _sides(asked)
  ]
  return np.stack(classes).reshape(2, len(asked), -1)


def _sides(asked: Sequence[prompts.Prompts]) -> list[tuple[str, ...]]:
  """Returns the labels' L positive sides and then their L negative ones."""
  return [item.positive for item in asked] + [item.negative for item in asked]


def score(
  image_embeds: np.ndarray, classes: np.ndarray, scoring: str = "difference"
) -> np.ndarray:
  """Returns the (N, L) float32 scores of images for labels.

  Args:
    image_embeds: (N, D) unit rows.
    classes: (2, L, D), see `class_embeds`.
    scoring: see `benchmark.Benchmark`.
  """
  positive, negative = classes
  image_embeds = image_embeds.astype(np.float32)
  if scoring == "positive_only":
    scores = image_embeds @ positive.T
  else:
    scores = image_embeds @ (positive - negative).T
  if scoring == "softmax":
    # Of two numbers, it is the logistic function of their difference.
    scores = special.expit(scores)
  return scores.astype(np.float32)


def class_embed(embeds: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the mean of (D,) unit embeddings, scaled back to unit norm."""
  mean = np.mean(np.asarray(embeds, np.float64), axis=0)
  return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)
