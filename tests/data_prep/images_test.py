import errno
import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep import dicom, images, rejects


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "LA"])
def test_grey_in_any_eight_bit_mode_is_kept(tmp_path, picture, mode):
  path = tmp_path / "a.png"
  Image.fromarray(picture).convert(mode).save(path)
  np.testing.assert_array_equal(images.read_image(path), picture)


def test_jpeg(tmp_path, picture):
  smooth = np.kron(picture[:5, :6], np.ones((8, 8), np.uint8))
  path = tmp_path / "a.jpg"
  Image.fromarray(smooth).save(path, quality=98)
  image = images.read_image(path)
  assert np.abs(image.astype(int) - smooth).max() <= 4


@pytest.mark.parametrize("top", [255, 4095, 65535])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, top):
  rng = np.random.default_rng(2)
  stored = rng.integers(0, top + 1, (64, 64), np.uint16)
  path = tmp_path / "a.png"
  Image.fromarray(stored).save(path)
  notes = []
  image = images.read_image(path, notes)
  low, high = np.percentile(stored[::4, ::4], (0.5, 99.5))
  expected = np.clip((stored - low) / (high - low), 0, 1) * 255
  np.testing.assert_array_equal(image, np.rint(expected).astype(np.uint8))
  assert notes == ["window:absent"]


@pytest.mark.parametrize("recipe", ["mimic_jpg", "chexpert"])
def test_recipe_is_applied_to_sixteen_bits_only(tmp_path, picture, recipe):
  path = tmp_path / "a.png"
  Image.fromarray(picture).save(path)
  np.testing.assert_array_equal(images.read_image(path, None, recipe), picture)
  stored = picture.astype(np.uint16) * 100 + 5000
  Image.fromarray(stored).save(path)
  low = stored.min() if recipe == "mimic_jpg" else 0
  scaled = (stored - low) / (stored.max() - low) * 255
  scaled = scaled if recipe == "mimic_jpg" else np.rint(scaled)
  np.testing.assert_array_equal(
    images.read_image(path, None, recipe),
    cv2.equalizeHist(scaled.astype(np.uint8)),
  )


def _chunk(kind, data):
  checksum = zlib.crc32(kind + data)
  return (
    struct.pack(">L", len(data)) + kind + data + struct.pack(">L", checksum)
  )


def _png_of_16_bits(channels, color_type, first=b""):
  """Returns a PNG that its rows, each after a byte for no filter, make."""
  pixels = np.arange(16 * 16 * channels, dtype=">u2").reshape(16, -1)
  rows = b"".join(b"\0" + row.tobytes() for row in pixels)
  header = struct.pack(">2L5B", 16, 16, 16, color_type, 0, 0, 0)
  return (
    b"\x89PNG\r\n\x1a\n"
    + first
    + _chunk(b"IHDR", header)
    + _chunk(b"IDAT", zlib.compress(rows))
    + _chunk(b"IEND", b"")
  )


@pytest.mark.parametrize(
  ("channels", "color_type"),
  [(3, 2), (2, 4), (4, 6)],
  ids=["RGB", "LA", "RGBA"],
)
def test_sixteen_bits_of_colour_or_with_alpha_are_rejected(
  tmp_path, channels, color_type
):
  path = tmp_path / "a.png"
  path.write_bytes(_png_of_16_bits(channels, color_type))
  with pytest.raises(rejects.RejectError, match="^image:mode$"):
    images.read_image(path)
  path.write_bytes(_png_of_16_bits(1, 0))
  assert images.read_image(path).shape == (16, 16)


def test_png_whose_header_is_not_first_is_rejected(tmp_path):
  path = tmp_path / "a.png"
  path.write_bytes(_png_of_16_bits(3, 2, first=_chunk(b"tEXt", b"a\0b")))
  with pytest.raises(rejects.RejectError, match="^image:not_an_image$"):
    images.read_image(path)


PASSING = ["EIO", "ESTALE", "ETIMEDOUT", "ENOTCONN", "EMFILE", "ENFILE"]


class _Faulty(io.BytesIO):
  """A file on a disk that fails after so many reads."""

  def __init__(self, data, code, good_reads):
    super().__init__(data)
    self._code, self._good_reads = code, good_reads

  def read(self, *args):
    self._good_reads -= 1
    if self._good_reads < 0:
      raise OSError(self._code, "the disk")
    return super().read(*args)


@pytest.mark.parametrize("code", PASSING)
@pytest.mark.parametrize("name", ["a.png", "a.dcm"])
def test_fault_of_the_disk_on_opening_is_no_reject(
  tmp_path, monkeypatch, code, name
):
  def fail(*_):
    raise OSError(getattr(errno, code), "the disk")

  monkeypatch.setattr(Path, "open", fail)
  for read_image in (images.read_image, dicom.read_image):
    with pytest.raises(OSError, match="the disk"):
      read_image(tmp_path / name)


@pytest.mark.parametrize(
  "code", [errno.EACCES, errno.ENOENT, errno.EISDIR, errno.ELOOP]
)
def test_file_that_does_not_open_is_a_reject(tmp_path, monkeypatch, code):
  def fail(*_):
    raise OSError(code, "the file")

  monkeypatch.setattr(Path, "open", fail)
  for read_image in (images.read_image, dicom.read_image):
    with pytest.raises(rejects.RejectError, match="cannot_be_opened"):
      read_image(tmp_path / "a.png")


@pytest.mark.parametrize("suffix", ["png", "jpeg"])
def test_fault_of_the_disk_at_any_read_is_no_reject(
  tmp_path, monkeypatch, picture, suffix
):
  path = tmp_path / f"a.{suffix}"
  Image.fromarray(np.tile(picture, (20, 20))).save(path)
  data, open_image = path.read_bytes(), Image.open
  failed = 0
  for good_reads in range(1000):
    monkeypatch.setattr(
      Image,
      "open",
      lambda _, n=good_reads, **more: open_image(
        _Faulty(data, errno.EIO, n), **more
      ),
    )
    try:
      images.read_image(path)
    except OSError as error:
      assert error.errno == errno.EIO
      failed += 1
    else:
      break
  assert failed > 3


@pytest.mark.parametrize("name", PASSING)
def test_passing_is_told_from_what_led_to_an_error(name):
  fault = OSError(getattr(errno, name), "")
  assert rejects.is_passing(fault)
  outer = ValueError()
  outer.__cause__ = OSError()
  outer.__cause__.__context__ = fault
  assert rejects.is_passing(outer)


@pytest.mark.parametrize(
  "error", [MemoryError(), OSError(), OSError(errno.ENOMEM, ""), EOFError()]
)
def test_not_passing(error):
  assert not rejects.is_passing(error)
  outer = ValueError()
  outer.__cause__ = error
  assert not rejects.is_passing(outer)


def test_dicom_is_told_by_its_content(tmp_path, write_dicom, picture):
  path = write_dicom(tmp_path / "a.png", picture, bits=8)
  np.testing.assert_array_equal(images.read_image(path), dicom.read_image(path))


@pytest.mark.parametrize("suffix", ["png", "jpg"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.99])
def test_truncated_is_rejected(tmp_path, picture, suffix, share):
  path = tmp_path / f"a.{suffix}"
  Image.fromarray(picture).save(path)
  data = path.read_bytes()
  path.write_bytes(data[: int(len(data) * share)])
  with pytest.raises(rejects.RejectError, match="image:"):
    images.read_image(path)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"", "image:not_an_image"),
    (b"version https://git-lfs.github.com/spec/v1", "image:not_an_image"),
    (b"GIF89a" + bytes(40), "image:not_an_image"),
  ],
)
def test_other_files_are_rejected(tmp_path, data, reason):
  path = tmp_path / "a.png"
  path.write_bytes(data)
  with pytest.raises(rejects.RejectError, match=reason):
    images.read_image(path)


def test_size_is_checked_before_decoding(tmp_path, monkeypatch, picture):
  path = tmp_path / "a.png"
  Image.fromarray(picture).save(path)
  monkeypatch.setattr(dicom, "MAX_PIXELS", 40 * 48 - 1)
  monkeypatch.setattr(Image.Image, "load", lambda _: pytest.fail("decoded"))
  with pytest.raises(rejects.RejectError, match="image:size"):
    images.read_image(path)


def test_constant_picture_is_rejected(tmp_path):
  path = tmp_path / "a.png"
  Image.fromarray(np.zeros((9, 9), np.uint8)).save(path)
  with pytest.raises(rejects.RejectError, match="image:constant"):
    images.read_image(path)


@pytest.mark.parametrize(
  ("shape", "expected"),
  [
    ((400, 600), (20, 30)),
    ((600, 400), (30, 20)),
    ((40, 41), (20, 20)),
    ((20, 99), (20, 99)),
    ((16, 16), (16, 16)),
  ],
)
def test_shrink_shapes(shape, expected):
  assert images.shrink(np.zeros(shape, np.uint8), 20).shape == expected


def test_shrink_averages():
  image = np.arange(64, dtype=np.uint8).reshape(8, 8)
  blocks = image.reshape(4, 2, 4, 2).mean((1, 3))
  # Block means end in .5, which may go either way.
  assert np.abs(images.shrink(image, 4) - blocks).max() <= 0.5
