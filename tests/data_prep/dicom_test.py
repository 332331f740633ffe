import csv
import hashlib
import warnings

import numpy as np
import pydicom
import pytest
from pydicom import pixels, uid
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from data_prep import dicom, rejects

LOSSLESS = [
  uid.ExplicitVRLittleEndian,
  uid.ImplicitVRLittleEndian,
  uid.RLELossless,
  uid.JPEG2000Lossless,
]


def ramp(bits: int, signed: bool = False) -> np.ndarray:
  """(32, 32) with all of the range, unsorted."""
  values = np.linspace(0, 2**bits - 1, 1024).astype(np.int64)
  if signed:
    values -= 2 ** (bits - 1)
  values = np.random.default_rng(1).permutation(values).reshape(32, 32)
  return values.astype(np.int16 if signed else np.uint16)


def expected_window(stored, center, width, function="LINEAR"):
  """The standard's formula, value by value."""
  grey = np.empty(stored.shape)
  for place, x in np.ndenumerate(stored.astype(float)):
    if function == "SIGMOID":
      y = 1 / (1 + np.exp(-4 * (x - center) / width))
    elif x <= center - 0.5 - (width - 1) / 2:
      y = 0
    elif x > center - 0.5 + (width - 1) / 2:
      y = 1
    else:
      y = (x - (center - 0.5)) / (width - 1) + 0.5
    grey[place] = y
  return np.rint(grey * 255).astype(np.uint8)


@pytest.mark.parametrize("syntax", LOSSLESS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(
  ("bits", "signed"), [(8, False), (12, False), (16, False), (12, True)]
)
@pytest.mark.parametrize("voi", ["one", "two", "sigmoid", "none"])
def test_golden_pixels(
  tmp_path, write_dicom, syntax, photometric, bits, signed, voi
):
  stored = ramp(bits, signed)
  center = 0.4 * 2**bits - signed * 2 ** (bits - 1)
  width = 0.5 * 2**bits
  tags: dict = {}
  if voi != "none":
    tags = {"WindowCenter": center, "WindowWidth": width}
  if voi == "two":
    tags = {"WindowCenter": [center, 1], "WindowWidth": [width, 7]}
  if voi == "sigmoid":
    tags["VOILUTFunction"] = "SIGMOID"
  path = write_dicom(
    tmp_path / "a.dcm",
    stored,
    bits=bits,
    photometric=photometric,
    syntax=syntax,
    **tags,
  )
  notes = []
  image = dicom.read_image(path, notes)
  if voi == "none":
    low, high = np.percentile(stored[::4, ::4], (0.5, 99.5))
    unit = np.clip((stored - low) / (high - low), 0, 1)
    expected = np.rint(unit * 255).astype(np.uint8)
    assert notes == ["window:absent"]
  else:
    function = "SIGMOID" if voi == "sigmoid" else "LINEAR"
    expected = expected_window(stored, center, width, function)
    assert notes == []
  if photometric == "MONOCHROME1":
    expected = 255 - expected
  # Turning over before rounding and after differ by one where it is a half.
  assert np.abs(image.astype(int) - expected).max() <= 1
  assert (image == expected).mean() > 0.99
  assert image.dtype == np.uint8


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
    ({"Rows": 64}, "dicom:pixels"),
  ],
)
def test_header_is_checked_first(tmp_path, write_dicom, tags, reason):
  path = write_dicom(tmp_path / "a.dcm", ramp(12), **tags)
  with pytest.raises(rejects.RejectError, match=f"^{reason}$"):
    dicom.read_image(path)


def test_deflated_is_refused_before_parsing(tmp_path, write_dicom):
  path = write_dicom(tmp_path / "a.dcm", ramp(12))
  dataset = pydicom.dcmread(path)
  syntax = uid.DeflatedExplicitVRLittleEndian
  dataset.file_meta.TransferSyntaxUID = syntax
  dataset.save_as(path)
  with pytest.raises(rejects.RejectError, match="dicom:transfer_syntax"):
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


def test_mutated_files_are_read_or_rejected(tmp_path, write_dicom):
  rng = np.random.default_rng(5)
  whole = write_dicom(
    tmp_path / "a.dcm", ramp(12), syntax=uid.RLELossless
  ).read_bytes()
  path = tmp_path / "b.dcm"
  for _ in range(200):
    data = bytearray(whole)
    for place in rng.integers(128, len(data), 3):
      data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(data[: rng.integers(len(data) // 2, len(data) + 1)])
    try:
      image = dicom.read_image(path)
    except rejects.RejectError:
      continue
    assert image.dtype == np.uint8
    assert image.ndim == 2


def _manifest(shared_dir):
  with (shared_dir / "dicom" / "manifest.csv").open() as handle:
    return list(csv.DictReader(handle))


def test_real_files_decode_to_their_digests(shared_dir):
  checked = 0
  for row in _manifest(shared_dir):
    path = shared_dir / "dicom" / row["file"]
    try:
      image = dicom.read_image(path)
    except rejects.RejectError:
      # The one that decodes and is still refused is in colour.
      assert row["decode_error"] or row["photometric"] == "RGB"
      continue
    assert image.shape == (int(row["rows"]), int(row["columns"]))
    assert np.ptp(image) > 100, row["file"]
    syntax = uid.UID(row["transfer_syntax_uid"])
    with warnings.catch_warnings():
      warnings.simplefilter("ignore")
      stored = pixels.pixel_array(path, decoding_plugin=dicom.PLUGINS[syntax])
    digest = hashlib.sha256(stored.astype("<i4").tobytes()).hexdigest()
    assert digest == row["decoded_sha256"], row["file"]
    checked += 1
  assert checked == 17


def test_useless_window_of_a_real_file_is_noted(shared_dir):
  notes = []
  path = shared_dir / "dicom" / "chest" / "dx_16bit_window_mismatch.dcm"
  assert dicom.read_image(path, notes).std() > 40
  assert notes == ["window:blank"]
