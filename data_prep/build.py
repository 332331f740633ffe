"""A plan of images to a prepared dataset: shards, rejects, manifest.

Nothing stands at `output_dir` before all of it is done: the build happens in
a directory beside it, which takes its place at the end.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cv2
import numpy as np
import tensorflow_datasets as tfds
import tqdm
from array_record.python import array_record_module  # pyright: ignore
from etils import epath

from data_prep import convert, engine, ids, items, splits
from tier_jax.data import records

VERSION = "1.0.0"
# A record can be read alone, and PNG does not compress any further.
WRITER_OPTIONS = "group_size:1,uncompressed"
PLAIN_PROGRESS_S = 10.0
SHEET_TILE = 224
SHEET_COLUMNS = 6
SHEET_TILES = 24


def build(
  plan: items.Plan,
  output_dir: Path,
  *,
  key: bytes,
  short_side: int = 256,
  shard_records: int = 4096,
  num_workers: int = 1,
) -> dict:
  """Writes the dataset and returns its manifest.

  The result depends on the plan, the files, the key and the sizes alone, to
  the byte; neither on the workers nor on the time.

  Args:
    plan: what to convert.
    output_dir: is replaced if it holds a complete dataset.
    key: for the ids, from `ids.load_key`.
    short_side: pixels; images with a larger shorter side are reduced.
    shard_records: items a shard, at most.
    num_workers: processes.

  Raises:
    ValueError: if the plan is empty, puts a patient, a study or an image in
      two splits or an image in twice, or if no image could be converted; if
      `output_dir` holds something that is not a dataset, or a number is < 1.
  """
  for field, value in (
    ("short_side", short_side),
    ("shard_records", shard_records),
    ("num_workers", num_workers),
  ):
    if value < 1:
      raise ValueError(f"{field} is {value}, expected at least 1")
  # A link is the owner's own arrangement: what it leads to is replaced.
  output_dir = output_dir.resolve()
  _check_plan(plan)
  _check_replaceable(output_dir)
  if plan.root.resolve().is_relative_to(output_dir):
    raise ValueError(
      "source_dir lies in output_dir, which would be replaced; name another"
    )
  queue = _hash_items(plan, key)
  part_dir = output_dir.with_name(f".{output_dir.name}.part")
  if part_dir.exists():
    shutil.rmtree(part_dir)  # what a killed run left
  part_dir.mkdir(parents=True)
  counts = _Counts()
  for raw_id, reason in plan.rejected:
    image_id = ids.hash_id(key, plan.name, "image", raw_id)
    counts.rejected.append((image_id, reason))
  work = functools.partial(
    convert.convert_item, root=plan.root, short_side=short_side
  )
  outcomes = engine.run(queue, work, convert.crashed, num_workers)
  progress = _progress(zip(queue, outcomes, strict=True), len(queue))
  shards = _write_shards(progress, part_dir, shard_records, counts)
  if not shards:
    shutil.rmtree(part_dir)
    raise ValueError(
      f"none of the {len(queue)} images could be converted: "
      f"{_tally(reason for _, reason in counts.rejected)}"
    )
  split_shards = _name_shards(plan.name, part_dir, shards)
  manifest = {
    "dataset": plan.name,
    "version": VERSION,
    "settings": {
      **plan.settings,
      "short_side": short_side,
      "shard_records": shard_records,
      "id_key": ids.fingerprint(key),
    },
    "splits": {
      split: {**counts.of_split(split), "shards": split_shards[split]}
      for split in splits.SPLITS
      if split in split_shards
    },
    "rejects": _tally(reason for _, reason in counts.rejected),
    "filtered": dict(sorted(plan.filtered.items())),
    "notes": dict(sorted(counts.notes.items())),
    "labels": {
      name: {str(value): values[value] for value in (1, 0, -1)}
      for name, values in sorted(counts.labels.items())
    },
  }
  _write_tfds_metadata(plan.name, part_dir, split_shards)
  _write_contact_sheet(part_dir, split_shards)
  with (part_dir / "rejects.jsonl").open("w", encoding="utf-8") as handle:
    for image_id, reason in sorted(counts.rejected):
      handle.write(json.dumps({"image_id": image_id, "reason": reason}) + "\n")
  (part_dir / "manifest.json").write_text(
    json.dumps(manifest, indent=2) + "\n", encoding="utf-8"
  )
  _replace(output_dir, part_dir)
  return manifest


class _Counts:
  """What the accepted records amount to."""

  def __init__(self):
    self.rejected: list[tuple[str, str]] = []
    self.notes: collections.Counter[str] = collections.Counter()
    self.labels: dict[str, collections.Counter[int]] = {}
    self._ids = {split: (set(), set(), set()) for split in splits.SPLITS}
    self._split_of_pixels: dict[bytes, str] = {}

  def add(self, item: items.Item, outcome: convert.Outcome) -> None:
    self.notes.update(outcome.notes)
    if outcome.data is None:
      self.rejected.append((item.image_id, outcome.reason))
      return
    named = (item.image_id, item.study_id, item.patient_id)
    for seen, value in zip(self._ids[item.split], named, strict=True):
      seen.add(value)
    for name, value in item.labels.items():
      self.labels.setdefault(name, collections.Counter())[value] += 1
    first = self._split_of_pixels.setdefault(outcome.pixels_digest, item.split)
    if first != item.split:
      # The source's own doing (patients are apart): said, not repaired.
      self.notes["image:same_pixels_in_two_splits"] += 1

  def of_split(self, split: str) -> dict[str, int]:
    image_ids, study_ids, patient_ids = self._ids[split]
    return {
      "records": len(image_ids),
      "patients": len(patient_ids),
      "studies": len(study_ids),
    }


def _check_plan(plan: items.Plan) -> None:
  if not plan.items:
    raise ValueError(
      f"{plan.name} has no image to convert; left out: "
      f"{dict(sorted(plan.filtered.items()))}"
    )
  if not plan.root.is_dir():
    raise ValueError(f"image directory {plan.root.name!r} does not exist")
  for kind in ("patient", "study", "image"):
    splits.check_disjoint(
      kind, ((getattr(item, f"{kind}_id"), item.split) for item in plan.items)
    )
  repeated = len(plan.items) - len({item.image_id for item in plan.items})
  if repeated:
    raise ValueError(
      f"{repeated} row(s) of {plan.name} repeat an image that stands in "
      "another row, expected one row an image"
    )


def _check_replaceable(output_dir: Path) -> None:
  if not output_dir.exists():
    return
  manifest = output_dir / "manifest.json"
  try:
    # Other programs have files of that name too.
    if {"dataset", "settings", "splits"} <= json.loads(
      manifest.read_text("utf-8")
    ).keys():
      return
  except (OSError, ValueError, AttributeError):
    pass  # it is none of ours
  if not output_dir.is_dir() or any(output_dir.iterdir()):
    raise ValueError(
      f"output_dir {output_dir.name!r} exists and is not a prepared dataset; "
      "it is left alone, name another"
    )


def _hash_items(plan: items.Plan, key: bytes) -> list[items.Item]:
  """Returns the items with hashed ids, in the order of the shards."""
  hashed = [
    dataclasses.replace(
      item,
      image_id=ids.hash_id(key, plan.name, "image", item.image_id),
      study_id=ids.hash_id(key, plan.name, "study", item.study_id),
      patient_id=ids.hash_id(key, plan.name, "patient", item.patient_id),
    )
    for item in plan.items
  ]
  # By hash: neighbours in a shard are then strangers, and the order of the
  # tables leaves no trace.
  order = {split: place for place, split in enumerate(splits.SPLITS)}
  return sorted(hashed, key=lambda item: (order[item.split], item.image_id))


def _write_shards(
  results: Iterable[tuple[items.Item, convert.Outcome]],
  directory: Path,
  shard_records: int,
  counts: _Counts,
) -> list[tuple[str, Path, int]]:
  """Writes the accepted records; returns (split, file, records) a shard.

  A shard is a fixed stretch of the plan, so each one's bytes depend on its
  own items only.
  """
  shards: list[tuple[str, Path, int]] = []
  writer, path, split, taken, written = None, Path(), "", 0, 0
  for item, outcome in results:
    if item.split != split or taken == shard_records:
      if writer is not None:
        writer.close()
        shards.append((split, path, written))
      writer, split, taken, written = None, item.split, 0, 0
    taken += 1
    counts.add(item, outcome)
    if outcome.data is None:
      continue
    if writer is None:
      path = directory / f"{split}-{len(shards):05d}.tmp"
      writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
    writer.write(outcome.data)
    written += 1
  if writer is not None:
    writer.close()
    shards.append((split, path, written))
  return shards


def _name_shards(
  name: str, directory: Path, shards: list[tuple[str, Path, int]]
) -> dict[str, dict[str, dict]]:
  """Gives the shards their final names; returns what the manifest says."""
  named: dict[str, dict[str, dict]] = {}
  totals = collections.Counter(split for split, _, _ in shards)
  for split, path, written in shards:
    files = named.setdefault(split, {})
    final = path.with_name(
      f"{name}-{split}.array_record-{len(files):05d}-of-{totals[split]:05d}"
    )
    path.rename(final)
    with final.open("rb") as handle:
      digest = hashlib.file_digest(handle, "sha256").hexdigest()
    files[final.name] = {
      "sha256": digest,
      "records": written,
      "bytes": final.stat().st_size,
    }
  return named


def _write_tfds_metadata(
  name: str, directory: Path, split_shards: Mapping[str, Mapping[str, dict]]
) -> None:
  def template(**kwargs):
    return tfds.core.ShardedFileTemplate(
      dataset_name=name,
      data_dir=epath.Path(directory),
      filetype_suffix="array_record",
      **kwargs,
    )

  tfds.folder_dataset.write_metadata(
    data_dir=directory,
    features=records.FEATURES,
    check_data=False,
    version=VERSION,
    filename_template=template(),
    split_infos=[
      tfds.core.SplitInfo(
        name=split,
        shard_lengths=[shard["records"] for shard in shards.values()],
        num_bytes=sum(shard["bytes"] for shard in shards.values()),
        filename_template=template(split=split),
      )
      for split, shards in split_shards.items()
    ],
  )


def _write_contact_sheet(
  directory: Path, split_shards: Mapping[str, Mapping[str, dict]]
) -> None:
  """Writes a sheet of images spread evenly over the dataset."""
  places = [
    (name, index)
    for shards in split_shards.values()
    for name, shard in shards.items()
    for index in range(shard["records"])
  ]
  columns = SHEET_COLUMNS
  count = min(SHEET_TILES, len(places))
  rows = -(-count // columns)
  sheet = np.zeros((rows * SHEET_TILE, columns * SHEET_TILE), np.uint8)
  for tile in range(count):
    name, index = places[tile * len(places) // count]
    reader = array_record_module.ArrayRecordReader(str(directory / name))
    image = records.decode(reader.read([index])[0]).image
    reader.close()
    scale = SHEET_TILE / max(image.shape)
    small = cv2.resize(
      image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA
    )[:SHEET_TILE, :SHEET_TILE]
    top = tile // columns * SHEET_TILE + (SHEET_TILE - small.shape[0]) // 2
    left = tile % columns * SHEET_TILE + (SHEET_TILE - small.shape[1]) // 2
    sheet[top : top + small.shape[0], left : left + small.shape[1]] = small
  cv2.imwrite(str(directory / "contact_sheet.png"), sheet)


def _replace(output_dir: Path, part_dir: Path) -> None:
  old_dir = part_dir.with_suffix(".old")
  if old_dir.exists():
    shutil.rmtree(old_dir)
  if output_dir.exists():
    output_dir.rename(old_dir)
  part_dir.rename(output_dir)
  if old_dir.exists():
    shutil.rmtree(old_dir)


def _progress(
  results: Iterable[tuple[items.Item, convert.Outcome]], total: int
) -> Iterator[tuple[items.Item, convert.Outcome]]:
  """Passes the results on, with a bar on a terminal and lines elsewhere."""
  if sys.stderr.isatty():
    yield from tqdm.tqdm(results, total=total, unit="image")
    return
  start = last = time.monotonic()
  for done, result in enumerate(results, 1):
    yield result
    now = time.monotonic()
    if now - last >= PLAIN_PROGRESS_S:
      last = now
      rate = done / (now - start)
      print(
        f"{done}/{total} images, {rate:.1f}/s, "
        f"{(total - done) / rate:.0f} s left",
        file=sys.stderr,
        flush=True,
      )


def _tally(reasons: Iterable[str]) -> dict[str, int]:
  return dict(sorted(collections.Counter(reasons).items()))
