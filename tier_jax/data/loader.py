"""Records to batches: read, augment, tokenise, batch, per process."""

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import cv2
import grain
import numpy as np

from tier_jax.data import pair_source, records, texts, tokenizer, transforms

_MAX_THREADS = 4  # of a process, that make batches
_BATCHES_AHEAD = 4  # of the one that is asked for, in a process
# Those threads are the parallelism: OpenCV's and the tokenizers' own would
# fight with them. Elsewhere these are not missed: a text takes 20 us.
cv2.setNumThreads(1)
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def train_iterator(
  source: pair_source.PairSource,
  config: pair_source.DataConfig,
  augment: transforms.AugmentConfig,
  tokenize: tokenizer.Tokenizer,
  *,
  image_size: int,
  batch_size: int,
  seed: int,
  second_view: bool = False,
  features: np.ndarray | None = None,
  process_index: int = 0,
  process_count: int = 1,
) -> "TrainIterator":
  """Returns an endless iterator over this process's part of each batch.

  Every batch is a dict of `image` (b, S, S) uint8, what `Tokenizer.__call__`
  gives (b, T), `study_hash` and `text_hash` (b, 2) uint32, and `record` (b,)
  int32, where b is batch_size / process_count. Equal hashes mean the same
  study, or texts that are equal once normalised; `record` is the index of what
  was read, see `PairSource.locate`. With `second_view` it also has
  `second_image`, an augmentation of the same image by other draws. With
  `features`, an array by the index of the record, `image` is what stands there
  for it, as it is. The order and each augmentation are fixed by the seed alone;
  `get_state` and `set_state` resume exactly, on any number of processes.

  Raises:
    ValueError: if the batch does not divide among the processes or is larger
      than the source. A batch raises as `pair_source.PairSource.read` does.
  """
  if batch_size % process_count:
    raise ValueError(
      f"batch_size {batch_size} is not a multiple of the {process_count} "
      "processes"
    )
  if batch_size > len(source):
    raise ValueError(
      f"batch_size {batch_size} exceeds the {len(source)} training pairs: "
      "pairs would be their own negatives"
    )

  return TrainIterator(
    _Batches(
      source,
      config,
      augment,
      tokenize,
      image_size=image_size,
      batch_size=batch_size,
      seed=seed,
      second_view=second_view,
      features=features,
      part=range(
        process_index * (batch_size // process_count),
        (process_index + 1) * (batch_size // process_count),
      ),
    ),
    config,
  )


class TrainIterator:
  """Batches one after another, read ahead by Grain; its position is a number.

  So that a run may be resumed with other threads, workers and processes.
  """

  def __init__(self, batches: "_Batches", config: pair_source.DataConfig):
    """Starts nothing yet: the first batch asked for does."""
    self._dataset = grain.MapDataset.source(batches)
    self._config = config
    self._next = 0
    self._iterator: grain.DatasetIterator | None = None

  def __iter__(self) -> "TrainIterator":
    return self

  def __next__(self) -> dict[str, np.ndarray]:
    if self._iterator is None:
      config = self._config
      dataset = self._dataset[self._next :].to_iter_dataset(
        grain.ReadOptions(min(config.num_threads, _MAX_THREADS), _BATCHES_AHEAD)
      )
      if config.num_workers:
        options = grain.MultiprocessingOptions(config.num_workers)
        dataset = dataset.mp_prefetch(options)
      self._iterator = iter(dataset)
    batch = next(self._iterator)
    self._next += 1
    return batch

  def get_state(self) -> dict[str, int]:
    """Returns where it stands, as JSON values."""
    return {"next_batch": self._next}

  def set_state(self, state: Mapping[str, int]) -> None:
    """Goes on from where `get_state` of an iterator of the same data stood."""
    self.close()
    self._next = state["next_batch"]

  def close(self) -> None:
    """Ends what reads ahead; the next batch asked for starts it again."""
    if self._iterator is not None:
      self._iterator.close()
    self._iterator = None


class _Batches:
  """This process's part of each batch, by the batch's number.

  A whole batch at a time, since per record Grain's own transforms take half as
  long as decoding the image does. Every epoch is a permutation of its own.
  """

  def __init__(
    self,
    source: pair_source.PairSource,
    config: pair_source.DataConfig,
    augment: transforms.AugmentConfig,
    tokenize: tokenizer.Tokenizer,
    *,
    image_size: int,
    batch_size: int,
    seed: int,
    second_view: bool,
    features: np.ndarray | None,
    part: range,
  ):
    self._source, self._config, self._tokenize = source, config, tokenize
    self._augment, self._image_size = augment, image_size
    self._batch_size, self._seed = batch_size, seed
    self._second_view, self._part = second_view, part
    self._features = features
    self._orders: dict[int, np.ndarray] = {}

  def __len__(self) -> int:
    return sys.maxsize  # it does not end

  def __getitem__(self, index: int) -> dict[str, np.ndarray]:
    views = {}
    if self._features is None:
      shape = (len(self._part), self._image_size, self._image_size)
      names = ["image"] + ["second_image"] * self._second_view
      views = {name: np.empty(shape, np.uint8) for name in names}
    chosen = []
    # Record by record: its picture is still in the processor's cache.
    for row, offset in enumerate(self._part):
      place = index * self._batch_size + offset
      # Of its place alone: the draws are the same on any number of processes.
      rng = np.random.default_rng((self._seed, place))
      i, pair = self._source.read(
        self._index(place), pixels=self._features is None
      )
      text = _choose_text(pair, self._config, rng)
      if rng.random() < self._config.sentence_probability:
        text = texts.sample_sentences(text, rng)
      chosen.append(_Chosen.of(i, pair, text))
      # The second is drawn last: the rest is the same without it.
      for view in views.values():
        view[row] = transforms.train_image(
          pair.image, self._image_size, self._augment, rng
        )
    if self._features is not None:
      views = {"image": self._features[[c.record for c in chosen]]}
    return {**views, **_collate(chosen, self._tokenize)}

  def _index(self, place: int) -> int:
    epoch, place = divmod(place, len(self._source))
    order = self._orders.get(epoch)
    if order is None:
      rng = np.random.default_rng((self._seed, epoch, len(self._source)))
      order = rng.permutation(len(self._source))
      # Threads are at most one epoch apart.
      recent = {e: o for e, o in self._orders.items() if e >= epoch - 1}
      self._orders = recent | {epoch: order}
    return int(order[place])


def eval_batches(
  source: pair_source.PairSource,
  config: pair_source.DataConfig,
  tokenize: tokenizer.Tokenizer,
  *,
  image_size: int,
  batch_size: int,
  process_index: int = 0,
  process_count: int = 1,
) -> Iterator[dict[str, np.ndarray]]:
  """Yields this process's part of each full batch, in order, unaugmented.

  As from `train_iterator`, without randomness and second view. The records
  after the last full batch are left out: a contrastive loss over fewer
  negatives is another quantity.
  """
  part = batch_size // process_count
  for start in range(0, len(source) - batch_size + 1, batch_size):
    first = start + process_index * part
    read = [source.read(i) for i in range(first, first + part)]
    images = [transforms.eval_image(p.image, image_size) for _, p in read]
    chosen = [_Chosen.of(i, p, _choose_text(p, config)) for i, p in read]
    yield {"image": np.stack(images), **_collate(chosen, tokenize)}


class _Chosen(NamedTuple):
  """Of a record, what a batch needs besides its image.

  Attributes:
    record: its index in the source.
    text: that stands for its report.
    study_hash, text_hash: 8 bytes, equal for what `train_iterator` says.
  """

  record: int
  text: str
  study_hash: bytes
  text_hash: bytes

  @classmethod
  def of(cls, record: int, pair: records.Pair, text: str) -> "_Chosen":
    text_hash = _hash(texts.normalise(text))
    return cls(record, text, _hash(pair.study_id), text_hash)


def _collate(
  chosen: Sequence[_Chosen], tokenize: tokenizer.Tokenizer
) -> dict[str, np.ndarray]:
  """Returns all of a batch but its images."""
  indices, report_texts, *hashes = zip(*chosen, strict=True)
  # Two numbers of 32 bits each, since jax has none of 64 by default.
  study_hash, text_hash = (
    np.frombuffer(b"".join(h), "<u4").astype(np.uint32).reshape(-1, 2)
    for h in hashes
  )
  return {
    **tokenize(report_texts),
    "study_hash": study_hash,
    "text_hash": text_hash,
    "record": np.array(indices, np.int32),
  }


def _choose_text(
  pair: records.Pair,
  config: pair_source.DataConfig,
  rng: np.random.Generator | None = None,
) -> str:
  names, choice = config.sections, config.section_choice
  return texts.choose(pair.sections, names, choice, rng)


def _hash(text: str) -> bytes:
  return hashlib.blake2b(text.encode(), digest_size=8).digest()
