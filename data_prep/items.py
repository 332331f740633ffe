"""What a source has to offer: images with all that its tables say of them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path


@dataclasses.dataclass(frozen=True)
class Item:
  """One image that is to become a record.

  Attributes:
    image_paths: where it may lie, below the plan's root; the first that
      exists is taken.
    split: one of `splits.SPLITS`.
    image_id, study_id, patient_id: as the source has them; the build hashes.
    report_paths: where its report may lie, when the sections are not given.
    view, findings, impression, labels, sex, age_band: as in `records.Record`.
    boxes: (name, (x0, y0, x1, y1)) in pixels of the source's image.
    box_shape: (height, width) of that image, as the boxes' table states it.
    masks: (name, counts, (height, width)); counts are the runs of a COCO
      compressed RLE, as `masks.decode_rle` reads them, in pixels of the
      source's image.
    notes: what the tables leave open, such as "view:not_stated"; counted.
    denied: the reason, such as "denied:deny_list", why no record is to be
      made; "" if one is. A denied item keeps its place in the plan, so that
      no other moves to another shard.
  """

  image_paths: tuple[str, ...]
  split: str
  image_id: str
  study_id: str
  patient_id: str
  report_paths: tuple[str, ...] = ()
  view: str = "unknown"
  findings: str = ""
  impression: str = ""
  labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sex: str = ""
  age_band: str = ""
  boxes: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()
  box_shape: tuple[int, int] | None = None
  masks: tuple[tuple[str, str, tuple[int, int]], ...] = ()
  notes: tuple[str, ...] = ()
  denied: str = ""


@dataclasses.dataclass(frozen=True)
class Plan:
  """All that a source has to offer, before any image is opened.

  Attributes:
    name: of the dataset.
    root: the directory that the items' paths start from.
    items: in any order; the build has its own.
    filtered: why rows of the tables made no item, and how many.
    rejected: (image_id, reason) for files found unusable while planning.
    settings: what else shaped the plan, for the manifest.
  """

  name: str
  root: Path
  items: list[Item]
  filtered: Mapping[str, int] = dataclasses.field(default_factory=dict)
  rejected: tuple[tuple[str, str], ...] = ()
  settings: Mapping[str, object] = dataclasses.field(default_factory=dict)
