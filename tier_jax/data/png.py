"""PNG as records hold it: OpenCV writes it, imagecodecs reads it faster.

OpenCV takes longer to read a picture of 256 x 256 pixels than all else takes
that the host does for a training pair. What `encode` writes is one stream of
deflate over rows of differences between neighbours, and imagecodecs undoes
both in less than half the time.
"""

import struct

import cv2
import imagecodecs
import numpy as np

# Signature; length, type; width, height, five bytes of kind; checksum.
_HEADER = struct.Struct(">8s I4s II5s 4x")
_CHUNK = struct.Struct(">I4s")  # length, type; what it holds and 4 bytes follow
_START = (b"\x89PNG\r\n\x1a\n", 13, b"IHDR")
_GREY = bytes((8, 0, 0, 0, 0))  # bits, grey, deflate, filters, not interlaced
_SUB = 1  # the filter of a row that holds differences
_MAX_RATIO = 1032  # of what deflate makes of a byte
_MAX_SIDE, _MAX_PIXELS = 10**6, 2**30  # as OpenCV's


def encode(image: np.ndarray) -> bytes:
  """Returns the PNG of an image (H, W) uint8 of at least one pixel.

  Raises:
    ValueError: if OpenCV does not take it.
  """
  options = (cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_SUB)
  ok, png = cv2.imencode(".png", image, options)
  if not ok:
    raise ValueError(f"image {image.shape} could not be encoded as PNG")
  return png.tobytes()


def decode(png: bytes) -> np.ndarray | None:
  """Returns the image (H, W) uint8 of a PNG, None if it does not decode.

  Any PNG is read, as grey, by OpenCV where it is not of `encode`'s kind.
  """
  image = _decode_differences(png)
  if image is None:
    try:
      image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_GRAYSCALE)
    except cv2.error:  # of nothing at all, and above its limits
      return None
  return image


def _decode_differences(png: bytes) -> np.ndarray | None:
  """As `decode`, but None for what is not wide differences of 8 bits.

  The checksums of the chunks are not looked at: deflate has one of its own over
  the pixels, and shards another.
  """
  try:
    *start, width, height, kind = _HEADER.unpack_from(png)
    if (*start, kind) != (*_START, _GREY):
      return None
    deflated = _join_data(png)
    size = height * (width + 1)  # each row begins with its filter
    if (
      deflated is None
      or not 0 < width * height < min(_MAX_RATIO * len(deflated), _MAX_PIXELS)
      or max(width, height) > _MAX_SIDE
    ):
      return None
    rows = imagecodecs.deflate_decode(deflated, out=size)
  except (struct.error, imagecodecs.DeflateError):
    return None
  if len(rows) != size:
    return None
  rows = np.frombuffer(rows, np.uint8).reshape(height, width + 1)
  if (rows[:, 0] != _SUB).any():
    return None
  return imagecodecs.delta_decode(rows[:, 1:], axis=-1)


def _join_data(png: bytes) -> bytes | None:
  """Returns what the IDAT chunks hold, None if there are others before the end.

  Raises:
    struct.error: if it has no end.
  """
  parts = []
  place = _HEADER.size
  while True:
    length, kind = _CHUNK.unpack_from(png, place)
    if kind != b"IDAT":
      return b"".join(parts) if kind == b"IEND" else None
    place += _CHUNK.size
    parts.append(png[place : place + length])
    place += length + 4
