"""One item to one encoded record, or to the reason why there is none."""

import dataclasses
import hashlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_prep import images, items, masks, paths, rejects
from tier_jax.data import records

# How a process may end that converts a file, see `sandbox.Sandbox`.
DIED = "process:died"
TIME_LIMIT = "process:time_limit"
MEMORY_LIMIT = "process:memory_limit"
ENDS = (DIED, TIME_LIMIT, MEMORY_LIMIT)

# Reasons that another day may not give: such files are tried again.
MISSING = "image:missing"
UNREADABLE = "image:cannot_be_read"  # a fault of the disk, not of the file
_WAITS_S = (1.0, 10.0)  # before another try, as a share may come back

_HASH_SIDE = 32


@dataclasses.dataclass(frozen=True)
class Outcome:
  """What became of an item.

  Attributes:
    data: the encoded record, or None if there is none.
    reason: why not, "" otherwise.
    notes: what was done otherwise than the file said, such as
      "window:absent".
    pixels_digest: of the stored image, to find it again in another split, "" if
      there is none.
    perceptual_hash: as `perceptual_hash` returns it.
  """

  data: bytes | None
  reason: str = ""
  notes: tuple[str, ...] = ()
  pixels_digest: str = ""
  perceptual_hash: int = 0


def convert_item(
  item: items.Item, root: Path, short_side: int, recipe: str
) -> Outcome:
  """Returns the record of one item, or why there is none; never raises.

  Args:
    item: with hashed ids and the report's sections.
    root: the directory that its paths start from.
    short_side: pixels; images with a larger shorter side are reduced.
    recipe: one of `dicom.RECIPES`.
  """

  def make(notes: list[str]) -> Outcome:
    record = _make_record(item, root, short_side, recipe, notes)
    return Outcome(
      records.encode(record),
      pixels_digest=hashlib.sha256(
        repr(record.image.shape).encode() + record.image.tobytes()
      ).hexdigest()[:32],
      perceptual_hash=perceptual_hash(record.image),
    )

  return attempt(make, item.notes)


def attempt(
  make: Callable[[list[str]], Outcome], notes: Sequence[str] = ()
) -> Outcome:
  """Returns what `make` does, or why it could not; never raises.

  What may be gone another time, as a fault of the disk, is tried again.

  Args:
    make: called with a list, to which it appends notes.
    notes: what stands in the list already.
  """
  for wait_s in _WAITS_S:
    outcome = _attempt_once(make, notes)
    if outcome.reason != UNREADABLE:
      return outcome
    time.sleep(wait_s)
  return _attempt_once(make, notes)


def _attempt_once(make, notes) -> Outcome:
  notes = list(notes)
  try:
    outcome = make(notes)
    return dataclasses.replace(outcome, notes=tuple(notes))
  except Exception as error:
    # One odd file must not end a run of days. Its message may quote the file.
    if _ran_out_of_memory(error):
      return Outcome(None, MEMORY_LIMIT)
    if rejects.is_passing(error):
      return Outcome(None, UNREADABLE)
    if isinstance(error, rejects.RejectError):
      return Outcome(None, error.reason)
    return Outcome(None, f"error:{type(error).__name__}")


def perceptual_hash(image: np.ndarray) -> int:
  """Returns 64 bits of which few differ between pictures that look alike.

  They say which of the 64 lowest frequencies of the cosine transform lie above
  the median, the mean brightness apart.

  Args:
    image: (H, W) uint8.
  """
  small = cv2.resize(
    image, (_HASH_SIDE, _HASH_SIDE), interpolation=cv2.INTER_AREA
  )
  low = cv2.dct(small.astype(np.float32))[:8, :8].ravel()
  bits = low > np.median(low[1:])
  return int.from_bytes(np.packbits(bits).tobytes(), "big")


def _ran_out_of_memory(error: BaseException | None) -> bool:
  while error is not None:
    if isinstance(error, MemoryError) or (
      isinstance(error, cv2.error) and error.code == cv2.Error.StsNoMem
    ):
      return True
    error = error.__cause__ or error.__context__
  return False


def _make_record(
  item: items.Item, root: Path, short_side: int, recipe: str, notes: list[str]
) -> records.Record:
  if not (item.findings or item.impression or item.labels):
    raise rejects.RejectError("record:no_text_and_no_labels")
  path = paths.locate(root, item.image_paths)
  if path is None:
    raise rejects.RejectError(MISSING)
  source = images.read_image(path, notes, recipe)
  image = images.shrink(source, short_side)
  return records.Record(
    image=image,
    image_id=item.image_id,
    study_id=item.study_id,
    patient_id=item.patient_id,
    view=item.view,
    findings=item.findings,
    impression=item.impression,
    labels=item.labels,
    sex=item.sex,
    age_band=item.age_band,
    boxes=_scale_boxes(item, source.shape, image.shape),
    masks=_scale_masks(item, source.shape, image.shape, notes),
  )


def _scale_masks(
  item: items.Item, source: tuple, stored: tuple, notes: list[str]
) -> tuple:
  scaled = []
  for name, counts, shape in item.masks:
    if shape != source:
      raise rejects.RejectError("masks:other_image_size")
    try:
      mask = masks.shrink_mask(masks.decode_rle(counts, shape), stored)
    except ValueError as error:
      raise rejects.RejectError("masks:invalid") from error
    if mask.any():
      scaled.append((name, mask))
    else:
      notes.append("mask:too_small_to_store")
  return tuple(scaled)


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
