"""Records to batches: read, augment, tokenise, batch, per process."""

import bisect
import concurrent.futures
import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
from absl import logging

from tier_jax.data import records, texts, tokenizer, transforms

# Grain's threads are the parallelism; OpenCV's own would fight with them.
cv2.setNumThreads(1)

_SCAN_CHUNK = 1000  # records a thread takes at a time


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


def open_split(directory: str | Path, split: str) -> Sequence[bytes]:
  """Returns random access to the serialised records of a split.

  Raises:
    ValueError: if the directory is no prepared dataset, lacks the split or a
      shard that its manifest lists, or the split is empty.
  """
  manifest = read_manifest(directory)
  splits = manifest.get("splits", {})
  if split not in splits or not splits[split]["records"]:
    raise ValueError(
      f"{directory} has no records in split {split!r}, expected one of "
      f"{sorted(name for name in splits if splits[name]['records'])}"
    )
  paths = [Path(directory) / name for name in sorted(splits[split]["shards"])]
  for path in paths:
    if not path.is_file():
      raise ValueError(f"{directory} lacks shard {path.name} of its manifest")
  source: Any = grain.sources.ArrayRecordDataSource(
    [str(path) for path in paths]
  )
  if len(source) != splits[split]["records"]:
    raise ValueError(
      f"{directory} split {split!r} holds {len(source)} records, its manifest "
      f"says {splits[split]['records']}"
    )
  return source


class PairSource:
  """The records of a split, over all datasets, that have a text.

  Random access to serialised records, as Grain asks of a source. `digest` is
  the SHA-256 of the manifests' entries, which hold those of the shards.
  """

  def __init__(self, config: DataConfig, split: str):
    """Scans the texts of the split, and logs how many records have none.

    That reads every record once: 20 s for 400,000 of 40 KB from a local disk,
    on two busy cores.

    Raises:
      ValueError: if a dataset is not there or has no training split, no
        dataset has the split, or no record of it has a text.
    """
    directories = [Path(config.data_dir) / name for name in config.datasets]
    if split != "train":
      # Small datasets may have nothing to spare for validation.
      manifests = [read_manifest(directory) for directory in directories]
      directories = [
        directory
        for directory, manifest in zip(directories, manifests, strict=True)
        if manifest["splits"].get(split, {}).get("records")
      ] or directories
    self._sources = [open_split(path, split) for path in directories]
    self._starts = [0, *itertools.accumulate(map(len, self._sources))]
    self._indices = np.array(
      [
        start + i
        for start, source in zip(self._starts, self._sources, strict=False)
        for i in _with_text(source, config)
      ],
      np.int64,
    )
    logging.info(
      "%s: %d records of %s, %d of them with a text",
      split,
      self._starts[-1],
      "+".join(config.datasets),
      len(self._indices),
    )
    if not len(self._indices):
      raise ValueError(
        f"no {split} record of {config.datasets} has any of the sections "
        f"{config.sections}"
      )
    # Of what is read, in order: a resumed run must find the same.
    self.digest = hashlib.sha256(
      json.dumps(
        [
          [read_manifest(path)["splits"][split] for path in directories],
          len(self._indices),
        ],
        sort_keys=True,
      ).encode()
    ).hexdigest()

  def __len__(self) -> int:
    return len(self._indices)

  def __getitem__(self, index: int) -> bytes:
    place = int(self._indices[index])
    which = bisect.bisect_right(self._starts, place) - 1
    return self._sources[which][place - self._starts[which]]


def _with_text(source: Sequence[bytes], config: DataConfig) -> Iterator[int]:
  """Yields the places of the records that have a text, in order."""

  def scan(places: range) -> list[int]:
    sections = ((i, records.read_sections(source[i])) for i in places)
    return [i for i, found in sections if texts.choose(found, config.sections)]

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
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Returns an endless iterator over this process's part of each batch.

  Every batch is a dict of `image` (b, S, S) uint8, what `Tokenizer.__call__`
  gives (b, T), and `study_hash` and `text_hash` (b, 2) uint32, where b is
  batch_size / process_count. Equal hashes mean the same study, or texts that
  are equal once normalised. With `second_view` it also has `second_image`, an
  augmentation of the same image by other draws. The order and each
  augmentation are fixed by the seed alone; `get_state` and `set_state` resume
  exactly, on any number of processes.

  Raises:
    ValueError: if the batch does not divide among the processes or is larger
      than the source.
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

  def example(data: bytes, rng: np.random.Generator) -> dict[str, np.ndarray]:
    record = records.decode(data)
    text = _choose_text(record, config, rng)
    if rng.random() < config.sentence_probability:
      text = texts.sample_sentences(text, rng)
    tokens = tokenize([text])
    result = {
      "image": transforms.train_image(record.image, image_size, augment, rng),
      **{name: value[0] for name, value in tokens.items()},
      **_hashes(record, text),
    }
    if second_view:
      # Drawn last: the rest is the same without it.
      result["second_image"] = transforms.train_image(
        record.image, image_size, augment, rng
      )
    return result

  dataset = (
    grain.MapDataset.source(source)
    .seed(seed)
    .shuffle()
    .repeat()
    .random_map(example)
  )
  return iter(
    grain.experimental.ElasticIterator(
      dataset,
      batch_size,
      grain.sharding.ShardOptions(process_index, process_count),
      read_options=grain.ReadOptions(
        num_threads=config.num_threads,
        prefetch_buffer_size=4 * batch_size // process_count,
      ),
      multiprocessing_options=(
        grain.MultiprocessingOptions(config.num_workers)
        if config.num_workers
        else None
      ),
    )
  )


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
    batch = [records.decode(source[i]) for i in range(first, first + part)]
    chosen = [_choose_text(record, config) for record in batch]
    images = [transforms.eval_image(r.image, image_size) for r in batch]
    hashes = [_hashes(*pair) for pair in zip(batch, chosen, strict=True)]
    yield {
      "image": np.stack(images),
      **tokenize(chosen),
      **{name: np.stack([h[name] for h in hashes]) for name in hashes[0]},
    }


def _choose_text(
  record: records.Record,
  config: DataConfig,
  rng: np.random.Generator | None = None,
) -> str:
  sections = {"findings": record.findings, "impression": record.impression}
  return texts.choose(sections, config.sections, config.section_choice, rng)


def _hashes(record: records.Record, text: str) -> dict[str, np.ndarray]:
  return {
    "study_hash": _hash(record.study_id),
    "text_hash": _hash(texts.normalise(text)),
  }


def _hash(text: str) -> np.ndarray:
  """(2,) uint32: 64 bits, since jax has no 64-bit integers by default."""
  digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
  return np.frombuffer(digest, "<u4").astype(np.uint32)
