"""The shards of a split as one sequence, with errors that say which is bad."""

import bisect
import concurrent.futures
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grain

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


def _open(path: Path) -> Any:
  try:
    return grain.sources.ArrayRecordDataSource([str(path)])
  except RuntimeError as error:
    raise ValueError(
      f"shard {path} does not open, expected a whole ArrayRecord file: it may "
      "be truncated"
    ) from error
