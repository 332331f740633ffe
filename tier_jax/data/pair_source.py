"""Which records are trained on: those that have a text, over all datasets."""

import bisect
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from absl import logging
from google.protobuf import message

from tier_jax.data import records, shards, texts

_SCAN_CHUNK = 1000  # records a thread takes at a time
# What a record raises that is not as it was written.
_CORRUPT = (ValueError, IndexError, message.DecodeError)
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
    num_threads: threads that scan the records at the start; up to four of them
      make batches, in this process or in each worker. More would wait for each
      other's Python.
    num_workers: processes that make batches; 0 for this one, which starts at
      once. Where training waits for its input on a host with cores to spare,
      try one for every two of them.
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
        name: shards.read_manifest(Path(config.data_dir) / name)
        for name in config.datasets
      }
      self._datasets = [
        name
        for name, manifest in manifests.items()
        if manifest["splits"].get(split, {}).get("records")
      ] or self._datasets
    directories = [Path(config.data_dir) / name for name in self._datasets]
    self._sources = [shards.open_split(path, split) for path in directories]
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
          [shards.read_manifest(path)["splits"][split] for path in directories],
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

  def read(self, index: int, pixels: bool = True) -> tuple[int, records.Pair]:
    """Returns a record with its index, or the next sound one with its own.

    Args:
      index: below the length.
      pixels: see `records.decode_pair`.

    Raises:
      FileNotFoundError: if a shard is gone.
      ValueError: if more than `max_corrupt` records are corrupt; lists them.
    """
    for i in itertools.chain(range(index, len(self)), range(index)):
      if i not in self._corrupt:
        try:
          return i, records.decode_pair(self[i], pixels)
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
        sections = records.decode_pair(source[i], pixels=False).sections
        if texts.choose(sections, config.sections):
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
