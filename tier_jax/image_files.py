"""Image files and DICOMs, found and read as a model takes them.

Each file is decoded in a process of its own, under limits, as data_prep does
it: a hostile one costs itself alone. Those processes import this file, so that
nothing here may need jax.
"""

import contextlib
import dataclasses
import functools
import os
import queue
import struct
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent import futures
from pathlib import Path

import numpy as np

from data_prep import convert, images, labels, rejects, sandbox
from tier_jax.data import transforms

_SHAPE = struct.Struct("<2I")


@dataclasses.dataclass(frozen=True)
class Picture:
  """What became of a file.

  Attributes:
    path: of the file.
    reason: why there is no picture, such as "dicom:truncated"; "" if there is.
    notes: what was done otherwise than the file says, such as "window:absent".
    square: (S, S) uint8, what the model sees; None if there is no picture.
    preview: (H, W) uint8, all of the picture, smaller; None if not asked for.
  """

  path: str
  reason: str
  notes: tuple[str, ...]
  square: np.ndarray | None = None
  preview: np.ndarray | None = None


def find(inputs: Sequence[str], path_column: str) -> dict[str, str]:
  """Returns path -> what it is called where it was found, in their order.

  Args:
    inputs: images, taken as they are, even those that are not there; folders,
      searched for images at any depth, by name; and .csv (or .csv.gz) files of
      paths, called as they are in the cells; relative ones begin at the file's
      own folder. In folders, what begins with a dot is passed over, and a file
      is an image by its suffix (.dcm, .dicom, .png, .jpg, .jpeg) or, as DICOMs
      often have none, by its first bytes.
    path_column: of the .csv files.

  Raises:
    ValueError: if a .csv file cannot be read or lacks the column, or if no
      image is found.
  """
  found: dict[str, str] = {}
  for name in inputs:
    if name.lower().endswith((".csv", ".csv.gz")):
      folder = os.path.dirname(name)
      for row in labels.read_table(Path(name), [path_column]):
        cell = row[path_column]
        found.setdefault(os.path.join(folder, cell), cell)
    elif os.path.isdir(name):
      for path in _search(name):
        found.setdefault(path, path)
    else:
      found.setdefault(name, name)
  if not found:
    raise ValueError(
      f"no image was found in {', '.join(inputs) or 'no input'}, expected "
      "DICOM, PNG or JPEG files"
    )
  return found


def _search(folder: str) -> Iterator[str]:
  for root, folders, names in os.walk(folder):
    folders[:] = sorted(name for name in folders if not name.startswith("."))
    for name in sorted(names):
      path = os.path.join(root, name)
      if not name.startswith(".") and _is_image(path):
        yield path


def _is_image(path: str) -> bool:
  if path.lower().endswith(images.SUFFIXES):
    return True
  try:
    # Only of a file: a pipe would be waited for.
    if not os.path.isfile(path):
      return False
    with open(path, "rb") as handle:
      return handle.read(132)[128:] == b"DICM"
  except OSError:
    return False


def to_square(
  image: np.ndarray, size: int, rendering: transforms.Rendering
) -> np.ndarray:
  """Returns what a model sees of a picture, (S, S) uint8.

  It is reduced as data_prep stores it, then resized and cropped.

  Args:
    image: (H, W) uint8, as `images.read_image` returns it.
    size: S.
    rendering: of the training's pictures.
  """
  stored = images.shrink(image, rendering.short_side)
  return transforms.eval_image(stored, size)


class Reader:
  """Reads files side by side, and gives their pictures in order.

  To be used in a `with` statement; reading begins at once, and is ahead of what
  was taken by a bounded number of files.
  """

  def __init__(
    self,
    paths: Iterable[str],
    size: int,
    rendering: transforms.Rendering,
    *,
    preview_side: int = 0,
    ahead: int = 64,
    num_workers: int | None = None,
  ):
    """Starts.

    Args:
      paths: of the files.
      size: S, of the squares.
      rendering: how the pictures are made.
      preview_side: pixels of a preview's shorter side, at most; 0 for none.
      ahead: files read before they are taken.
      num_workers: processes, started as they are needed; by default as many as
        this one may use processors.
    """
    if num_workers is None:
      num_workers = (
        len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count() or 1
      )
    self._size = size
    self._work = functools.partial(_read, size, rendering, preview_side)
    self._idle: queue.SimpleQueue[sandbox.Sandbox[str]] = queue.SimpleQueue()
    self._boxes = contextlib.ExitStack()
    self._pool = futures.ThreadPoolExecutor(num_workers)
    self._rest = iter(paths)
    self._begun: deque[tuple[str, futures.Future[convert.Outcome]]] = deque()
    for _ in range(ahead + num_workers):
      self._begin_next()

  def __enter__(self) -> "Reader":
    return self

  def __exit__(self, *_) -> None:
    self._pool.shutdown(cancel_futures=True)
    self._boxes.close()

  def __iter__(self) -> "Reader":
    return self

  def __next__(self) -> Picture:
    """Returns the next picture.

    Raises:
      OSError: if no process can be started.
    """
    if not self._begun:
      raise StopIteration
    path, future = self._begun.popleft()
    outcome = future.result()
    self._begin_next()
    return _unpack(path, outcome, self._size)

  def _begin_next(self) -> None:
    path = next(self._rest, None)
    if path is not None:
      self._begun.append((path, self._pool.submit(self._decode, path)))

  def _decode(self, path: str) -> convert.Outcome:
    """Runs in a thread, which waits for the process."""
    try:
      box = self._idle.get_nowait()
    except queue.Empty:
      box = self._boxes.enter_context(sandbox.Sandbox(self._work))
    (outcome,) = box.run([path])
    self._idle.put(box)
    return outcome


def _read(
  size: int, rendering: transforms.Rendering, preview_side: int, path: str
) -> convert.Outcome:
  """Runs in a process of its own; see `_unpack` for the data."""

  def make(notes: list[str]) -> convert.Outcome:
    if not os.path.isfile(path):
      raise rejects.RejectError(convert.MISSING)
    image = images.read_image(Path(path), notes, rendering.recipe)
    square = to_square(image, size, rendering)
    if not preview_side:
      return convert.Outcome(_SHAPE.pack(0, 0) + square.tobytes())
    preview = images.shrink(image, preview_side)
    shape = _SHAPE.pack(*preview.shape)
    return convert.Outcome(shape + square.tobytes() + preview.tobytes())

  return convert.attempt(make)


def _unpack(path: str, outcome: convert.Outcome, size: int) -> Picture:
  """Returns the picture whose shape, square and preview follow each other."""
  data = outcome.data
  if data is None:
    return Picture(path, outcome.reason, outcome.notes)
  height, width = _SHAPE.unpack_from(data)
  pixels = np.frombuffer(data, np.uint8, offset=_SHAPE.size)
  square, preview = np.split(pixels, [size * size])
  return Picture(
    path,
    "",
    outcome.notes,
    square.reshape(size, size),
    preview.reshape(height, width) if height else None,
  )
