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
