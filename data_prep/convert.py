"""One item to one encoded record, or to the reason why there is none."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from data_prep import images, items, rejects, reports
from tier_jax.data import records


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of an item.

  Attributes:
    data: the encoded record, or None if there is none.
    reason: why not, "" otherwise.
    notes: what was done otherwise than the file said, such as
      "window:absent".
    pixels_digest: of the stored image, to find it again in another split.
  """

  data: bytes | None
  reason: str = ""
  notes: tuple[str, ...] = ()
  pixels_digest: bytes = b""


def convert_item(item: items.Item, root: Path, short_side: int) -> Outcome:
  """Returns the record of one item, or why there is none; never raises."""
  notes: list[str] = []
  try:
    record = _make_record(item, root, short_side, notes)
    return Outcome(
      records.encode(record),
      notes=tuple(notes),
      pixels_digest=hashlib.sha256(
        repr(record.image.shape).encode() + record.image.tobytes()
      ).digest(),
    )
  except rejects.RejectError as rejection:
    return Outcome(None, rejection.reason)
  except Exception as error:
    # One odd file must not end a run of days. Its message may quote the file.
    return Outcome(None, f"error:{type(error).__name__}")


def _make_record(
  item: items.Item, root: Path, short_side: int, notes: list[str]
) -> records.Record:
  findings, impression = item.findings, item.impression
  if item.report_paths:
    path = locate(root, item.report_paths)
    sections = reports.read_report(path) if path else {}
    findings = sections.get("findings", "")
    impression = sections.get("impression", "")
    if path is None:
      notes.append("report:missing")
    elif not findings and not impression:
      notes.append("report:no_findings_or_impression")
  if not (findings or impression or item.labels):
    raise rejects.RejectError("record:no_text_and_no_labels")
  path = locate(root, item.image_paths)
  if path is None:
    raise rejects.RejectError("image:missing")
  source = images.read_image(path, notes)
  image = images.shrink(source, short_side)
  return records.Record(
    image=image,
    image_id=item.image_id,
    study_id=item.study_id,
    patient_id=item.patient_id,
    view=item.view,
    findings=findings,
    impression=impression,
    labels=item.labels,
    sex=item.sex,
    age_band=item.age_band,
    boxes=_scale_boxes(item, source.shape, image.shape),
  )


def _scale_boxes(item: items.Item, source: tuple, stored: tuple) -> tuple:
  if not item.boxes:
    return ()
  if item.box_shape not in (None, source):
    raise rejects.RejectError("boxes:other_image_size")
  (height, width), (rows, columns) = source, stored
  scale = np.array([columns / width, rows / height] * 2)
  limit = np.array([columns, rows] * 2)
  scaled = []
  for name, box in item.boxes:
    x0, y0, x1, y1 = np.clip(np.array(box) * scale, 0, limit).tolist()
    if not (x0 < x1 and y0 < y1):
      raise rejects.RejectError("boxes:outside_the_image")
    scaled.append((name, (x0, y0, x1, y1)))
  return tuple(scaled)


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
    base = root if len(parts) == 1 else root / parts[0]
    if not path.resolve().is_relative_to(base.resolve()):
      raise rejects.RejectError("path:outside_source_dir")
    return path
  return None


def crashed(item: items.Item) -> Outcome:
  """Returns the outcome of an item whose process died."""
  del item
  return Outcome(None, "error:process_died")
