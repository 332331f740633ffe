"""Records to batches: read, augment, tokenise, batch, per process."""

import bisect
import dataclasses
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import grain
import numpy as np
from absl import logging

from tier_jax.data import records, tokenizer, transforms

SECTIONS = ("impression", "findings")

# "1. ", "2) ", "(3) ", "4.No": at the start, after a stop, or in the middle.
_LIST_NUMBER = re.compile(
  r"""(?:^|(?<=[.!?:;][ ])|(?P<middle>(?<=[ ])))
      \(?(?P<number>\d{1,2})[.)](?:[ ]|(?=[A-Z]))""",
  re.VERBOSE,
)
# Where a sentence may end: after a stop, at a blank or before a capital.
_STOP = re.compile(
  r"""(?<=[.])[ ]|(?<=[^ ][!?])[ ]|(?<=[.!?][)\]"'])[ ]
      |(?<=[a-z]{3}\.)(?=[A-Z][a-z])""",
  re.VERBOSE,
)
# Where it does not: after titles, abbreviations and initials, as in "C.T. of".
_NO_STOP = re.compile(
  r"\b([A-Z]|(?i:approx|cf|drs?|e\.g|fig|i\.e|mrs?|ms|prof|pts?|seg|st|vs))\.$"
)

# Grain's threads are the parallelism; OpenCV's own would fight with them.
cv2.setNumThreads(1)


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """What is read and how.

  Attributes:
    data_dir: root that holds one prepared directory a dataset.
    datasets: names of the directories to train on, one after another.
    tokenizer: see `Tokenizer.from_name`.
    max_length: tokens a text, [CLS] and [SEP] included.
    sections: sections of a report in order of preference: the first that is
      not empty is the text. Records with none of them are left out.
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
  sections: tuple[str, ...] = SECTIONS
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
      if section not in SECTIONS:
        raise ValueError(
          f"data.sections has {section!r}, expected some of {SECTIONS}"
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
        for i in range(len(source))
        if choose_text(records.read_sections(source[i]), config.sections)
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


def train_iterator(
  source: PairSource,
  config: DataConfig,
  augment: transforms.AugmentConfig,
  tokenize: tokenizer.Tokenizer,
  *,
  image_size: int,
  batch_size: int,
  seed: int,
  process_index: int = 0,
  process_count: int = 1,
) -> grain.DatasetIterator:
  """Returns an endless iterator over this process's part of each batch.

  Every batch is a dict of `image` (b, S, S) uint8, `input_ids` and
  `attention_mask` (b, T) int32 and `token_mask` (b, T) bool, where b is
  batch_size / process_count. The order and each augmentation are fixed by the
  seed alone; `get_state` and `set_state` resume exactly, on any number of
  processes.

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
    text = choose_text(
      {"findings": record.findings, "impression": record.impression},
      config.sections,
    )
    if rng.random() < config.sentence_probability:
      text = sample_sentences(text, rng)
    tokens = tokenize([text])
    return {
      "image": transforms.train_image(record.image, image_size, augment, rng),
      **{name: value[0] for name, value in tokens.items()},
    }

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

  The records after the last full batch are left out: a contrastive loss over
  fewer negatives is another quantity.
  """
  part = batch_size // process_count
  for start in range(0, len(source) - batch_size + 1, batch_size):
    first = start + process_index * part
    batch = [records.decode(source[i]) for i in range(first, first + part)]
    texts = [
      choose_text(
        {"findings": r.findings, "impression": r.impression}, config.sections
      )
      for r in batch
    ]
    images = [transforms.eval_image(r.image, image_size) for r in batch]
    yield {"image": np.stack(images), **tokenize(texts)}


def choose_text(texts: dict[str, str], sections: Sequence[str]) -> str:
  """Returns the first non-empty of the named sections, or ""."""
  return next((texts[name] for name in sections if texts[name]), "")


def sample_sentences(text: str, rng: np.random.Generator) -> str:
  """Returns one or two of the text's sentences, in their order."""
  sentences = split_sentences(text)
  if not sentences:
    return text
  count = min(int(rng.integers(1, 3)), len(sentences))
  chosen = sorted(rng.choice(len(sentences), count, replace=False))
  return " ".join(sentences[i] for i in chosen)


def split_sentences(text: str) -> list[str]:
  """Returns the sentences of a report's section, white space normalised.

  Numbers of a list, as in "1. Edema. 2. No effusion.", are dropped, and begin
  a sentence even where the one before lacks its full stop. What holds neither
  letter nor digit is no sentence. In doubt two sentences stay together: half a
  sentence would be a worse text to learn from.
  """
  number = 1  # that the list's next entry has

  def mark(match: re.Match[str]) -> str:
    nonlocal number
    found = int(match["number"])
    if match.start() and (
      found != number or (match["middle"] is not None and number == 1)
    ):
      return match[0]
    number = found + 1
    return "\n"

  sentences: list[list[str]] = []  # each in parts
  text = _LIST_NUMBER.sub(mark, " ".join(text.split()))
  for entry in text.split("\n"):
    last = ""
    for part in _STOP.split(entry.strip()):
      if _goes_on(last[-10:], part[:1]):
        sentences[-1].append(part)
      else:
        sentences.append([part])
      last = part
  joined = [" ".join(parts) for parts in sentences]
  return [s for s in joined if re.search(r"[^\W_]", s)]


def _goes_on(last: str, first: str) -> bool:
  """Whether a sentence goes on from its `last` to the `first` character."""
  if re.search(r"\b[Nn]os?\.$", last):
    return first.isdigit()
  if re.search(r"\b[ap]\.m\.$", last):
    return not first.isupper()
  return bool(_NO_STOP.search(last))
