"""Pictures come back as they went in, and as OpenCV reads them."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from tier_jax.data import png


def picture(height=20, width=33, seed=0):
  rng = np.random.default_rng(seed)
  return rng.integers(0, 256, (height, width)).astype(np.uint8)


def by_opencv(data):
  return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)


@pytest.fixture
def without_opencv(monkeypatch):
  def fail(*args):
    raise AssertionError("OpenCV was asked")

  monkeypatch.setattr(cv2, "imdecode", fail)


@pytest.mark.parametrize(
  "shape", [(1, 2), (1, 300), (300, 2), (20, 33), (257, 256), (512, 700)]
)
@pytest.mark.parametrize("kind", ["noise", "smooth", "flat"])
def test_what_is_encoded_is_read_without_opencv(shape, kind, without_opencv):
  image = picture(*shape)
  if kind == "smooth":
    image = np.sort(np.sort(image, 0), 1)
  elif kind == "flat":
    image[:] = 255
  got = png.decode(png.encode(image))
  assert got is not None
  np.testing.assert_array_equal(got, image)
  assert got.dtype == np.uint8 and got.flags.c_contiguous


def _saved(image, mode):
  file = io.BytesIO()
  Image.fromarray(image).convert(mode).save(file, "png", optimize=True)
  return file.getvalue()


def _filtered(by):
  options = [cv2.IMWRITE_PNG_FILTER, by]
  return cv2.imencode(".png", picture(), options)[1].tobytes()


@pytest.mark.parametrize(
  "data",
  [
    _filtered(cv2.IMWRITE_PNG_FILTER_NONE),
    _filtered(cv2.IMWRITE_PNG_FILTER_UP),
    _filtered(cv2.IMWRITE_PNG_FILTER_AVG),
    _filtered(cv2.IMWRITE_PNG_FILTER_PAETH),
    _filtered(cv2.IMWRITE_PNG_ALL_FILTERS),
    png.encode(picture(20, 1)),  # libpng does not filter so narrow ones
    *(_saved(picture(), mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")),
    cv2.imencode(".png", picture().astype(np.uint16) * 257)[1].tobytes(),
    cv2.imencode(".jpg", picture())[1].tobytes(),
  ],
)
def test_any_other_picture_is_what_opencv_reads(data):
  got = png.decode(data)
  assert got is not None
  np.testing.assert_array_equal(got, by_opencv(data))


@pytest.mark.parametrize("how", ["truncated", "changed"])
def test_a_damaged_picture_is_none_the_same_or_what_opencv_reads(how):
  image = picture(6, 9)
  data = png.encode(image)
  for place in range(len(data)):
    damaged = data[:place]
    if how == "changed":
      damaged += bytes([data[place] ^ (1 << place % 8)]) + data[place + 1 :]
    got = png.decode(damaged)
    if got is not None and not np.array_equal(got, image):
      np.testing.assert_array_equal(got, by_opencv(damaged))


@pytest.mark.parametrize(
  ("width", "height"),
  [
    (0, 0),
    (4000, 4000),
    (2_000_000, 1),
    (2**31 - 1, 2**31 - 1),
    (2**32 - 1, 1),
  ],
)
def test_a_header_that_lies_allocates_nothing(width, height, monkeypatch):
  data = bytearray(png.encode(picture(6, 9)))
  data[16:24] = struct.pack(">II", width, height)
  monkeypatch.setattr(png.imagecodecs, "deflate_decode", None)  # not called
  assert png.decode(bytes(data)) is None


def test_a_picture_above_the_limits_is_opencvs_to_read(monkeypatch):
  monkeypatch.setattr(png, "_MAX_SIDE", 99)
  data = png.encode(np.zeros((100, 5), np.uint8))
  monkeypatch.setattr(png.imagecodecs, "deflate_decode", None)  # not called
  np.testing.assert_array_equal(png.decode(data), by_opencv(data))


def _with_chunk(kind, content, place):
  """A picture with one more chunk: behind IHDR (33) or at the end."""
  data = png.encode(picture())
  chunk = struct.pack(">I", len(content)) + kind + content
  chunk += struct.pack(">I", zlib.crc32(kind + content))
  return data[:place] + chunk + data[place:]


@pytest.mark.parametrize(
  "data",
  [
    _with_chunk(b"tRNS", b"\0\7", 33),
    _with_chunk(b"gAMA", struct.pack(">I", 45455), 33),
    _with_chunk(b"IHDR", struct.pack(">II5B", 9, 9, 8, 0, 0, 0, 0), 33),
    _with_chunk(b"tEXt", b"a\0b", -12),
    _with_chunk(b"IDAT", b"more", -12),
    png.encode(picture()) + b"more",
  ],
)
def test_other_chunks_change_nothing_that_opencv_would_not(data):
  got, expected = png.decode(data), by_opencv(data)
  assert (got is None) == (expected is None)
  if got is not None:
    np.testing.assert_array_equal(got, expected)
