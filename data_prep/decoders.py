"""Compressed pixels to arrays: what a codestream says of itself comes first.

A codestream states its own size, and decoders believe it. So here its header
is read, and compared with what the file says, before a decoder is called;
nothing is allocated on the word of a few bytes.

One free library decodes each kind: imagecodecs, by libjpeg-turbo, CharLS and
OpenJPEG. JPEG and JPEG 2000 have no checksum: flipped bits in their data give
another picture, and no decoder can tell.
"""

import dataclasses
import functools
import itertools
import struct
from collections.abc import Callable

import imagecodecs
import numpy as np
from pydicom import uid

from data_prep import rejects

_MAX_FRAGMENTS = 2**16
_ITEM, _END = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0"

_SOI, _EOI, _SOS = 0xD8, 0xD9, 0xDA
_SOF55 = 0xF7  # JPEG-LS
_SOF_MARKERS = {*range(0xC0, 0xD0), _SOF55} - {0xC4, 0xC8, 0xCC}
_J2K_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
_SOT, _EOC = b"\xff\x90", b"\xff\xd9"


def join_fragments(data: bytes, start: int) -> bytes:
  """Returns the codestream of an encapsulated single frame.

  Args:
    data: the file.
    start: where the first item begins, which is the offset table's.

  Raises:
    rejects.RejectError: if the items are malformed, cut short or too many, or
      the offset table lists several frames.

  Source: DICOM PS3.5 A.4.
  """
  fragments: list[bytes] = []
  while True:
    if start + 8 > len(data):
      raise rejects.RejectError("dicom:truncated")
    tag = data[start : start + 4]
    (length,) = struct.unpack_from("<L", data, start + 4)
    start += 8
    if tag == _END:
      break
    if tag != _ITEM or length == 0xFFFFFFFF:
      raise rejects.RejectError("dicom:fragments")
    if start + length > len(data):
      raise rejects.RejectError("dicom:truncated")
    fragments.append(data[start : start + length])
    if len(fragments) > _MAX_FRAGMENTS:
      raise rejects.RejectError("dicom:fragments")
    start += length
  # What an offset table says of one frame is of no use; it may be garbage.
  if fragments and len(fragments[0]) >= 8 and len(fragments[0]) % 4 == 0:
    raise rejects.RejectError("dicom:frames")
  stream = b"".join(fragments[1:])
  if not stream:
    raise rejects.RejectError("dicom:no_pixels")
  return stream


@dataclasses.dataclass(frozen=True)
class Frame:
  """What a file says of its pixels, for the codestream to agree with.

  Attributes:
    rows, columns: > 0.
    allocated: bits a pixel, 8 or 16.
    least: bits that the codestream has to have.
  """

  rows: int
  columns: int
  allocated: int
  least: int

  def check(
    self, rows: int, columns: int, components: int, precision: int
  ) -> None:
    """Raises RejectError if a codestream of a pixel format says otherwise."""
    if (rows, columns, components) != (self.rows, self.columns, 1):
      raise rejects.RejectError("dicom:codestream_size")
    if not self.least <= precision <= self.allocated:
      raise rejects.RejectError("dicom:codestream_bits")


def decode(stream: bytes, syntax: str, frame: Frame) -> tuple[np.ndarray, int]:
  """Returns the pixels of a grey codestream and how many bits of each count.

  Args:
    stream: of one frame.
    syntax: a key of `DECODERS`.
    frame: as the file's header has it.

  Returns:
    pixels: (rows, columns) uint8 or uint16; negative values are left in two's
      complement.
    bits: the precision of the codestream, or `allocated` where it has none.

  Raises:
    rejects.RejectError: if the codestream says something else than the header,
      or does not decode whole.
  """
  return DECODERS[uid.UID(syntax)](stream, frame)


def _decode_rle(stream: bytes, frame: Frame) -> tuple[np.ndarray, int]:
  """Source: DICOM PS3.5 annex G."""
  if len(stream) < 64:
    raise rejects.RejectError("dicom:truncated")
  count, *offsets = struct.unpack_from("<16L", stream)
  if count != frame.allocated // 8:
    raise rejects.RejectError("dicom:codestream_bits")
  bounds = [*offsets[:count], len(stream)]
  if bounds[0] < 64 or bounds != sorted(bounds):
    raise rejects.RejectError("dicom:codestream")
  shape = frame.rows, frame.columns
  planes = [
    _unpack_bits(stream[start:stop], frame.rows * frame.columns).reshape(shape)
    for start, stop in itertools.pairwise(bounds)
  ]
  if count == 1:
    return planes[0], 8
  # The high byte comes first.
  return planes[0].astype(np.uint16) << 8 | planes[1], 16


def _unpack_bits(segment: bytes, size: int) -> np.ndarray:
  """Returns exactly `size` bytes; a decoded byte or two more are padding."""
  place = bytearray(size + 2)
  # A segment of odd length ends in a zero that is no code.
  for end in (len(segment), len(segment) - 1):
    try:
      data = imagecodecs.packbits_decode(segment[:end], out=place)
    except Exception as error:
      if end == len(segment) and segment.endswith(b"\0"):
        continue
      raise rejects.RejectError("dicom:pixels") from error
    if len(data) < size:
      raise rejects.RejectError("dicom:truncated")
    break
  return np.frombuffer(place, np.uint8, size)


def _decode_jpeg(
  stream: bytes, frame: Frame, *types: int
) -> tuple[np.ndarray, int]:
  """Takes JPEGs whose frame has one of these SOF markers."""
  precision = _check_jpeg(stream, frame, types)
  decoder = (
    imagecodecs.jpegls_decode if _SOF55 in types else imagecodecs.jpeg8_decode
  )
  return _call(decoder, stream, frame), precision


def _check_jpeg(stream: bytes, frame: Frame, types: tuple[int, ...]) -> int:
  """Walks the markers of one grey scan from SOI to EOI; gives the precision.

  A decoder fills what is missing with grey and says nothing, so the stream has
  to end where it should. Progressive and multi-scan streams, which can make
  a decoder go over the picture a million times, do not pass.

  Source: ITU T.81 annex B, T.87 annex C.
  """
  precision = None
  at = 2
  if stream[:2] != bytes((0xFF, _SOI)):
    raise rejects.RejectError("dicom:codestream")
  while True:
    if at + 4 > len(stream):
      raise rejects.RejectError("dicom:truncated")
    if stream[at] != 0xFF:
      raise rejects.RejectError("dicom:codestream")
    marker = stream[at + 1]
    if marker == 0xFF:  # fill
      at += 1
      continue
    (length,) = struct.unpack_from(">H", stream, at + 2)
    body = stream[at + 4 : at + 2 + length]
    at += 2 + length
    if marker in _SOF_MARKERS:
      if precision is not None or marker not in types or len(body) < 9:
        raise rejects.RejectError("dicom:codestream")
      precision, height, width, components = struct.unpack_from(">BHHB", body)
      frame.check(height, width, components, precision)
    elif marker == _SOS:
      if precision is None or body[:1] != b"\1":
        raise rejects.RejectError("dicom:codestream")
      break
    elif not (0xC0 <= marker <= 0xFE) or 0xD0 <= marker <= 0xD9:
      raise rejects.RejectError("dicom:codestream")
  end = _find_marker(stream, at, 0x80 if _SOF55 in types else 1)
  if end is None:
    raise rejects.RejectError("dicom:truncated")
  if stream[end + 1] != _EOI:
    raise rejects.RejectError("dicom:codestream")
  if bytes((0xFF, _SOI, 0xFF)) in stream[end:]:
    raise rejects.RejectError("dicom:frames")
  return precision


def _find_marker(stream: bytes, start: int, lowest: int) -> int | None:
  """Returns where entropy-coded data is followed by a marker.

  Args:
    stream: a JPEG.
    start: where the data begins.
    lowest: a byte from this on makes a marker of the 0xFF before it: JPEG
      writes 0xFF as 0xFF00, JPEG-LS clears the bit that follows.
  """
  data = np.frombuffer(stream, np.uint8)[start:]
  places = np.flatnonzero(data[:-1] == 0xFF)
  after = data[places + 1]
  restart = (after >= 0xD0) & (after <= 0xD7)
  markers = places[(after >= lowest) & (after != 0xFF) & ~restart]
  return start + int(markers[0]) if markers.size else None


def _decode_jpeg2000(stream: bytes, frame: Frame) -> tuple[np.ndarray, int]:
  """Source: ITU T.800 A.5.1, and T.814 for the high-throughput form."""
  # Some writers put a JP2 container around it; its boxes are nobody's need.
  start = stream.find(_J2K_START, 0, 4096)
  if start < 0 or (start and stream[4:8] != b"jP  "):
    raise rejects.RejectError("dicom:codestream")
  stream = stream[start:]
  if len(stream) < 45:
    raise rejects.RejectError("dicom:truncated")
  right, bottom, left, top = struct.unpack_from(">4L", stream, 8)
  tiling = struct.unpack_from(">4L", stream, 24)
  (components,) = struct.unpack_from(">H", stream, 40)
  depth, step_x, step_y = struct.unpack_from(">3B", stream, 42)
  precision = (depth & 0x7F) + 1
  if (step_x, step_y) != (1, 1):
    raise rejects.RejectError("dicom:codestream_size")
  frame.check(bottom - top, right - left, components, precision)
  _check_tiles(stream, right, bottom, *tiling)
  decoder = functools.partial(imagecodecs.jpeg2k_decode, numthreads=1)
  return _call(decoder, stream, frame), precision


def _check_tiles(
  stream: bytes,
  right: int,
  bottom: int,
  width: int,
  height: int,
  left: int,
  top: int,
) -> None:
  """Walks the tile parts to the end: a decoder leaves missing tiles black.

  Args:
    stream: a JPEG 2000 codestream.
    right, bottom: of the reference grid.
    width, height: of a tile.
    left, top: of the first tile.

  Source: ITU T.800 A.4 and B.3.
  """
  if not (width and height and left < right and top < bottom):
    raise rejects.RejectError("dicom:codestream")
  count = -(-(right - left) // width) * -(-(bottom - top) // height)
  at = 2
  while stream[at : at + 2] != _SOT:
    if at + 4 > len(stream):
      raise rejects.RejectError("dicom:truncated")
    if stream[at] != 0xFF:
      raise rejects.RejectError("dicom:codestream")
    at += 2 + struct.unpack_from(">H", stream, at + 2)[0]
  tiles = set()
  while stream[at : at + 2] == _SOT and at + 12 <= len(stream):
    tile, length = struct.unpack_from(">HL", stream, at + 4)
    tiles.add(tile)
    if length == 0:  # the last one may run to the end
      at = max(stream.rfind(_EOC), at + 12)
    elif length < 14:
      raise rejects.RejectError("dicom:codestream")
    else:
      at += length
  if stream[at : at + 2] != _EOC:
    short = at + 2 > len(stream)
    raise rejects.RejectError(
      "dicom:truncated" if short else "dicom:codestream"
    )
  if count > 2**16 or tiles != set(range(count)):
    raise rejects.RejectError("dicom:codestream")
  if _J2K_START in stream[at:]:
    raise rejects.RejectError("dicom:frames")


def _call(decoder: Callable, stream: bytes, frame: Frame) -> np.ndarray:
  try:
    pixels = decoder(stream)
  except Exception as error:
    raise rejects.RejectError("dicom:pixels") from error
  if (
    pixels.shape != (frame.rows, frame.columns)
    or pixels.dtype.kind not in "iu"
    or pixels.itemsize > 2
  ):
    raise rejects.RejectError("dicom:pixels")
  return pixels.view(f"u{pixels.itemsize}")


# Named one by one: what another library would make of a file is not tested.
DECODERS: dict[uid.UID, Callable] = {
  uid.RLELossless: _decode_rle,
  uid.JPEGBaseline8Bit: lambda *args: _decode_jpeg(*args, 0xC0),
  uid.JPEGExtended12Bit: lambda *args: _decode_jpeg(*args, 0xC0, 0xC1),
  uid.JPEGLossless: lambda *args: _decode_jpeg(*args, 0xC3),
  uid.JPEGLosslessSV1: lambda *args: _decode_jpeg(*args, 0xC3),
  uid.JPEGLSLossless: lambda *args: _decode_jpeg(*args, _SOF55),
  uid.JPEGLSNearLossless: lambda *args: _decode_jpeg(*args, _SOF55),
  uid.JPEG2000Lossless: _decode_jpeg2000,
  uid.JPEG2000: _decode_jpeg2000,
  uid.HTJ2KLossless: _decode_jpeg2000,
  uid.HTJ2KLosslessRPCL: _decode_jpeg2000,
  uid.HTJ2K: _decode_jpeg2000,
}

# Kinds that keep the bits above Bits Stored, which mean nothing.
MASKED = (uid.RLELossless, uid.JPEGLossless, uid.JPEGLosslessSV1)
