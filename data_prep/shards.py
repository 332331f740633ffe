"""A stretch of the plan to one shard: what one worker does at a time."""

import collections
import contextlib
import dataclasses
import errno
import functools
import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path

from array_record.python import array_record_module  # pyright: ignore

from data_prep import (
  convert,
  decoders,
  dicom,
  images,
  items,
  masks,
  paths,
  rejects,
  sandbox,
  splits,
  store,
  windowing,
)
from tier_jax.data import png, records

# The code and the libraries that a record's bytes depend on.
_MODULES = (
  convert,
  decoders,
  dicom,
  images,
  masks,
  paths,
  rejects,
  sandbox,
  windowing,
  records,
  png,
)
_LIBRARIES = (
  "array_record",
  "imagecodecs",
  "numpy",
  "opencv-python-headless",
  "pillow",
  "protobuf",
  "pydicom",
  "tensorflow-datasets",
)
# A record can be read alone, and PNG does not compress any further.
WRITER_OPTIONS = "group_size:1,uncompressed"


RESULT_NAME = re.compile(rf"({'|'.join(splits.SPLITS)})-\d{{5}}\.json")


@functools.cache
def software() -> dict[str, str]:
  """Returns what the bytes of a shard depend on besides its items.

  "data_prep" has the digest of the code that makes records; the rest are
  versions of libraries.
  """
  digest = hashlib.sha256()
  for path in (__file__, *(module.__file__ for module in _MODULES)):
    digest.update(Path(str(path)).read_bytes())
  return {"data_prep": digest.hexdigest()} | {
    name: metadata.version(name) for name in _LIBRARIES
  }


@dataclasses.dataclass(frozen=True)
class Settings:
  """What shapes the records besides their items.

  Attributes:
    root: the directory that the items' paths start from.
    short_side: pixels; images with a larger shorter side are reduced.
    recipe: one of `dicom.RECIPES`.
  """

  root: Path
  short_side: int
  recipe: str


@dataclasses.dataclass(frozen=True)
class Task:
  """One shard to be made.

  Attributes:
    split: all the items'.
    index: of the shard in its split.
    items: with hashed ids.
  """

  split: str
  index: int
  items: tuple[items.Item, ...]

  @property
  def name(self) -> str:
    return f"{self.split}-{self.index:05d}"

  @property
  def file_name(self) -> str:
    """The shard's file, until the number of shards with records is known."""
    return f"{self.name}.shard"

  @property
  def result_name(self) -> str:
    return f"{self.name}.json"

  def digest(self, settings: Settings) -> str:
    """Returns what tells this shard from any other that may lie there."""
    text = json.dumps(
      [
        software(),
        settings.short_side,
        settings.recipe,
        [vars(item) for item in self.items],  # asdict would copy, slowly
      ],
      sort_keys=True,
    )
    return hashlib.sha256(text.encode()).hexdigest()


def read_task(text: str) -> Task:
  """Returns the task whose fields are in JSON, which has lists for tuples."""
  fields = json.loads(text)
  for item in fields["items"]:
    for name in ("image_paths", "report_paths", "notes"):
      item[name] = tuple(item[name])
    item["boxes"] = tuple((name, tuple(box)) for name, box in item["boxes"])
    item["masks"] = tuple(
      (name, counts, tuple(size)) for name, counts, size in item["masks"]
    )
    if item["box_shape"] is not None:
      item["box_shape"] = tuple(item["box_shape"])
  found = tuple(items.Item(**item) for item in fields["items"])
  return Task(fields["split"], fields["index"], found)


@dataclasses.dataclass(frozen=True)
class Result:
  """What became of a task.

  Attributes:
    digest: the task's.
    records: how many the shard holds; there is no file if none.
    sha256, size: of the file.
    rejects: hashed image id -> reason.
    notes: what was done otherwise than the files said, and how often.
    images: hashed image id -> (pixels_digest, perceptual_hash), of the records
      in their order.
  """

  digest: str
  records: int
  sha256: str
  size: int
  rejects: dict[str, str]
  notes: dict[str, int]
  images: dict[str, tuple[str, int]]


def is_final(item: items.Item, reason: str, settings: Settings) -> bool:
  """Says whether a rejected item would be rejected again.

  Not if its image has come meanwhile, or could not be read for a fault of the
  disk.
  """
  if reason == convert.MISSING:
    return paths.locate(settings.root, item.image_paths) is None
  return reason != convert.UNREADABLE


def read_result(
  task: Task, settings: Settings, directory: store.Store
) -> Result | None:
  """Returns the result of a task that was done before, or None.

  None also if it was another task's, if the shard is not what it was, or if not
  all its rejects are final.
  """
  try:
    fields = json.loads(directory.read_text(task.result_name))
    images = {key: (a, b) for key, (a, b) in fields.pop("images").items()}
    result = Result(images=images, **fields)
    if result.digest != task.digest(settings):
      return None
    if not all(
      is_final(item, result.rejects[item.image_id], settings)
      for item in task.items
      if item.image_id in result.rejects
    ):
      return None
    if result.records and not directory.holds(
      task.file_name, result.size, result.sha256
    ):
      return None
  except (AttributeError, FileNotFoundError, KeyError, TypeError, ValueError):
    return None
  return result


@contextlib.contextmanager
def _write_errors() -> Iterator[None]:
  """Gives the writer's errors their name; their text would name a path."""
  try:
    yield
  except RuntimeError:
    raise OSError(
      errno.EIO, "a shard cannot be written; is the disk full?"
    ) from None


def make_shard(
  task: Task,
  settings: Settings,
  directory: store.Store,
  report: Callable[[int], None] = lambda count: None,
  stop: threading.Event | None = None,
) -> None:
  """Converts the items and writes the shard, then its result beside it.

  Both appear whole, the result last: a shard without one was not finished.

  Args:
    task, settings: what to convert.
    directory: where to write.
    report: is told of items that are done.
    stop: gives up, leaving nothing, once it is set.

  Raises:
    OSError: if the shard cannot be written or the source has gone.
  """
  work = functools.partial(
    convert.convert_item,
    root=settings.root,
    short_side=settings.short_side,
    recipe=settings.recipe,
  )
  wanted = [item for item in task.items if not item.denied]
  report(len(task.items) - len(wanted))
  rejected, images = {}, {}
  notes: collections.Counter[str] = collections.Counter()
  with directory.staging() as staging:
    path = staging / "shard"
    writer = None
    with sandbox.Sandbox(work) as box, _write_errors():
      for item, outcome in zip(wanted, box.run(wanted), strict=True):
        if stop is not None and stop.is_set():
          return
        report(1)
        notes.update(outcome.notes)
        if outcome.data is None:
          rejected[item.image_id] = outcome.reason
          continue
        if writer is None:
          writer = array_record_module.ArrayRecordWriter(
            str(path), WRITER_OPTIONS
          )
        writer.write(outcome.data)
        images[item.image_id] = (
          outcome.pixels_digest,
          outcome.perceptual_hash,
        )
      if writer is not None:
        writer.close()
    if not settings.root.is_dir():
      # Its images are not missing: the disk that they lie on is.
      raise FileNotFoundError(errno.ENOENT, "the source directory is gone")
    sha256, size = "", 0
    if writer is not None:
      size = path.stat().st_size
      with path.open("rb") as handle:
        sha256 = hashlib.file_digest(handle, "sha256").hexdigest()
      directory.put(path, task.file_name)
    elif task.file_name in directory.names():
      directory.remove(task.file_name)  # of an earlier plan
    result = Result(
      digest=task.digest(settings),
      records=len(images),
      sha256=sha256,
      size=size,
      rejects=rejected,
      notes=dict(notes),
      images=images,
    )
    directory.write_text(
      task.result_name, json.dumps(dataclasses.asdict(result))
    )
