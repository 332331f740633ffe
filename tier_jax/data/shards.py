"""A prepared dataset on disk: its manifest, and a split's shards in order."""

import bisect
import concurrent.futures
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain

from tier_jax.data import transforms

_OPENERS = 16  # threads: opening waits for the disk


class Shards:
  """Random access to the serialised records of some files, in order.

  What is read is checked against the hashes that the files carry.
  """

  def __init__(self, paths: Sequence[Path]):
    """Opens the files.

    Raises:
      ValueError: if one is no whole ArrayRecord file; names it.
    """
    self._paths = list(paths)
    with concurrent.futures.ThreadPoolExecutor(_OPENERS) as pool:
      self._files = list(pool.map(_open, self._paths))
    self._starts = [0, *itertools.accumulate(map(len, self._files))]

  def __len__(self) -> int:
    return self._starts[-1]

  def __getitem__(self, index: int) -> bytes:
    """Returns a record.

    Raises:
      FileNotFoundError: if its file is not there any more and was not open yet.
      ValueError: if the record does not read; names file and place.
    """
    which, place = self._find(index)
    path = self._paths[which]
    try:
      return self._files[which][place]
    except RuntimeError as error:
      if not path.is_file():
        raise FileNotFoundError(f"shard {path} is gone") from error
      raise ValueError(
        f"record {place} of shard {path} does not read, expected the file as "
        "`python -m data_prep` wrote it"
      ) from error

  def locate(self, index: int) -> tuple[str, int]:
    """Returns the file name of a record's shard, and its place there."""
    which, place = self._find(index)
    return self._paths[which].name, place

  def _find(self, index: int) -> tuple[int, int]:
    if not 0 <= index < len(self):
      raise IndexError(f"index {index} of {len(self)} records")
    which = bisect.bisect_right(self._starts, index) - 1
    return which, index - self._starts[which]


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


def read_rendering(directory: str | Path) -> transforms.Rendering:
  """Returns how the pictures of a prepared dataset were made.

  Raises:
    ValueError: if the directory is none, or its manifest does not say.
  """
  settings = read_manifest(directory).get("settings", {})
  try:
    return transforms.Rendering(settings["recipe"], settings["short_side"])
  except KeyError as error:
    raise ValueError(
      f"{directory}/manifest.json has no setting {error}, expected what "
      "`python -m data_prep` writes"
    ) from error


def splits(directory: str | Path) -> tuple[str, ...]:
  """Returns the splits of a prepared dataset that hold records; () without one.

  Raises:
    ValueError: if the directory is there but no prepared dataset.
  """
  if not Path(directory).is_dir():
    return ()
  found = read_manifest(directory)["splits"]
  return tuple(name for name, split in found.items() if split["records"])


def open_split(directory: str | Path, split: str) -> Shards:
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
  source = Shards(paths)
  if len(source) != about["records"]:
    raise ValueError(
      f"{directory} split {split!r} holds {len(source)} records, its manifest "
      f"says {about['records']}"
    )
  return source


def _open(path: Path) -> Any:
  try:
    return grain.sources.ArrayRecordDataSource([str(path)])
  except RuntimeError as error:
    raise ValueError(
      f"shard {path} does not open, expected a whole ArrayRecord file: it may "
      "be truncated"
    ) from error
