"""Zero-shot classification: is an image nearer to "there is" or to "no"?

`ZeroShot` is made once from a prepared dataset and run on any encoder, so that
evaluation during training and `launch/eval.py` cannot drift apart.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import tqdm

from tier_jax.data import loader, records, transforms
from tier_jax.evaluators import bootstrap, statistics
from tier_jax.evaluators.benchmarks import benchmark as benchmarks

NUM_RESAMPLES = 2000
SEED = 0

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
  those of `grid` = (rows, columns), row by row.
  """

  @property
  def image_size(self) -> int: ...
  @property
  def grid(self) -> tuple[int, int]: ...
  def embed_images(
    self, images: np.ndarray, /
  ) -> tuple[np.ndarray, np.ndarray]: ...
  def embed_texts(self, texts: Sequence[str], /) -> TextEmbeds: ...


@dataclasses.dataclass(frozen=True)
class Scores:
  """Truth and scores of N images (or studies) for L labels.

  Attributes:
    labels: L names.
    image_ids: N hashed ids; of studies, the study's.
    study_ids, patient_ids: N hashed ids.
    truth: (N, L) int8, 1 present, 0 absent, -1 not counted.
    scores: (N, L) float32 in [-2, 2], higher means more likely present.
  """

  labels: tuple[str, ...]
  image_ids: tuple[str, ...]
  study_ids: tuple[str, ...]
  patient_ids: tuple[str, ...]
  truth: np.ndarray
  scores: np.ndarray

  def by_study(self) -> "Scores":
    """Returns one row a study: its labels, and the mean of its images' scores.

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
    )


class ZeroShot:
  """One benchmark over one prepared dataset."""

  def __init__(
    self, benchmark: benchmarks.Benchmark, directory: str | pathlib.Path
  ):
    """Reads the labels and ids of the split.

    Args:
      benchmark: what is asked.
      directory: of the prepared dataset.

    Raises:
      ValueError: if the directory is not a prepared dataset, the split is
        missing or empty, or none of its records states one of the labels.
    """
    self.benchmark = benchmark
    self.directory = pathlib.Path(directory)
    self._source = loader.open_split(directory, benchmark.split)
    self._images: tuple[int, np.ndarray] | None = None
    blank = 0 if benchmark.unlisted_is_absent else -1
    ids: list[tuple[str, str, str]] = []
    stated: list[Mapping[str, int]] = []
    for i in _progress(len(self._source), "reading labels"):
      record = records.decode(self._source[i])
      ids.append((record.image_id, record.study_id, record.patient_id))
      stated.append(record.labels)
    names = sorted({name for labels in stated for name in labels})
    labels = benchmark.labels or tuple(names)
    if not set(labels).intersection(names):
      raise ValueError(
        f"benchmark {benchmark.name!r}: no record of the split "
        f"{benchmark.split!r} states any of its {len(labels)} labels, "
        f"expected labels such as {', '.join(labels[:3]) or 'a finding'}"
      )
    self._unscored = Scores(
      labels=labels,
      image_ids=tuple(image for image, _, _ in ids),
      study_ids=tuple(study for _, study, _ in ids),
      patient_ids=tuple(patient for _, _, patient in ids),
      truth=np.array(
        [[row.get(name, blank) for name in labels] for row in stated], np.int8
      ),
      scores=np.zeros((len(ids), len(labels)), np.float32),
    )

  def run(self, encoder: Encoder) -> Scores:
    """Returns the score of every image for every label.

    A score is cos(image, positive) - cos(image, negative), where positive is
    the mean of the unit embeddings of the label's positive sentences, scaled
    back to unit norm, and negative likewise of its negative ones.
    """
    positive, negative = self._class_embeds(encoder)
    axes = (positive - negative).T  # (D, L)
    scores = [
      encoder.embed_images(images)[0].astype(np.float32) @ axes
      for images in self._batches(encoder.image_size)
    ]
    return dataclasses.replace(
      self._unscored, scores=np.concatenate(scores).astype(np.float32)
    )

  def record(self, index: int) -> records.Record:
    """Returns the record of row `index`."""
    return records.decode(self._source[index])

  def positives(self) -> dict[str, list[int]]:
    """Returns the rows in which each label is present."""
    return {
      name: np.flatnonzero(self._unscored.truth[:, i] == 1).tolist()
      for i, name in enumerate(self._unscored.labels)
    }

  def _class_embeds(self, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Returns (L, D) positive and (L, D) negative class embeddings."""
    prompts = [self.benchmark.prompts(name) for name in self._unscored.labels]
    sides = [item.positive for item in prompts]
    sides += [item.negative for item in prompts]
    texts = list(dict.fromkeys(text for side in sides for text in side))
    embeds = dict(
      zip(texts, encoder.embed_texts(texts).text_embeds, strict=True)
    )
    classes = np.stack(
      [class_embed([embeds[t] for t in side]) for side in sides]
    )
    return classes[: len(prompts)], classes[len(prompts) :]

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


def class_embed(embeds: Sequence[np.ndarray]) -> np.ndarray:
  """Returns the mean of (D,) unit embeddings, scaled back to unit norm."""
  mean = np.mean(np.asarray(embeds, np.float64), axis=0)
  return (mean / max(float(np.linalg.norm(mean)), 1e-12)).astype(np.float32)


def summarise(
  scores: Scores, *, num_resamples: int = NUM_RESAMPLES, seed: int = SEED
) -> dict[str, Any]:
  """Returns AUROCs with 95 % intervals, as metrics.json holds them.

  Args:
    scores: of images or studies; patients are what is resampled.
    num_resamples: 0 for no intervals (low and high are then None).
    seed: of the resampling.

  Returns:
    rows, patients: how many.
    macro_auroc: value, low, high, num_labels (those with both classes).
    labels: for each label auroc (value, low, high, or None when it lacks a
      class), positives, negatives and redrawn resamples.
  """
  draws = bootstrap.ranking_draws(
    scores.truth,
    scores.scores,
    scores.patient_ids,
    num_resamples=num_resamples,
    seed=seed,
  )
  labels = {}
  for i, name in enumerate(scores.labels):
    truth = scores.truth[:, i]
    value = statistics.auroc(truth, scores.scores[:, i])
    low, high = statistics.interval(draws.values["auroc"][:, i])
    labels[name] = {
      "auroc": None
      if value is None
      else {"value": value, "low": low, "high": high},
      "positives": int((truth == 1).sum()),
      "negatives": int((truth == 0).sum()),
      "redrawn": int(draws.redrawn[i]),
    }
  values = [
    item["auroc"] and item["auroc"]["value"] for item in labels.values()
  ]
  value, num_labels = statistics.macro(values)
  low, high = statistics.interval(macro_draws(draws))
  return {
    "rows": len(scores.image_ids),
    "patients": len(set(scores.patient_ids)),
    "macro_auroc": {
      "value": value,
      "low": low,
      "high": high,
      "num_labels": num_labels,
    },
    "labels": labels,
  }


def macro_draws(draws: bootstrap.Draws) -> np.ndarray:
  """Returns the (R,) macro AUROC of each resample over the available labels."""
  values = draws.values["auroc"]
  available = ~np.isnan(values).all(axis=0)
  if not available.any():
    return np.empty(0)
  return values[:, available].mean(axis=1)
