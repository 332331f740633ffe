"""Finds files below a directory, by names that a table gives."""

import itertools
import os
import pathlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from data_prep import rejects


def locate(root: Path, candidates: Iterable[str]) -> Path | None:
  """Returns the first candidate below `root` that is a file, or None.

  Args:
    root: a directory.
    candidates: relative paths, which may come from a hostile table.

  Raises:
    rejects.RejectError: if a candidate leads out of `root`, by its name or by a
      link. A link at the first level is the owner's own arrangement.
  """
  for candidate in candidates:
    parts = pathlib.PurePosixPath(candidate).parts
    if not parts or candidate.startswith("/") or ".." in parts:
      raise rejects.RejectError("path:outside_source_dir")
    if "\0" in candidate:
      raise rejects.RejectError("path:invalid")
    path = root.joinpath(*parts)
    if not path.is_file():
      continue
    base, below = (
      (root, parts) if len(parts) == 1 else (root / parts[0], parts[1:])
    )
    # Only a link can lead out; to resolve each path would cost twenty calls.
    if _passes_link(base, below) and not path.resolve().is_relative_to(
      base.resolve()
    ):
      raise rejects.RejectError("path:outside_source_dir")
    return path
  return None


def _passes_link(base: Path, below: Sequence[str]) -> bool:
  """Whether a link lies on the way from `base` down to a file."""
  names = itertools.accumulate(below, os.path.join, initial=str(base))
  return any(os.path.islink(name) for name in itertools.islice(names, 1, None))
