from pathlib import Path

import imagecodecs
import numpy as np
import pydicom.data
import pytest
from pydicom import uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from data_prep import dicom, rejects
from tests.data_prep import dicom_files


def ramp(bits: int, signed: bool = False) -> np.ndarray:
  """(32, 32) with all of the range, unsorted."""
  values = np.linspace(0, 2**bits - 1, 1024).astype(np.int64)
  if signed:
    values -= 2 ** (bits - 1)
  values = np.random.default_rng(1).permutation(values).reshape(32, 32)
  return values.astype(np.int16 if signed else np.uint16)


def expected_window(stored, center, width):
  """The standard's formula, value by value."""
  grey = np.empty(stored.shape)
  for place, x in np.ndenumerate(stored.astype(float)):
    if x <= center - 0.5 - (width - 1) / 2:
      y = 0
    elif x > center - 0.5 + (width - 1) / 2:
      y = 1
    else:
      y = (x - (center - 0.5)) / (width - 1) + 0.5
    grey[place] = y
  return np.rint(grey * 255).astype(np.uint8)


def test_rescale_comes_before_the_window(tmp_path, write_dicom):
  stored = ramp(12)
  tags = {"RescaleSlope": 2, "RescaleIntercept": -1000}
  path = write_dicom(
    tmp_path / "a.dcm", stored, WindowCenter=3000, WindowWidth=4000, **tags
  )
  np.testing.assert_array_equal(
    dicom.read_image(path),
    expected_window(stored.astype(float) * 2 - 1000, 3000, 4000),
  )


def test_lut_sequence_is_applied(tmp_path, write_dicom):
  stored = ramp(8)
  table = Dataset()
  table.LUTDescriptor = [256, 0, 16]
  table.LUTData = (np.arange(256) ** 2).astype("<u2").tobytes()
  path = write_dicom(
    tmp_path / "a.dcm", stored, bits=8, VOILUTSequence=Sequence([table])
  )
  notes = []
  image = dicom.read_image(path, notes)
  expected = stored.astype(np.int64) ** 2 / 65535 * 255
  np.testing.assert_array_equal(image, np.rint(expected).astype(np.uint8))
  assert notes == []


@pytest.mark.parametrize(
  ("tags", "reason"),
  [
    ({}, "window:absent"),
    ({"WindowCenter": 100}, "window:absent"),
    ({"WindowCenter": "", "WindowWidth": ""}, "window:absent"),
    ({"WindowWidth": 100}, "window:absent"),
    ({"WindowCenter": 100, "WindowWidth": 0}, "window:invalid"),
    ({"WindowCenter": 100, "WindowWidth": -5}, "window:invalid"),
    ({"WindowCenter": 60000, "WindowWidth": 10}, "window:blank"),
    (
      {"WindowCenter": 9, "WindowWidth": 9, "VOILUTFunction": "CUBIC"},
      "window:invalid",
    ),
  ],
)
def test_bad_window_gives_way_and_is_noted(tmp_path, write_dicom, tags, reason):
  notes = []
  image = dicom.read_image(
    write_dicom(tmp_path / "a.dcm", ramp(12), **tags), notes
  )
  assert notes == [reason]
  assert np.ptp(image) == 255


@pytest.mark.parametrize(
  ("tags", "reason"),
  [
    ({"Rows": 65535, "Columns": 65535}, "dicom:size"),
    ({"Rows": 0}, "dicom:size"),
    ({"NumberOfFrames": 2}, "dicom:frames"),
    ({"SamplesPerPixel": 3}, "dicom:not_grey"),
    ({"PhotometricInterpretation": "RGB"}, "dicom:not_grey"),
    ({"BitsAllocated": 32}, "dicom:bits"),
    ({"BitsStored": 1}, "dicom:bits"),
    ({"BitsStored": 17}, "dicom:bits"),
    ({"BurnedInAnnotation": "YES"}, "dicom:burned_in_annotation"),
    ({"Rows": 64}, "dicom:truncated"),
    ({"HighBit": 15}, "dicom:high_bit"),
  ],
)
def test_header_is_checked_first(tmp_path, write_dicom, tags, reason):
  path = write_dicom(tmp_path / "a.dcm", ramp(12), **tags)
  with pytest.raises(rejects.RejectError, match=f"^{reason}$"):
    dicom.read_image(path)


@pytest.mark.parametrize("data", [b"", b"not a DICOM" * 50, b"\0" * 200])
def test_not_a_dicom(tmp_path, data):
  path = tmp_path / "a.dcm"
  path.write_bytes(data)
  with pytest.raises(rejects.RejectError, match="dicom:not_dicom"):
    dicom.read_image(path)


def test_constant_picture_is_refused(tmp_path, write_dicom):
  path = write_dicom(tmp_path / "a.dcm", np.full((8, 8), 7, np.uint16))
  with pytest.raises(rejects.RejectError, match="image:constant"):
    dicom.read_image(path)


def test_bits_above_bits_stored_mean_nothing(tmp_path, write_dicom):
  stored = ramp(12)
  overlaid = stored | (np.arange(1024).reshape(32, 32) % 16 << 12)
  window = {"WindowCenter": 2000, "WindowWidth": 3000}
  images = []
  for name, pixels in (("a.dcm", stored), ("b.dcm", overlaid)):
    path = write_dicom(tmp_path / name, pixels.astype(np.uint16), **window)
    images.append(dicom.read_image(path))
  np.testing.assert_array_equal(*images)


@pytest.mark.parametrize("representation", [0, 1])
def test_signs_are_the_headers_not_the_codestreams(tmp_path, representation):
  """JPEG 2000 has signs of its own, and files in which the two differ exist."""
  stored = ramp(13, signed=True)
  stream = imagecodecs.jpeg2k_encode(
    stored, level=0, codecformat="j2k", reversible=True, bitspersample=13
  )
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored,
      bits=13,
      syntax=uid.JPEG2000Lossless,
      pixel_element=dicom_files.encapsulate(stream),
      PixelRepresentation=representation,
    )
  )
  read = dicom.read_stored(path, [])
  values = read.values[read.pixels & (2**13 - 1)]
  np.testing.assert_array_equal(
    values, stored if representation else stored.astype(int) & (2**13 - 1)
  )


def test_lossy_overshoot_is_not_cut(tmp_path):
  """12-bit JPEG of 10-bit pixels decodes to a little more than 1023."""
  stored = np.full((16, 16), 1023, np.uint16)
  stored[:, :3] = 700
  stream = dicom_files.compress(stored + 4, 12, uid.JPEGExtended12Bit)
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored,
      bits=10,
      syntax=uid.JPEGExtended12Bit,
      pixel_element=dicom_files.encapsulate(stream),
      WindowCenter=512,
      WindowWidth=1024,
    )
  )
  assert dicom.read_stored(path, []).pixels.max() > 1023
  assert (dicom.read_image(path)[:, 4:] == 255).all()


def test_twelve_bit_jpeg_agrees_with_another_decoder():
  """Every 100th row and 25th column, as libjpeg of Thomas Richter reads it."""
  path = Path(pydicom.data.__file__).parent / "test_files" / "JPGExtended.dcm"
  pixels = dicom.read_stored(path, []).pixels
  reference = np.array(
    [
      [1, 1, 1, 37, 59, 0, 1, 1],
      [2, 38, 12, 27, 92, 35, 56, 38],
      [15, 15, 39, 43, 57, 41, 29, 15],
      [3, 16, 29, 54, 49, 51, 28, 15],
      [1, 22, 25, 18, 11, 22, 28, 7],
      [1, 36, 34, 11, 6, 40, 8, 1],
      [1, 1, 37, 1, 1, 34, 1, 1],
      [1, 1, 47, 17, 43, 6, 1, 1],
    ]
  )
  assert np.abs(pixels[100:900:100, 40:240:25] - reference).max() <= 1


def test_unknown_recipe_is_an_error(tmp_path, write_dicom):
  path = write_dicom(tmp_path / "a.dcm", ramp(12))
  with pytest.raises(ValueError, match="recipe 'viridis' is none of voi"):
    dicom.read_image(path, recipe="viridis")


@pytest.mark.parametrize("size", [3, 100, 4097])
def test_trailing_bytes(tmp_path, size):
  stored = ramp(12)
  data = stored.tobytes() + bytes(size)
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored,
      pixel_element=dicom_files.element("PixelData", data, vr="OW"),
    )
  )
  notes = []
  if size < stored.nbytes // 2 * 2:
    dicom.read_image(path, notes)
    assert "dicom:padded" in notes
  else:
    with pytest.raises(rejects.RejectError, match="^dicom:frames$"):
      dicom.read_image(path)


def test_words_of_two_pixels_in_big_endian(tmp_path):
  """Bytes in words: PS3.5 8.1.1 swaps each pair in a big-endian file."""
  stored = ramp(8).astype(np.uint8)[:, :31]  # an odd number, padded
  swapped = np.append(stored[:31].ravel(), np.uint8(0))
  swapped = swapped.reshape(-1, 2)[:, ::-1]
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored[:31],
      bits=8,
      syntax=uid.ExplicitVRBigEndian,
      pixel_element=dicom_files.element(
        "PixelData", swapped.tobytes(), vr="OW", order=">"
      ),
    )
  )
  read = dicom.read_stored(path, [])
  np.testing.assert_array_equal(read.pixels, stored[:31])


def test_useless_window_of_a_real_file_is_noted(shared_dir):
  notes = []
  path = shared_dir / "dicom" / "chest" / "dx_16bit_window_mismatch.dcm"
  assert dicom.read_image(path, notes).std() > 40
  assert notes == ["window:blank"]
