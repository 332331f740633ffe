"""DICOM files written byte by byte, so that any of them can be wrong.

Nothing here reads: the library under test is not asked how to write.
"""

import struct
import zlib
from collections.abc import Mapping

import imagecodecs
import numpy as np
from pydicom import datadict, uid

ALL_LOSSLESS = (
  uid.ExplicitVRLittleEndian,
  uid.ImplicitVRLittleEndian,
  uid.ExplicitVRBigEndian,
  uid.DeflatedExplicitVRLittleEndian,
  uid.RLELossless,
  uid.JPEGLossless,
  uid.JPEGLosslessSV1,
  uid.JPEGLSLossless,
  uid.JPEG2000Lossless,
  uid.HTJ2KLossless,
)
LOSSY = (
  uid.JPEGBaseline8Bit,
  uid.JPEGExtended12Bit,
  uid.JPEGLSNearLossless,
  uid.JPEG2000,
)

_LONG = (b"OB", b"OW", b"OF", b"OD", b"SQ", b"UN", b"UT")


def element(
  name: str | int,
  value: object,
  *,
  vr: str = "",
  length: int | None = None,
  implicit: bool = False,
  order: str = "<",
) -> bytes:
  """Returns one data element.

  Args:
    name: keyword or tag.
    value: bytes as they are, text, a number or a list of such; for a sequence,
      a list of keyword-to-value mappings.
    vr: instead of the dictionary's.
    length: instead of the true one.
    implicit, order: how it is written.
  """
  tag = datadict.tag_for_keyword(name) if isinstance(name, str) else name
  assert tag is not None, name
  vr = vr or datadict.dictionary_VR(tag).split(" or ")[0]
  style = {"implicit": implicit, "order": order}
  data = _value_bytes(value, vr, style)
  length = len(data) if length is None else length
  head = struct.pack(order + "HH", tag >> 16, tag & 0xFFFF)
  code = vr.encode()
  if implicit:
    return head + struct.pack(order + "L", length) + data
  if code in _LONG:
    return head + code + struct.pack(order + "HL", 0, length) + data
  return head + code + struct.pack(order + "H", length) + data


def _value_bytes(value: object, vr: str, style: Mapping) -> bytes:
  if isinstance(value, bytes):
    return value
  values = value if isinstance(value, (list, tuple)) else [value]
  if vr == "SQ":
    items = [
      b"".join(element(name, part, **style) for name, part in item.items())
      for item in values
    ]
    order = style["order"]
    return b"".join(
      struct.pack(order + "HHL", 0xFFFE, 0xE000, len(item)) + item
      for item in items
    )
  if vr in ("US", "SS"):
    code = style["order"] + ("H" if vr == "US" else "h")
    return b"".join(struct.pack(code, part) for part in values)
  text = "\\".join(str(part) for part in values).encode()
  return text + b" " * (len(text) % 2)


def meta(syntax: str | bytes | None, preamble: bytes = bytes(128)) -> bytes:
  """Returns what stands before the data set."""
  if syntax is None:
    body = element("MediaStorageSOPInstanceUID", "1.2.3.4")
  else:
    text = syntax if isinstance(syntax, bytes) else syntax.encode()
    body = element("TransferSyntaxUID", text + b"\0" * (len(text) % 2))
  size = element("FileMetaInformationGroupLength", struct.pack("<L", len(body)))
  return preamble + b"DICM" + size + body


def encapsulate(
  *fragments: bytes, table: bytes = b"", end: bytes | None = None
) -> bytes:
  """Returns a pixel data element, from its tag to its delimiter."""
  item, delimiter = b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0\0\0\0\0"
  padded = [table, *(part + b"\0" * (len(part) % 2) for part in fragments)]
  return (
    element("PixelData", b"", vr="OB", length=0xFFFFFFFF)
    + b"".join(item + struct.pack("<L", len(part)) + part for part in padded)
    + (delimiter if end is None else end)
  )


def patterns(pixels: np.ndarray, bits: int) -> np.ndarray:
  """Returns pixels as the low `bits` bits of uint8 or uint16."""
  dtype = np.uint8 if bits == 8 else np.uint16
  return (pixels.astype(np.int64) & (2**bits - 1)).astype(dtype)


def compress(pixels: np.ndarray, bits: int, syntax: str) -> bytes:
  """Returns the codestream of (H, W) integers."""
  return bytes(_compress(pixels, bits, syntax))


def _compress(pixels: np.ndarray, bits: int, syntax: str) -> bytes | bytearray:
  raw = np.ascontiguousarray(patterns(pixels, bits))
  if syntax == uid.RLELossless:
    planes = [raw] if bits == 8 else [raw >> 8, raw & 0xFF]
    segments = [
      imagecodecs.packbits_encode(plane.astype(np.uint8).tobytes())
      for plane in planes
    ]
    segments = [part + b"\0" * (len(part) % 2) for part in segments]
    offsets = [64 + sum(map(len, segments[:at])) for at in range(len(planes))]
    offsets += [0] * (15 - len(planes))
    return struct.pack("<16L", len(planes), *offsets) + b"".join(segments)
  if syntax == uid.JPEGBaseline8Bit:
    return imagecodecs.jpeg8_encode(raw, level=100)
  if syntax == uid.JPEGExtended12Bit:
    return imagecodecs.jpeg8_encode(
      raw, level=100, bitspersample=8 if bits == 8 else 12
    )
  if syntax in (uid.JPEGLossless, uid.JPEGLosslessSV1):
    predictor = 1 if syntax == uid.JPEGLosslessSV1 else 6
    return imagecodecs.jpeg8_encode(
      raw, lossless=True, predictor=predictor, bitspersample=bits
    )
  if syntax in (uid.JPEGLSLossless, uid.JPEGLSNearLossless):
    level = 0 if syntax == uid.JPEGLSLossless else 2
    return imagecodecs.jpegls_encode(raw, level=level)
  if syntax in (uid.JPEG2000Lossless, uid.JPEG2000):
    lossless = syntax == uid.JPEG2000Lossless
    return imagecodecs.jpeg2k_encode(
      raw,
      level=0 if lossless else 6 * bits + 6,  # dB
      codecformat="j2k",
      reversible=lossless,
      bitspersample=bits,
    )
  if syntax == uid.HTJ2KLossless:
    return imagecodecs.htj2k_encode(raw, reversible=True)
  raise ValueError(f"no encoder for {syntax}")


def make(
  pixels: np.ndarray,
  *,
  bits: int = 12,
  photometric: str = "MONOCHROME2",
  syntax: str = uid.ExplicitVRLittleEndian,
  preamble: bytes = bytes(128),
  pixel_element: bytes | None = None,
  first: bytes = b"",
  **tags: object,
) -> bytes:
  """Returns a DICOM file with (H, W) integers.

  Args:
    pixels: signed integers make signed pixels.
    bits: stored; 8 are kept in a byte, more in two.
    photometric, syntax, preamble: of the file.
    pixel_element: instead of the true one; b"" for none.
    first: bytes in front of the data set.
    **tags: keyword and value of further elements, or of others than follow
      from the pixels; None leaves the element out.
  """
  allocated = 8 if bits == 8 else 16
  order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
  implicit = syntax == uid.ImplicitVRLittleEndian
  elements: dict[str, object] = {
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": photometric,
    "Rows": pixels.shape[0],
    "Columns": pixels.shape[1],
    "BitsAllocated": allocated,
    "BitsStored": bits,
    "HighBit": bits - 1,
    "PixelRepresentation": int(pixels.dtype.kind == "i"),
    **tags,
  }
  body = first + b"".join(
    element(name, value, implicit=implicit, order=order)
    for name, value in sorted(
      elements.items(), key=lambda pair: datadict.tag_for_keyword(pair[0]) or 0
    )
    if value is not None
  )
  if pixel_element is None:
    if syntax in (
      uid.ExplicitVRLittleEndian,
      uid.ImplicitVRLittleEndian,
      uid.ExplicitVRBigEndian,
      uid.DeflatedExplicitVRLittleEndian,
    ):
      raw = patterns(pixels, bits)
      data = raw.astype(raw.dtype.newbyteorder(order)).tobytes()
      pixel_element = element(
        "PixelData",
        data + b"\0" * (len(data) % 2),
        vr="OB" if bits == 8 else "OW",
        implicit=implicit,
        order=order,
      )
    else:
      pixel_element = encapsulate(compress(pixels, bits, syntax))
  body += pixel_element
  if syntax == uid.DeflatedExplicitVRLittleEndian:
    body = deflate(body)
  return meta(syntax, preamble) + body


def deflate(data: bytes) -> bytes:
  """Returns raw deflate, as the transfer syntax has it."""
  squeezer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
  return squeezer.compress(data) + squeezer.flush()
