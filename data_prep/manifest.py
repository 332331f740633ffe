"""What lies beside the shards: the manifest, and what it speaks of."""

import collections
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow_datasets as tfds
from etils import epath

from data_prep import items, shards, splits, store
from tier_jax.data import records

VERSION = "1.1.0"
NAME = "manifest.json"
REJECTS = "rejects.jsonl"
NEAR_DUPLICATES = "near_duplicates.jsonl"
TFDS_FILES = ("dataset_info.json", "features.json")


def read(output: store.Store) -> dict[str, Any] | None:
  """Returns the manifest of a prepared dataset, or None if there is none."""
  try:
    manifest = json.loads(output.read_text(NAME))
  except (FileNotFoundError, NotADirectoryError, ValueError):
    return None
  # Other programs have files of that name too.
  if not isinstance(manifest, dict) or not (
    {"dataset", "settings", "splits"} <= manifest.keys()
  ):
    return None
  return manifest


def summarise(
  plan: items.Plan,
  tasks: Sequence[shards.Task],
  results: Sequence[shards.Result],
  rejected: Iterable[tuple[str, str]],
  report_notes: Mapping[str, int],
) -> dict[str, Any]:
  """Returns what the manifest says of the records and of what is not one.

  Args:
    plan: with hashed ids, as the tasks were made from it.
    tasks, results: side by side.
    rejected: (hashed image id, reason), also of what made no task.
    report_notes: counted, from `reports.fill`.
  """
  notes = collections.Counter(report_notes)
  filtered = collections.Counter(plan.filtered)
  labels: dict[str, collections.Counter[int]] = {}
  counts: dict[str, dict[str, Any]] = {}
  for split in splits.SPLITS:
    named = [set(), set(), set()]
    files = {}
    for task, result in zip(tasks, results, strict=True):
      if task.split != split:
        continue
      notes.update(result.notes)
      filtered.update(item.denied for item in task.items if item.denied)
      for item in task.items:
        if item.image_id in result.images:
          ids_of = (item.image_id, item.patient_id, item.study_id)
          for seen, value in zip(named, ids_of, strict=True):
            seen.add(value)
          for name, value in item.labels.items():
            labels.setdefault(name, collections.Counter())[value] += 1
      if result.records:
        files[task.file_name] = {
          "sha256": result.sha256,
          "records": result.records,
          "bytes": result.size,
        }
    if files:
      counts[split] = {
        "records": len(named[0]),
        "patients": len(named[1]),
        "studies": len(named[2]),
        "shards": {
          f"{plan.name}-{split}.array_record-{i:05d}-of-{len(files):05d}": shard
          for i, shard in enumerate(files.values())
        },
      }
  return {
    "splits": counts,
    "rejects": tally(reason for _, reason in rejected),
    "filtered": dict(sorted(filtered.items())),
    "notes": dict(sorted(notes.items())),
    "labels": {
      name: {str(value): values[value] for value in (1, 0, -1)}
      for name, values in sorted(labels.items())
    },
  }


def write(
  work: store.Store,
  manifest: Mapping[str, Any],
  rejected: Iterable[tuple[str, str]],
  near: Iterable[tuple[str, str, int]],
) -> None:
  """Writes all that lies beside the shards, the manifest last.

  Args:
    work: holds the shards under their last names.
    manifest: whole.
    rejected: (hashed image id, reason).
    near: from `duplicates.find_near`.
  """
  with work.staging() as directory:
    write_tfds_metadata(manifest, directory)
    for name in TFDS_FILES:
      work.put(directory / name, name)
  _write_lines(work, REJECTS, ("image_id", "reason"), rejected)
  fields = ("image_id", "other_image_id", "distance")
  _write_lines(work, NEAR_DUPLICATES, fields, near)
  work.write_text(NAME, json.dumps(manifest, indent=2) + "\n")


def write_tfds_metadata(manifest: Mapping[str, Any], directory: Path) -> None:
  """Writes `TFDS_FILES`, and empty files in place of the shards.

  The library wants to see that there are shards, and looks at names alone.
  """
  for counts in manifest["splits"].values():
    for name in counts["shards"]:
      (directory / name).touch()

  def template(**kwargs):
    return tfds.core.ShardedFileTemplate(
      dataset_name=manifest["dataset"],
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
        shard_lengths=[shard["records"] for shard in counts["shards"].values()],
        num_bytes=sum(shard["bytes"] for shard in counts["shards"].values()),
        filename_template=template(split=split),
      )
      for split, counts in manifest["splits"].items()
    ],
  )


def _write_lines(
  work: store.Store, name: str, fields: Sequence[str], rows: Iterable[tuple]
) -> None:
  lines = [
    json.dumps(dict(zip(fields, row, strict=True))) + "\n" for row in rows
  ]
  work.write_text(name, "".join(lines))


def tally(reasons: Iterable[str]) -> dict[str, int]:
  """Returns how often each reason occurs, sorted by it."""
  return dict(sorted(collections.Counter(reasons).items()))
