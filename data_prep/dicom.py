"""A DICOM file to a grey picture, trusting nothing that the header says.

Order: header checks, the codestream's own header, decode, recipe. Only the
tags in `_TAGS` are ever parsed, and no value of theirs leaves this module in
a message.
"""

import dataclasses
import io
import itertools
import logging
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from pydicom import config, filereader, uid
from pydicom.dataset import Dataset

from data_prep import decoders, rejects, windowing

MAX_SIDE = 16384
MAX_PIXELS = 128 * 2**20
MAX_BYTES = 512 * 2**20
# What stands before the pixels: overlays and private data may be long.
_MAX_HEADER_BYTES = 16 * 2**20
_MAX_ELEMENTS = 2**14
# No picture that is taken needs more, so a bomb is found out by its size.
MAX_INFLATED_BYTES = 2 * MAX_PIXELS + _MAX_HEADER_BYTES

# voi: modality LUT, VOI LUT or window, MONOCHROME1 turned over, as a viewer
#   shows it; percentiles, padding left out, where that shows nothing.
# mimic_jpg, chexpert: as the JPEGs of MIMIC-CXR-JPG and of CheXpert were made,
#   by `windowing.scale_mimic_jpg` and `windowing.scale_chexpert`: stored values
#   to 8 bits, MONOCHROME1 turned over, histogram equalised; no LUT or window.
RECIPES = ("voi", "mimic_jpg", "chexpert")

_NATIVE = (
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
  uid.DeflatedExplicitVRLittleEndian,
)

_TAGS = [
  0x00280002,  # SamplesPerPixel
  0x00280004,  # PhotometricInterpretation
  0x00280008,  # NumberOfFrames
  0x00280010,  # Rows
  0x00280011,  # Columns
  0x00280100,  # BitsAllocated
  0x00280101,  # BitsStored
  0x00280102,  # HighBit
  0x00280103,  # PixelRepresentation
  0x00280120,  # PixelPaddingValue
  0x00280121,  # PixelPaddingRangeLimit
  0x00280301,  # BurnedInAnnotation
  0x00281050,  # WindowCenter
  0x00281051,  # WindowWidth
  0x00281052,  # RescaleIntercept
  0x00281053,  # RescaleSlope
  0x00281056,  # VOILUTFunction
  0x00283000,  # ModalityLUTSequence
  0x00283010,  # VOILUTSequence
]

_PIXEL_DATA = 0x7FE00010
_PIXEL_TAGS = (_PIXEL_DATA, 0x7FE00008, 0x7FE00009)  # and the two of floats
# Rescaling beyond these is no physical quantity, and would lose the pixels in
# rounding or in infinity.
_MIN_SLOPE, _MAX_RESCALE = 1e-9, 1e9
_MAX_WINDOWS = 16  # that are tried; a header may hold millions

# pydicom's warnings and log lines quote header values.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
config.settings.reading_validation_mode = config.IGNORE


@dataclasses.dataclass(frozen=True)
class Stored:
  """Pixels as they lie in the file, and how to read them.

  Attributes:
    pixels: (H, W) uint8 or uint16: bits, of which only the low ones count.
    values: (2**bits,) int32, the number that each pattern of those stands for.
    header: the tags in `_TAGS`.
  """

  pixels: np.ndarray
  values: np.ndarray
  header: Dataset

  def count(self, stride: int) -> np.ndarray:
    """Returns how often each of `values` occurs, as `windowing.count` does."""
    bits = self.values.size.bit_length() - 1
    return windowing.count(self.pixels, stride, bits)

  def look_up(self, table: np.ndarray) -> np.ndarray:
    """Returns the (H, W) picture in which value i is `table[i]`, uint8."""
    patterns = 1 << 8 * self.pixels.itemsize
    return cv2.LUT(self.pixels, np.tile(table, patterns // table.size))


def read_image(
  path: Path, notes: list[str] | None = None, recipe: str = "voi"
) -> np.ndarray:
  """Returns the picture as (H, W) uint8, bright where the body is dense.

  Args:
    path: a DICOM file with one grey frame.
    notes: gets what was done otherwise than the file says or leaves open, such
      as "window:absent" where the percentiles of the pixels stand in for the
      window, "window:invalid" where one was passed over, or "window:several"
      where the first that shows something was taken.
    recipe: one of `RECIPES`.

  Raises:
    rejects.RejectError: if the file is no such DICOM or does not decode.
    OSError: if it cannot be read now, as `rejects.is_passing` says.
    ValueError: if there is no such recipe.
  """
  notes = [] if notes is None else notes
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    return _render(read_stored(path, notes), notes, recipe)


def render(
  pixels: np.ndarray, notes: list[str], recipe: str = "voi"
) -> np.ndarray:
  """Returns (H, W) uint16 as `read_image` would a DICOM with them and no LUT.

  Raises:
    rejects.RejectError: if all are equal.
    ValueError: if there is no such recipe.
  """
  header = Dataset()
  header.PhotometricInterpretation = "MONOCHROME2"
  values = np.arange(2**16, dtype=np.int32)
  return _render(Stored(pixels, values, header), notes, recipe)


def _render(stored: Stored, notes: list[str], recipe: str) -> np.ndarray:
  if recipe not in RECIPES:
    raise ValueError(f"recipe {recipe!r} is none of {', '.join(RECIPES)}")
  if recipe == "voi":
    return _render_voi(stored, notes)
  return _render_equalised(stored, recipe)


def read_stored(path: Path, notes: list[str]) -> Stored:
  """Returns the decoded pixels of a DICOM file with one grey frame.

  Args:
    path: the file.
    notes: gets "dicom:padded" if more bytes follow the pixels than need be.

  Raises:
    rejects.RejectError: if the file is no such DICOM or does not decode.
    OSError: if it cannot be read now, as `rejects.is_passing` says.
  """
  data, start, syntax = _read_file(path)
  native = syntax in _NATIVE
  header_bytes = io.BytesIO(data[:_MAX_HEADER_BYTES])
  header_bytes.seek(start)
  try:
    header = filereader.read_dataset(
      header_bytes,
      is_implicit_VR=syntax == uid.ImplicitVRLittleEndian,
      is_little_endian=syntax != uid.ExplicitVRBigEndian,
      stop_when=_stop_at_pixels(),
      specific_tags=_TAGS,
    )
    shape, allocated, bits, signed = _check_header(header)
  except rejects.RejectError:
    raise
  except Exception as error:
    raise rejects.RejectError("dicom:header") from error
  start, length, is_words = _locate_pixels(data, header_bytes.tell(), header)
  if native:
    size = shape[0] * shape[1] * allocated // 8
    if length is None:
      raise rejects.RejectError("dicom:pixels")
    if length < size or start + length > len(data):
      raise rejects.RejectError("dicom:truncated")
    if length >= 2 * size > 2:
      raise rejects.RejectError("dicom:frames")
    if length > size + size % 2:
      notes.append("dicom:padded")
    big = syntax == uid.ExplicitVRBigEndian
    pixels = _view_native(data, start, shape, allocated, big, is_words)
  else:
    if length is not None:
      raise rejects.RejectError("dicom:fragments")
    stream = decoders.join_fragments(data, start)
    # Of signed pixels with fewer bits than that, where is the sign?
    frame = decoders.Frame(*shape, allocated, bits if signed else 2)
    pixels, precision = decoders.decode(stream, syntax, frame)
    # Of unsigned pixels that a codec delivers at its own precision, none is
    # cut to Bits Stored: a lossy one may overshoot, and white would turn black.
    if not signed and syntax not in decoders.MASKED:
      bits = precision
  bits = min(bits, 8 * pixels.itemsize)
  values = np.arange(1 << bits, dtype=np.int32)
  if signed:
    values[values.size // 2 :] -= 1 << bits
  return Stored(pixels, values, header)


def _stop_at_pixels() -> Callable[[int, str | None, int], bool]:
  """Returns what tells the parser to stop."""
  count = itertools.count()

  def stop(tag: int, vr: str | None, length: int) -> bool:
    del vr, length
    if next(count) > _MAX_ELEMENTS:
      raise rejects.RejectError("dicom:header")
    return tag in _PIXEL_TAGS

  return stop


def _read_file(path: Path) -> tuple[bytes, int, uid.UID]:
  """Returns the file, where its data set begins, and its transfer syntax.

  A deflated data set comes inflated, in place of the file.
  """
  try:
    with path.open("rb") as handle:
      start = handle.read(132)
      if start[128:] != b"DICM":
        raise rejects.RejectError("dicom:not_dicom")
      size = os.fstat(handle.fileno()).st_size
      if size > MAX_BYTES:
        raise rejects.RejectError("dicom:too_large")
      handle.seek(0)
      data = handle.read(size)
  except OSError as error:
    if rejects.is_passing(error):
      raise
    raise rejects.RejectError("dicom:cannot_be_opened") from error
  meta_bytes = io.BytesIO(data[:_MAX_HEADER_BYTES])
  meta_bytes.seek(132)
  try:
    meta = filereader.read_dataset(
      meta_bytes,
      is_implicit_VR=False,
      is_little_endian=True,
      stop_when=lambda tag, vr, length: tag >> 16 != 2,
      specific_tags=[0x00020010],  # Transfer Syntax UID
    )
    syntax = meta.get("TransferSyntaxUID")
  except Exception as error:
    raise rejects.RejectError("dicom:not_dicom") from error
  if not syntax:
    raise rejects.RejectError("dicom:no_transfer_syntax")
  syntax = uid.UID(str(syntax))
  if syntax not in _NATIVE and syntax not in decoders.DECODERS:
    raise rejects.RejectError("dicom:transfer_syntax")
  if syntax != uid.DeflatedExplicitVRLittleEndian:
    return data, meta_bytes.tell(), syntax
  # pydicom would inflate it whole, whatever it grows to.
  inflater = zlib.decompressobj(-zlib.MAX_WBITS)
  try:
    inflated = inflater.decompress(
      memoryview(data)[meta_bytes.tell() :], MAX_INFLATED_BYTES
    )
  except zlib.error as error:
    raise rejects.RejectError("dicom:deflated") from error
  if len(inflated) == MAX_INFLATED_BYTES:
    raise rejects.RejectError("dicom:deflated_too_large")
  if not inflater.eof:
    raise rejects.RejectError("dicom:truncated")
  return inflated, 0, syntax


def _check_header(header: Dataset) -> tuple[tuple[int, int], int, int, bool]:
  """Returns shape, bits allocated and stored, and whether values are signed."""
  if "YES" in str(header.get("BurnedInAnnotation")).upper():
    raise rejects.RejectError("dicom:burned_in_annotation")
  rows, columns = int(header.Rows), int(header.Columns)
  if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
    raise rejects.RejectError("dicom:size")
  if rows * columns > MAX_PIXELS:
    raise rejects.RejectError("dicom:size")
  if int(header.get("NumberOfFrames") or 1) != 1:
    raise rejects.RejectError("dicom:frames")
  samples = int(header.get("SamplesPerPixel") or 1)
  photometric = str(header.get("PhotometricInterpretation")).strip()
  if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
    raise rejects.RejectError("dicom:not_grey")
  allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
  if allocated not in (8, 16) or not 8 <= bits <= allocated:
    raise rejects.RejectError("dicom:bits")
  # The standard leaves no choice; where the bits lie else is a guess.
  high_bit = header.get("HighBit")
  if high_bit not in (None, "") and int(high_bit) != bits - 1:
    raise rejects.RejectError("dicom:high_bit")
  signed = int(header.PixelRepresentation)  # a missing one is not guessed
  if signed not in (0, 1):
    raise rejects.RejectError("dicom:bits")
  return (rows, columns), allocated, bits, bool(signed)


def _locate_pixels(
  data: bytes, at: int, header: Dataset
) -> tuple[int, int | None, bool]:
  """Returns where the pixels begin, their length, and whether as words.

  Args:
    data: the file.
    at: where parsing the header stopped.
    header: tells how elements are written.

  Returns:
    start: of the value.
    length: bytes, None if undefined.
    is_words: the value representation is OW.
  """
  is_implicit, is_little = header.original_encoding
  order = "<" if is_little else ">"
  element = data[at : at + 12]
  if len(element) < 12:
    raise rejects.RejectError("dicom:no_pixels")
  group, number = struct.unpack_from(order + "HH", element)
  if group << 16 | number != _PIXEL_DATA:
    raise rejects.RejectError("dicom:no_pixels")
  if is_implicit:
    (length,) = struct.unpack_from(order + "L", element, 4)
    start, is_words = at + 8, True
  else:
    if element[4:6] not in (b"OB", b"OW", b"UN"):
      raise rejects.RejectError("dicom:pixels")
    (length,) = struct.unpack_from(order + "L", element, 8)
    start, is_words = at + 12, element[4:6] == b"OW"
  return start, None if length == 0xFFFFFFFF else length, is_words


def _view_native(
  data: bytes,
  start: int,
  shape: tuple[int, int],
  allocated: int,
  is_big: bool,
  is_words: bool,
) -> np.ndarray:
  """Returns uncompressed pixels, (H, W), without a copy where it can."""
  count = shape[0] * shape[1]
  if allocated == 16:
    dtype = ">u2" if is_big else "<u2"
    pixels = np.frombuffer(data, dtype, count, start)
    pixels = pixels.astype("=u2", copy=False)
  elif is_big and is_words and start + count + count % 2 <= len(data):
    # Two pixels make a word, whose bytes are the other way round.
    words = np.frombuffer(data, "u1", count + count % 2, start)
    pixels = words.reshape(-1, 2)[:, ::-1].ravel()[:count]
  else:
    pixels = np.frombuffer(data, "u1", count, start)
  return np.require(pixels.reshape(shape), requirements="A")


def _render_equalised(stored: Stored, recipe: str) -> np.ndarray:
  """Returns the picture by the recipe of a published set of JPEGs."""
  counts = stored.count(stride=1)
  present = stored.values[counts > 0]
  low, high = int(present.min()), int(present.max())
  if low == high:
    raise rejects.RejectError("image:constant")
  if recipe == "mimic_jpg":
    table = windowing.scale_mimic_jpg(stored.values, low, high)
  elif high > 0:
    table = windowing.scale_chexpert(stored.values, high)
  else:
    raise rejects.RejectError("dicom:no_positive_value")
  if _is_inverted(stored.header):
    table = 255 - table
  image = cv2.equalizeHist(stored.look_up(table))
  if image.min() == image.max():
    raise rejects.RejectError("image:constant")
  return image


def _render_voi(stored: Stored, notes: list[str]) -> np.ndarray:
  """Returns the picture as a viewer shows it."""
  try:
    values = _apply_modality(stored)
  except rejects.RejectError:
    raise
  except Exception as error:
    raise rejects.RejectError("dicom:modality_lut") from error
  padding = _find_padding(stored, notes)
  counts = _count(stored, padding)
  if not counts.any():
    counts = _count(stored, padding, stride=1)
  if not counts.any():
    notes.append("padding:everywhere")
    padding[:] = False
    counts = _count(stored, padding)
  unit = _apply_voi(values, counts, stored.header, notes)
  if unit is None:
    low, high = windowing.percentile_limits(values, counts)
    if low == high:
      present = values[_count(stored, padding, stride=1) > 0]
      low, high = float(present.min()), float(present.max())
    if low == high:
      raise rejects.RejectError("image:constant")
    unit = windowing.apply_limits(values, low, high)
  # PresentationLUTShape is not looked at: INVERSE goes with MONOCHROME1 in
  # the standard, and obeying both would turn the picture over twice.
  if _is_inverted(stored.header):
    unit = 1 - unit
  return stored.look_up(windowing.to_uint8(unit))


def _is_inverted(header: Dataset) -> bool:
  return str(header.PhotometricInterpretation).strip() == "MONOCHROME1"


def _apply_modality(stored: Stored) -> np.ndarray:
  """Returns the stored values after the modality LUT or rescaling.

  Source: DICOM PS3.3 C.11.1.
  """
  header, values = stored.header, stored.values
  if header.get("ModalityLUTSequence"):
    return _look_up(values, header.ModalityLUTSequence[0])[0]
  slope = _first(header.get("RescaleSlope"))
  intercept = _first(header.get("RescaleIntercept"))
  slope = 1.0 if slope is None else slope
  intercept = 0.0 if intercept is None else intercept
  # Written so that a NaN fails.
  if not (
    _MIN_SLOPE <= abs(slope) <= _MAX_RESCALE and abs(intercept) <= _MAX_RESCALE
  ):
    raise rejects.RejectError("dicom:modality_lut")
  return values * slope + intercept


def _find_padding(stored: Stored, notes: list[str]) -> np.ndarray:
  """Returns which of the stored values stand for no picture, (N,) bool.

  Source: DICOM PS3.3 C.7.5.1.1.2.
  """
  is_signed = bool(stored.values.min() < 0)
  try:
    value, limit = (
      _as_list(stored.header.get(keyword))
      for keyword in ("PixelPaddingValue", "PixelPaddingRangeLimit")
    )
    ends = [_wrap(end, is_signed) for end in value[:1] + limit[:1]]
  except Exception:
    notes.append("padding:invalid")
    value = ends = []
  if not value:
    return np.zeros(stored.values.shape, np.bool_)
  # The limit may be the lower end.
  return (min(ends) <= stored.values) & (stored.values <= max(ends))


def _wrap(value: object, is_signed: bool) -> int:
  """Returns a number of 16 bits, whichever sign it was written with."""
  number = int(value) % 2**16  # pyright: ignore
  return number - 2**16 if is_signed and number >= 2**15 else number


def _count(
  stored: Stored, padding: np.ndarray, stride: int = windowing.STRIDE
) -> np.ndarray:
  """Returns how often each stored value occurs in the picture, (N,)."""
  counts = stored.count(stride)
  counts[padding] = 0
  return counts


def _apply_voi(
  values: np.ndarray, counts: np.ndarray, header: Dataset, notes: list[str]
) -> np.ndarray | None:
  """Returns the values in [0, 1] by the VOI LUT or the first good window.

  Args:
    values: after the modality LUT.
    counts: how often each occurs.
    header: of the file.
    notes: gets why a LUT or windows were passed over, and what was left open
      in choosing one.

  Returns:
    unit: like `values`, or None if nothing in the header shows something.
  """
  try:
    if tables := header.get("VOILUTSequence"):
      unit, is_shallow = _apply_voi_lut(values, tables[0])
      if not windowing.is_blank(unit, counts):
        notes += ["voi_lut:shallow"] * is_shallow
        notes += ["voi_lut:several"] * (len(tables) > 1)
        return unit
      notes.append("voi_lut:blank")
  except Exception:
    notes.append("voi_lut:invalid")
  try:
    windows = list(
      zip(
        _as_list(header.get("WindowCenter")),
        _as_list(header.get("WindowWidth")),
        strict=False,
      )
    )
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
  except Exception:
    notes.append("window:invalid")
    return None
  if not windows:
    notes.append("window:absent")
  reasons = []
  for center, width in windows[:_MAX_WINDOWS]:
    try:
      unit = _apply_window(values, center, width, function)
    except (TypeError, ValueError):
      reasons.append("window:invalid")
      continue
    if not windowing.is_blank(unit, counts):
      reasons += ["window:several"] * (len(windows) > 1)
      break
    reasons.append("window:blank")
  else:
    unit = None
  notes += dict.fromkeys(reasons)  # each once
  return unit


def _apply_voi_lut(
  values: np.ndarray, item: Dataset
) -> tuple[np.ndarray, bool]:
  """Returns the values in [0, 1], and whether the LUT states too many bits.

  A file that keeps entries of 14 bits in words and states 16 would be dark.

  Raises:
    ValueError: as `_look_up`, which raises others too.
  """
  entries, depth, largest = _look_up(np.rint(values).astype(np.int64), item)
  is_shallow = largest < 2 ** (depth - 1)
  if is_shallow:
    depth = max(1, largest.bit_length())
  return entries / (2**depth - 1), is_shallow


def _apply_window(
  values: np.ndarray, center: object, width: object, function: str
) -> np.ndarray:
  """As `windowing.apply_window`, of numbers that may be none."""
  numbers = float(center), float(width)  # pyright: ignore
  if not all(map(math.isfinite, numbers)):
    raise ValueError("the window is not finite")
  return windowing.apply_window(values, *numbers, function)


def _look_up(values: np.ndarray, item: Dataset) -> tuple[np.ndarray, int, int]:
  """Returns the values by a LUT, float64, its stated bits, and largest entry.

  Args:
    values: integers.
    item: of a Modality or VOI LUT Sequence.

  Raises:
    ValueError: if the LUT does not hold what its descriptor says.

  Source: DICOM PS3.3 C.11.1.1.1 and C.11.2.1.1.
  """
  size, first, depth = (int(number) for number in item.LUTDescriptor)
  size = size % 2**16 or 2**16  # 0 stands for 65,536, which has no 16 bits
  if first >= 2**15 and values.min() < 0:
    first -= 2**16  # written as an unsigned number, meant as a signed one
  if not 8 <= depth <= 16:
    raise ValueError("the LUT's depth is out of range")
  data = item.LUTData
  if isinstance(data, bytes):
    is_little = item.original_encoding[1] is not False
    if len(data) in (size, size + size % 2) and depth == 8:
      entries = np.frombuffer(data, np.uint8, size)
    else:
      entries = np.frombuffer(data, "<u2" if is_little else ">u2")
  else:
    entries = np.atleast_1d(np.asarray(data, dtype=np.int64))
  if entries.size < size or size < 2:
    raise ValueError("the LUT is shorter than its descriptor says")
  entries = entries[:size].astype(np.float64)
  if entries.min() < 0 or entries.max() > 2**depth - 1:
    raise ValueError("the LUT has entries deeper than its descriptor says")
  place = np.clip(np.asarray(values, np.int64) - first, 0, size - 1)
  return entries[place], depth, int(entries.max())


def _as_list(value: object) -> list:
  if value is None or value == "":
    return []
  if isinstance(value, (str, bytes)) or not hasattr(value, "__len__"):
    return [value]
  return list(value)  # pyright: ignore


def _first(value: object) -> float | None:
  values = _as_list(value)
  return None if not values or values[0] in (None, "") else float(values[0])
