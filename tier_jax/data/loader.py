"""Records to batches: read, augment, tokenise, batch, per process."""

import bisect
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
from absl import logging
from google.protobuf import message

from tier_jax.data import records, shards, texts, tokenizer, transforms

# Grain's threads are the parallelism; OpenCV's own would fight with them.
cv2.setNumThreads(1)

_SCAN_CHUNK = 1000  # records a thread takes at a time
# What a record raises that is not as it was written.
_CORRUPT = (ValueError, IndexError, message.DecodeError, cv2.error)
_LISTED = 20  # corrupt records in a message
_LOCK = threading.Lock()  # not a source's own: that must pickle


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read and how.

  Attributes:
    data_dir: root that holds one prepared directory a dataset.
    datasets: names of the directories to train on, one after another.
    tokenizer: see `Tokenizer.from_name`.
    max_length: tokens a text, [CLS] and [SEP] included.
    sections: sections of a report in order of preference. Records with none
      of them are left out.
    section_choice: which of those that are not empty is the text: the "first",
      a "random" one (the first in evaluation), or "both", joined.
    sentence_probability: share of training texts that are cut down to one or
      two of their sentences, which are closer to what prompts look like.
    num_threads: threads that read, decode and augment.
    num_workers: processes that do so; 0 uses this one, which is best on few
      cores.
    max_corrupt: records, in all of a split, that may be corrupt: the next sound
      one takes the place of each, and each is listed once. Every process counts
      for itself those that it meets.
    feature_cache: directory that keeps the patches of a frozen image tower for
      all training records, see `features.read`; they are not augmented then.
      "" for none.
  """

  data_dir: str = ""
  datasets: tuple[str, ...] = ("mimic_cxr",)
  tokenizer: str = "bundled"
  max_length: int = 128
  sections: tuple[str, ...] = texts.SECTIONS
  section_choice: str = "first"
  sentence_probability: float = 0.0
  num_threads: int = 16
  num_workers: int = 0
  max_corrupt: int = 0
  feature_cache: str = ""

  def __post_init__(self):
    object.__setattr__(self, "datasets", tuple(self.datasets))
    object.__setattr__(self, "sections", tuple(self.sections))
    if not self.data_dir:
      raise ValueError(
        "data.data_dir is empty, expected the directory that holds "
        f"{', '.join(self.datasets) or 'the prepared datasets'}"
      )
    if not self.datasets:
      raise ValueError("data.datasets is empty, expected at least one name")
    for section in self.sections or ("",):
      if section not in texts.SECTIONS:
        raise ValueError(
          f"data.sections has {section!r}, expected some of {texts.SECTIONS}"
        )
    if self.section_choice not in texts.SECTION_CHOICES:
      raise ValueError(
        f"data.section_choice is {self.section_choice!r}, expected one of "
        f"{texts.SECTION_CHOICES}"
      )
    if not 0 <= self.sentence_probability <= 1:
      raise ValueError(
        f"data.sentence_probability is {self.sentence_probability}, "
        "expected 0 to 1"
      )
    if self.num_threads < 1 or self.num_workers < 0:
      raise ValueError(
        f"data.num_threads {self.num_threads} and data.num_workers "
        f"{self.num_workers}: expected >= 1 and >= 0"
      )
    if self.max_corrupt < 0:
      raise ValueError(f"data.max_corrupt is {self.max_corrupt}, expected >= 0")


def read_manifest(directory: str | Path) -> dict[str, Any]:
  """Returns the manifest of a prepared dataset.

  Raises:
    ValueError: if the directory holds none, that is: is no finished dataset.
  """
  path = Path(directory) / "manifest.json"
  if not path.is_file():
    raise ValueError(
      f"{directory} holds no manifest.json, expected the output of "
      "`python -m data_prep`"
    )
  try:
    manifest = json.loads(path.read_text("utf-8"))
    _ = {name: split["records"] for name, split in manifest["splits"].items()}
  except (ValueError, KeyError, TypeError, AttributeError) as error:
    raise ValueError(
      f"{path} is malformed, expected what `python -m data_prep` writes"
    ) from error
  return manifest


def splits(directory: str | Path) -> tuple[str, ...]:
  """Returns the splits of a prepared dataset that hold records; () without one.

  Raises:
    ValueError: if the directory is there but no prepared dataset.
  """
  if not Path(directory).is_dir():
    return ()
  found = read_manifest(directory)["splits"]
  return tuple(name for name, split in found.items() if split["records"])


def open_split(directory: str | Path, split: str) -> shards.Shards:
  """Returns random access to the serialised records of a split.

  Raises:
    ValueError: if the directory is no prepared dataset, lacks the split or a
      shard that its manifest lists, a shard is truncated, or the split is
      empty.
  """
  manifest = read_manifest(directory)
  there = splits(directory)
  if split not in there:
    raise ValueError(
      f"{directory} has no records in split {split!r}, expected one of "
      f"{sorted(there)}"
    )
  about = manifest["splits"][split]
  paths = [Path(directory) / name for name in sorted(about["shards"])]
  for path in paths:
    if not path.is_file():
      raise ValueError(f"{directory} lacks shard {path.name} of its manifest")
  source = shards.Shards(paths)
  if len(source) != about["records"]:
    raise ValueError(
      f"{directory} split {split!r} holds {len(source)} records, its manifest "
      f"says {about['records']}"
    )
  return source


class PairSource:
  """The records of a split, over all datasets, that have a text.

  `read` gives records by index. `digest` is the SHA-256 of the manifests'
  entries, which hold those of the shards.
  """

  def __init__(self, config: DataConfig, split: str):
    """Scans the texts of the split, and logs how many records have none.

    That reads every record once: 20 s for 400,000 of 40 KB from a local disk,
    on two busy cores. One that is corrupt counts as having a text.

    Raises:
      ValueError: if a dataset is not there or has no training split, no
        dataset has the split, no record of it has a text, or more than
        `config.max_corrupt` are corrupt.
      FileNotFoundError: if a shard goes away meanwhile.
    """
    self._datasets = list(config.datasets)
    if split != "train":
      # Small datasets may have nothing to spare for validation.
      manifests = {
        name: read_manifest(Path(config.data_dir) / name)
        for name in config.datasets
      }
      self._datasets = [
        name
        for name, manifest in manifests.items()
        if manifest["splits"].get(split, {}).get("records")
      ] or self._datasets
    directories = [Path(config.data_dir) / name for name in self._datasets]
    self._sources = [open_split(path, split) for path in directories]
    self._starts = [0, *itertools.accumulate(map(len, self._sources))]
    self._max_corrupt = config.max_corrupt
    self._corrupt: set[int] = set()
    found = [
      (start + i, sound)
      for start, source in zip(self._starts, self._sources, strict=False)
      for i, sound in _with_text(source, config)
    ]
    self._places = np.array([place for place, _ in found], np.int64)
    logging.info(
      "%s: %d records of %s, %d of them with a text",
      split,
      self._starts[-1],
      "+".join(config.datasets),
      len(found),
    )
    if not found:
      raise ValueError(
        f"no {split} record of {config.datasets} has any of the sections "
        f"{config.sections}"
      )
    self._add_corrupt({i for i, (_, sound) in enumerate(found) if not sound})
    # Of what is read, in order: a resumed run must find the same.
    self.digest = hashlib.sha256(
      json.dumps(
        [
          [read_manifest(path)["splits"][split] for path in directories],
          len(found),
        ],
        sort_keys=True,
      ).encode()
    ).hexdigest()

  def __len__(self) -> int:
    return len(self._places)

  def __getitem__(self, index: int) -> bytes:
    """Returns a serialised record; raises as `shards.Shards` does."""
    which, place = self._find(index)
    return self._sources[which][place]

  def read(
    self, index: int, decode: Callable[[bytes], Any] = records.decode
  ) -> tuple[int, Any]:
    """Returns a record with its index, or the next sound one with its own.

    Args:
      index: below the length.
      decode: `records.decode` for a Record; `records.read_facts` for its Facts,
        whatever its image.

    Raises:
      FileNotFoundError: if a shard is gone.
      ValueError: if more than `max_corrupt` records are corrupt; lists them.
    """
    for i in itertools.chain(range(index, len(self)), range(index)):
      if i not in self._corrupt:
        try:
          return i, decode(self[i])
        except _CORRUPT as error:
          self._add_corrupt({i}, error)
    raise ValueError(f"all {len(self)} records are corrupt")

  def locate(self, index: int) -> tuple[str, str, int]:
    """Returns the dataset, the shard's file name and the place in the shard."""
    which, place = self._find(index)
    return self._datasets[which], *self._sources[which].locate(place)

  def _find(self, index: int) -> tuple[int, int]:
    place = int(self._places[index])
    which = bisect.bisect_right(self._starts, place) - 1
    return which, place - self._starts[which]

  def _add_corrupt(self, indices: set[int], cause: Exception | None = None):
    with _LOCK:
      new, corrupt = indices - self._corrupt, indices | self._corrupt
      if len(corrupt) <= self._max_corrupt:
        self._corrupt = corrupt
    if len(corrupt) > self._max_corrupt:
      names = [_name(*self.locate(i)) for i in sorted(corrupt)[:_LISTED]]
      names += ["..."] * (len(corrupt) > _LISTED)
      raise ValueError(
        f"{len(corrupt)} of {len(self)} records are corrupt, expected at most "
        f"data.max_corrupt {self._max_corrupt}: {', '.join(names)}"
      ) from cause
    for i in sorted(new):
      logging.warning(
        "record %s is corrupt, the next sound one takes its place",
        _name(*self.locate(i)),
      )


def _name(dataset: str, shard: str, place: int) -> str:
  return f"{dataset}/{shard}#{place}"


def _with_text(
  source: shards.Shards, config: DataConfig
) -> Iterator[tuple[int, bool]]:
  """Yields the places of the records that have a text, in order.

  With each stands whether it is sound: what a corrupt one has is unknown.
  """

  def scan(places: range) -> list[tuple[int, bool]]:
    found = []
    for i in places:
      try:
        if texts.choose(records.read_sections(source[i]), config.sections):
          found.append((i, True))
      except _CORRUPT:
        found.append((i, False))
    return found

  chunks = [
    range(start, min(start + _SCAN_CHUNK, len(source)))
    for start in range(0, len(source), _SCAN_CHUNK)
  ]
  # What takes time is waiting for the disk, which threads do together.
  with concurrent.futures.ThreadPoolExecutor(config.num_threads) as pool:
    for found in pool.map(scan, chunks):
      yield from found


def train_iterator(
  source: PairSource,
  config: DataConfig,
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
  was read in `source`, see `PairSource.locate`. With `second_view` it also has
  `second_image`, an augmentation of the same image by other draws. With
  `features`, an array by the index of the record, `image` is what stands there
  for it, as it is. The order
  and each augmentation are fixed by the seed alone; `get_state` and
  `set_state` resume exactly, on any number of processes.

  Raises:
    ValueError: if the batch does not divide among the processes or is larger
      than the source. A batch raises as `PairSource.read` does.
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

  def __init__(self, batches: "_Batches", config: DataConfig):
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
        grain.ReadOptions(config.num_threads, prefetch_buffer_size=4)
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
    self._next = state["next_batch"]
    self._iterator = None


class _Batches:
  """This process's part of each batch, by the batch's number.

  A whole batch at a time, since per record Grain's own transforms cost as much
  as a third of decoding the image. Every epoch is a permutation of its own.
  """

  def __init__(
    self,
    source: PairSource,
    config: DataConfig,
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
    places = [index * self._batch_size + i for i in self._part]
    # Of its place alone: so the draws are the same on any number of processes.
    rngs = [np.random.default_rng((self._seed, place)) for place in places]
    decode = records.decode if self._features is None else records.read_facts
    read = [self._source.read(self._index(place), decode) for place in places]
    chosen = []
    for (_, record), rng in zip(read, rngs, strict=True):
      text = _choose_text(record, self._config, rng)
      if rng.random() < self._config.sentence_probability:
        text = texts.sample_sentences(text, rng)
      chosen.append(text)
    if self._features is not None:
      images = {"image": self._features[[i for i, _ in read]]}
    else:
      images = {
        # The second is drawn last: the rest is the same without it.
        name: np.stack(
          [self._view(*pair) for pair in zip(read, rngs, strict=True)]
        )
        for name in ["image"] + ["second_image"] * self._second_view
      }
    return {**images, **_describe(read, chosen, self._tokenize)}

  def _view(self, read, rng: np.random.Generator) -> np.ndarray:
    _, record = read
    return transforms.train_image(
      record.image, self._image_size, self._augment, rng
    )

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
  source: PairSource,
  config: DataConfig,
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
    images = [transforms.eval_image(r.image, image_size) for _, r in read]
    chosen = [_choose_text(record, config) for _, record in read]
    yield {"image": np.stack(images), **_describe(read, chosen, tokenize)}


def _describe(
  read: Sequence[tuple[int, records.Facts]],
  chosen: Sequence[str],
  tokenize: tokenizer.Tokenizer,
) -> dict[str, np.ndarray]:
  """Returns all of a batch but its images."""
  return {
    **tokenize(chosen),
    "study_hash": np.stack([_hash(record.study_id) for _, record in read]),
    "text_hash": np.stack([_hash(texts.normalise(text)) for text in chosen]),
    "record": np.array([i for i, _ in read], np.int32),
  }


def _choose_text(
  record: records.Facts,
  config: DataConfig,
  rng: np.random.Generator | None = None,
) -> str:
  sections = {"findings": record.findings, "impression": record.impression}
  return texts.choose(sections, config.sections, config.section_choice, rng)


def _hash(text: str) -> np.ndarray:
  """(2,) uint32: 64 bits, since jax has no 64-bit integers by default."""
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return np.frombuffer(digest, "<u4").astype(np.uint32)
