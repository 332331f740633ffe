"""What a prepared dataset holds, counted in one pass over its records.

The pictures stay encoded: their sizes stand in the first bytes of a PNG. What
is looked at closer is drawn afterwards, from the places noted here.
"""

import collections
import dataclasses
import hashlib
import struct
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path

from array_record.python import array_record_module  # pyright: ignore
from tensorflow_datasets.proto import tf_example_pb2

from data_prep import progress, reports
from tier_jax.data import records

SECTIONS = ("findings", "impression")

_Example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]
_BATCH = 256  # records read at a time: some 10 MB

# (shard, index in it): where a record lies.
Place = tuple[str, int]


@dataclasses.dataclass(frozen=True)
class Facts:
  """A record without its pixels; fields as in `records.Record`.

  Attributes:
    size: (width, height) of the image.
    boxes, masks: the names of its outlines.
  """

  image_id: str
  study_id: str
  view: str
  findings: str
  impression: str
  labels: Mapping[str, int]
  sex: str
  age_band: str
  size: tuple[int, int]
  boxes: tuple[str, ...]
  masks: tuple[str, ...]


class Split:
  """Counts over the records of a split.

  Attributes:
    records: images.
    views, sexes, age_bands, sizes: value -> images.
    labels: name -> value -> images; a blank label is in none of them.
    boxes, masks: name -> how many.
    studies: ids of those met.
    words: section -> number of words, placeholders among them -> studies that
      have the section.
    textless: studies without either section.
    places: view -> where its records lie, in order.
    outlined, texts: where records with boxes or masks lie, and the first of
      each study with text.
  """

  def __init__(self):
    self.records = 0
    self.views: collections.Counter[str] = collections.Counter()
    self.sexes: collections.Counter[str] = collections.Counter()
    self.age_bands: collections.Counter[str] = collections.Counter()
    self.sizes: collections.Counter[tuple[int, int]] = collections.Counter()
    self.labels: dict[str, collections.Counter[int]] = {}
    self.boxes: collections.Counter[str] = collections.Counter()
    self.masks: collections.Counter[str] = collections.Counter()
    self.studies: set[str] = set()
    self.words: dict[str, collections.Counter[int]] = {
      name: collections.Counter() for name in SECTIONS
    }
    self.textless = 0
    self.places: dict[str, list[Place]] = {}
    self.outlined: list[Place] = []
    self.texts: list[Place] = []


class Survey:
  """Counts over a dataset.

  Attributes:
    splits: name -> its counts.
    vocabulary: word, in lower case -> how often it occurs, a study counted
      once.
    gaps: how often a placeholder for removed words occurs.
    texts: digest of a study's text -> studies that have it.
    found: image id -> where it lies, of those looked for.
  """

  def __init__(self):
    self.splits: dict[str, Split] = {}
    self.vocabulary: collections.Counter[str] = collections.Counter()
    self.gaps = 0
    self.texts: collections.Counter[bytes] = collections.Counter()
    self.found: dict[str, Place] = {}


def take(
  data_dir: Path, manifest: Mapping, wanted: Container[str] = ()
) -> Survey:
  """Returns the counts over all records that the manifest names.

  Args:
    data_dir: holds the shards.
    manifest: its manifest.json.
    wanted: ids of images whose places are to be found.

  Raises:
    ValueError: if a shard is missing, holds another number of records than
      the manifest says, or cannot be read.
  """
  survey = Survey()
  total = sum(entry["records"] for entry in manifest["splits"].values())
  with progress.Counter(total, "records") as counter:
    for name, entry in manifest["splits"].items():
      split = survey.splits.setdefault(name, Split())
      for shard, about in entry["shards"].items():
        index = 0
        for batch in _read_batches(data_dir / shard, about["records"]):
          for data in batch:
            try:
              facts = parse(data)
            except Exception:
              # What protocol buffers raise may quote the record.
              raise ValueError(
                f"record {index} of shard {shard} cannot be read; "
                "`verify` compares the digests"
              ) from None
            _add(survey, split, facts, (shard, index))
            if facts.image_id in wanted:
              survey.found[facts.image_id] = shard, index
            index += 1
          counter.add(len(batch))
  return survey


def parse(data: bytes) -> Facts:
  """Returns what a record of `records.encode` holds besides pixels.

  Some ten times faster than `records.decode`.
  """
  feature = _Example.FromString(data).features.feature

  def texts(name: str) -> list[str]:
    return [value.decode() for value in feature[name].bytes_list.value]

  values = feature["label_values"].int64_list.value
  # PNG: 8 bytes of signature, 8 of chunk header, then width and height.
  size = struct.unpack(">II", feature["image"].bytes_list.value[0][16:24])
  return Facts(
    image_id=texts("image_id")[0],
    study_id=texts("study_id")[0],
    view=texts("view")[0],
    findings=texts("findings")[0],
    impression=texts("impression")[0],
    labels=dict(zip(texts("label_names"), values, strict=True)),
    sex=texts("sex")[0],
    age_band=texts("age_band")[0],
    size=size,
    boxes=tuple(texts("box_names")),
    masks=tuple(texts("mask_names")),
  )


def read_at(data_dir: Path, places: Sequence[Place]) -> list[records.Record]:
  """Returns the records at the places, decoded, in their order.

  Raises:
    ValueError: if one does not decode.
  """
  by_shard: dict[str, list[int]] = {}
  for shard, index in places:
    by_shard.setdefault(shard, []).append(index)
  found: dict[Place, records.Record] = {}
  for shard, indices in by_shard.items():
    reader = array_record_module.ArrayRecordReader(str(data_dir / shard))
    for index, data in zip(indices, reader.read(indices), strict=True):
      found[shard, index] = records.decode(data)
    reader.close()
  return [found[place] for place in places]


def spread(places: Sequence[Place], count: int) -> list[Place]:
  """Returns at most `count` of the places, evenly spaced, always the same."""
  count = min(count, len(places))
  return [places[i * len(places) // count] for i in range(count)]


def quantile(counts: Mapping[int, int], share: float) -> int:
  """Returns the smallest number that `share` of those counted do not exceed.

  Args:
    counts: number -> how many have it; not empty.
    share: in (0, 1].
  """
  needed = share * sum(counts.values())
  met = 0
  for number in sorted(counts):
    met += counts[number]
    if met >= needed:
      return number
  return max(counts)


def _add(survey: Survey, split: Split, facts: Facts, place: Place) -> None:
  split.records += 1
  split.views[facts.view] += 1
  split.sexes[facts.sex] += 1
  split.age_bands[facts.age_band] += 1
  split.sizes[facts.size] += 1
  for name, value in facts.labels.items():
    split.labels.setdefault(name, collections.Counter())[value] += 1
  split.places.setdefault(facts.view, []).append(place)
  if facts.boxes or facts.masks:
    split.boxes.update(facts.boxes)
    split.masks.update(facts.masks)
    split.outlined.append(place)
  if facts.study_id in split.studies:
    return
  split.studies.add(facts.study_id)
  sections = {name: getattr(facts, name) for name in SECTIONS}
  if not any(sections.values()):
    split.textless += 1
    return
  split.texts.append(place)
  for name, text in sections.items():
    if not text:
      continue
    rest, gaps = reports.PLACEHOLDER.subn(" ", text)
    words = reports.WORD.findall(rest.lower())
    split.words[name][len(words) + gaps] += 1
    survey.gaps += gaps
    survey.vocabulary.update(words)
  joined = "\n".join(sections.values()).encode()
  survey.texts[hashlib.sha256(joined).digest()[:12]] += 1


def _read_batches(path: Path, count: int) -> Iterator[list[bytes]]:
  if not path.is_file():
    raise ValueError(f"shard {path.name} is missing")
  reader = array_record_module.ArrayRecordReader(str(path))
  try:
    found = reader.num_records()
    if found != count:
      raise ValueError(
        f"shard {path.name} holds {found} records, expected {count} as the "
        "manifest says"
      )
    for start in range(0, count, _BATCH):
      yield reader.read(list(range(start, min(start + _BATCH, count))))
  except RuntimeError:
    raise ValueError(
      f"shard {path.name} is damaged; `verify` compares the digests"
    ) from None
  finally:
    reader.close()
