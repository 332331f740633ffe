"""Every way to store and to show a picture, against the formula in float64."""

import csv
import hashlib

import cv2
import numpy as np
import pytest
from pydicom import uid

from data_prep import dicom, rejects
from tests.data_prep import dicom_files

DEPTHS = [(8, False), (12, False), (16, False), (16, True), (12, True)]
VOIS = ["absent", "one", "several", "lut", "sigmoid"]


def ramp(bits: int, signed: bool) -> np.ndarray:
  """(32, 33) with all of the range, unsorted, of odd size where bytes are."""
  values = np.linspace(0, 2**bits - 1, 32 * 33).astype(np.int64)
  if signed:
    values -= 2 ** (bits - 1)
  values = np.random.default_rng(1).permutation(values).reshape(32, 33)
  return values.astype(np.int32 if signed else np.uint16)


def smooth(bits: int) -> np.ndarray:
  """(64, 80) that survives lossy compression."""
  y, x = np.mgrid[0:64, 0:80]
  wave = np.sin(x / 17) + np.cos(y / 13)
  wave = (wave - wave.min()) / np.ptp(wave)
  return np.rint(wave * (0.8 * 2**bits) + 0.1 * 2**bits).astype(np.uint16)


def voi_case(voi: str, bits: int, signed: bool) -> tuple[dict, list[str]]:
  """Returns the tags and the notes to expect."""
  center = round(0.4 * 2**bits) - signed * 2 ** (bits - 1)
  width = round(0.5 * 2**bits)
  window = {"WindowCenter": center, "WindowWidth": width}
  if voi == "absent":
    return {}, ["window:absent"]
  if voi == "one":
    return window, []
  if voi == "sigmoid":
    return {**window, "VOILUTFunction": "SIGMOID"}, []
  if voi == "several":
    return (
      {"WindowCenter": [center, 1], "WindowWidth": [width, 7]},
      ["window:several"],
    )
  first, table = lut(bits, signed)
  # A signed number in a field of unsigned ones, as files have it.
  descriptor = [table.size, first % 2**16, 16]
  item = {"LUTDescriptor": descriptor, "LUTData": table.tolist()}
  return {"VOILUTSequence": [item]}, []


def lut(bits: int, signed: bool) -> tuple[int, np.ndarray]:
  """Returns the first value and the entries of a bent VOI LUT."""
  first = round(0.1 * 2**bits) - signed * 2 ** (bits - 1)
  table = np.linspace(0, 1, round(0.7 * 2**bits)) ** 2 * 65535
  # The element's length has 16 bits, which holds 32,767 entries.
  return first, np.rint(table[:32767]).astype(np.uint16)


def expected_unit(stored, voi, bits, signed):
  """The standard's formulas, in float64."""
  x = stored.astype(np.float64)
  if voi == "absent":
    low, high = np.percentile(x[::4, ::4], (0.5, 99.5))
    return np.clip((x - low) / (high - low), 0, 1)
  if voi == "lut":
    first, table = lut(bits, signed)
    place = np.clip(stored.astype(np.int64) - first, 0, table.size - 1)
    return table[place] / 65535
  c = round(0.4 * 2**bits) - signed * 2 ** (bits - 1)
  w = round(0.5 * 2**bits)
  if voi == "sigmoid":
    return 1 / (1 + np.exp(-4 * (x - c) / w))
  unit = (x - (c - 0.5)) / (w - 1) + 0.5
  unit[x <= c - 0.5 - (w - 1) / 2] = 0
  unit[x > c - 0.5 + (w - 1) / 2] = 1
  return unit


def read(path, stored, bits, photometric, syntax, tags):
  """Returns the picture of such a DICOM, and what was noted."""
  path.write_bytes(
    dicom_files.make(
      stored, bits=bits, photometric=photometric, syntax=syntax, **tags
    )
  )
  notes = []
  return dicom.read_image(path, notes), notes


@pytest.mark.parametrize("syntax", dicom_files.ALL_LOSSLESS)
@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
@pytest.mark.parametrize("voi", VOIS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossless(tmp_path, syntax, bits, signed, voi, photometric):
  stored = ramp(bits, signed)
  tags, expected_notes = voi_case(voi, bits, signed)
  image, notes = read(
    tmp_path / "a.dcm", stored, bits, photometric, syntax, tags
  )
  unit = expected_unit(stored, voi, bits, signed)
  if photometric == "MONOCHROME1":
    unit = 1 - unit
  assert notes == expected_notes
  assert image.dtype == np.uint8
  # Rounded to the nearest, in whichever direction where there are two.
  assert np.abs(image - unit * 255).max() <= 0.5 + 1e-6


@pytest.mark.parametrize(
  ("syntax", "bits", "error"),
  [
    (uid.JPEGBaseline8Bit, 8, 2),
    (uid.JPEGExtended12Bit, 8, 2),
    (uid.JPEGExtended12Bit, 12, 2),
    (uid.JPEGLSNearLossless, 8, 2),
    (uid.JPEGLSNearLossless, 12, 2),
    (uid.JPEGLSNearLossless, 16, 2),
    (uid.JPEG2000, 8, 5),
    (uid.JPEG2000, 12, 20),
    (uid.JPEG2000, 16, 4),
  ],
)
@pytest.mark.parametrize("voi", VOIS)
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_lossy(tmp_path, syntax, bits, error, voi, photometric):
  stored = smooth(bits)
  tags, expected_notes = voi_case(voi, bits, False)
  image, notes = read(
    tmp_path / "a.dcm", stored, bits, photometric, syntax, tags
  )
  # The picture lies between those of the pixels moved down and up by what the
  # codec may be off; percentiles move along.
  whole = stored.astype(np.int64)
  if voi == "absent":
    low, high = np.percentile(stored[::4, ::4], (0.5, 99.5))
    bounds = [(whole + d - low) / (high - low) for d in (-2 * error, 2 * error)]
    bounds = np.clip(bounds, 0, 1)
  else:
    bounds = np.array(
      [expected_unit(whole + d, voi, bits, False) for d in (-error, error)]
    )
  if photometric == "MONOCHROME1":
    bounds = 1 - bounds[::-1]
  assert notes == expected_notes
  assert (image >= bounds[0] * 255 - 0.5 - 1e-6).all()
  assert (image <= bounds[1] * 255 + 0.5 + 1e-6).all()


@pytest.mark.parametrize(
  ("bits", "signed", "padding"),
  [
    (16, False, [65535]),
    (16, False, [65535, 60000]),  # a range, from its upper end
    (16, True, [-2000]),
    (16, True, [-32768, -30000]),
    (12, False, [0]),
    (12, True, [2000, 2047]),
  ],
)
@pytest.mark.parametrize("vr", ["US", "SS"])  # files have the wrong one, too
@pytest.mark.parametrize(
  "syntax",
  [
    uid.ExplicitVRLittleEndian,
    uid.ImplicitVRLittleEndian,
    uid.ExplicitVRBigEndian,
  ],
)
def test_padding_does_not_count(tmp_path, bits, signed, padding, vr, syntax):
  rng = np.random.default_rng(4)
  stored = rng.integers(1500, 2000, (64, 80))
  is_padding = rng.random(stored.shape) < 0.31
  low, high = min(padding), max(padding)
  stored[is_padding] = rng.integers(low, high + 1, is_padding.sum())
  order = ">" if syntax == uid.ExplicitVRBigEndian else "<"
  elements = b"".join(
    dicom_files.element(
      name,
      (value % 2**16).to_bytes(2, "big" if order == ">" else "little"),
      vr=vr,
      implicit=syntax == uid.ImplicitVRLittleEndian,
      order=order,
    )
    for name, value in zip(
      ("PixelPaddingValue", "PixelPaddingRangeLimit"), padding, strict=False
    )
  )
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored.astype(np.int32 if signed else np.uint16),
      bits=bits,
      syntax=syntax,
      first=elements,
    )
  )
  notes = []
  image = dicom.read_image(path, notes)
  sample, is_picture = stored[::4, ::4], ~is_padding[::4, ::4]
  low, high = np.percentile(sample[is_picture], (0.5, 99.5))
  unit = np.clip((stored - low) / (high - low), 0, 1)
  np.testing.assert_array_equal(image, np.rint(unit * 255).astype(np.uint8))
  assert notes == ["window:absent"]


def test_window_that_shows_only_padding_is_blank(tmp_path):
  stored = ramp(16, False) // 128 + 1500
  stored[:10] = 65535
  path = tmp_path / "a.dcm"
  window = {"WindowCenter": 32768, "WindowWidth": 65536}
  path.write_bytes(
    dicom_files.make(stored, bits=16, PixelPaddingValue=65535, **window)
  )
  notes = []
  assert np.unique(dicom.read_image(path, notes)).size > 200
  assert notes == ["window:blank"]


def test_lut_with_fewer_bits_than_stated_is_bright(tmp_path):
  stored = ramp(12, False)
  table = np.rint(np.linspace(0, 1, 4096) ** 2 * (2**14 - 1)).astype(int)
  item = {"LUTDescriptor": [4096, 0, 16], "LUTData": table.tolist()}
  path = tmp_path / "a.dcm"
  path.write_bytes(dicom_files.make(stored, VOILUTSequence=[item]))
  notes = []
  image = dicom.read_image(path, notes)
  expected = table[stored] / (2**14 - 1) * 255
  np.testing.assert_array_equal(image, np.rint(expected).astype(np.uint8))
  assert notes == ["voi_lut:shallow"]


GOOD_LUT = {"LUTDescriptor": [2, 2047, 8], "LUTData": [0, 255]}
BROKEN_LUT = {"LUTDescriptor": [4, 0, 16], "LUTData": [1]}
BLANK_LUT = {"LUTDescriptor": [2, 60000, 8], "LUTData": [0, 255]}


@pytest.mark.parametrize(
  ("lut_item", "windows", "taken", "notes"),
  [
    (GOOD_LUT, [(9, 0)], "lut", []),
    (BROKEN_LUT, [(2048, 4096)], 0, ["voi_lut:invalid"]),
    (BLANK_LUT, [(2048, 4096)], 0, ["voi_lut:blank"]),
    (None, [(2048, 0), (2048, 4096)], 1, ["window:invalid", "window:several"]),
    (None, [("", ""), (2048, 4096)], 1, ["window:invalid", "window:several"]),
    (
      BROKEN_LUT,
      [(1, 0), (1, -9), (60000, 9), (1500, 3000)],
      3,
      ["voi_lut:invalid", "window:invalid", "window:blank", "window:several"],
    ),
    (None, [(1, 0), (60000, 9)], None, ["window:invalid", "window:blank"]),
    (BROKEN_LUT, [], None, ["voi_lut:invalid", "window:absent"]),
    (None, [(1, 0)] * 16 + [(2048, 4096)], None, ["window:invalid"]),
  ],
)
def test_the_first_that_shows_something_is_taken(
  tmp_path, lut_item, windows, taken, notes
):
  stored = ramp(12, False)
  path = tmp_path / "a.dcm"
  path.write_bytes(
    dicom_files.make(
      stored,
      VOILUTSequence=[lut_item] if lut_item else None,
      WindowCenter=[center for center, _ in windows],
      WindowWidth=[width for _, width in windows],
    )
  )
  x = stored.astype(np.float64)
  if taken == "lut":
    unit = (x > 2047).astype(np.float64)
  elif taken is None:
    low, high = np.percentile(x[::4, ::4], (0.5, 99.5))
    unit = np.clip((x - low) / (high - low), 0, 1)
  else:
    center, width = windows[taken]
    unit = np.clip((x - (center - 0.5)) / (width - 1) + 0.5, 0, 1)
  got = []
  image = dicom.read_image(path, got)
  np.testing.assert_array_equal(image, np.rint(unit * 255).astype(np.uint8))
  assert got == notes


@pytest.mark.parametrize("recipe", ["mimic_jpg", "chexpert"])
@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize(("bits", "signed"), DEPTHS)
def test_recipes_of_published_jpegs(
  tmp_path, recipe, photometric, bits, signed
):
  stored = ramp(bits, signed)
  stored = stored // 2 + 2 ** (bits - 3)  # the darkest is not 0
  path = tmp_path / "a.dcm"
  # Neither looks at windows or LUTs.
  window = {"WindowCenter": 3, "WindowWidth": 4, "RescaleSlope": -3}
  path.write_bytes(
    dicom_files.make(stored, bits=bits, photometric=photometric, **window)
  )
  x = stored.astype(np.float64)
  if recipe == "mimic_jpg":
    eight = ((x - x.min()) / (x - x.min()).max() * 255).astype(np.uint8)
  else:
    # OpenCV multiplies in float32.
    scaled = stored.astype(np.float32) * np.float32(255 / stored.max())
    eight = np.rint(np.minimum(np.abs(scaled), 255)).astype(np.uint8)
  if photometric == "MONOCHROME1":
    eight = 255 - eight
  notes = []
  image = dicom.read_image(path, notes, recipe)
  np.testing.assert_array_equal(image, equalise(eight))
  assert notes == []


def equalise(image):
  """Histogram equalisation as OpenCV documents it."""
  counts = np.bincount(image.ravel(), minlength=256)
  first = np.flatnonzero(counts)[0]
  shares = (np.cumsum(counts) - counts[first]) / (image.size - counts[first])
  table = np.rint(np.maximum(shares, 0).astype(np.float32) * np.float32(255))
  return table.astype(np.uint8)[image]


def test_equalising_is_opencvs(picture):
  np.testing.assert_array_equal(cv2.equalizeHist(picture), equalise(picture))


def _manifest(shared_dir):
  with (shared_dir / "dicom" / "manifest.csv").open() as handle:
    return list(csv.DictReader(handle))


def test_real_files_decode_to_their_digests(shared_dir):
  checked = []
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
    if not row["decoded_sha256"]:
      assert path.name == "RG3_JPLY.dcm"
      continue
    stored = dicom.read_stored(path, [])
    values = stored.values[stored.pixels & (stored.values.size - 1)]
    digest = hashlib.sha256(values.astype("<i4").tobytes()).hexdigest()
    assert digest == row["decoded_sha256"], row["file"]
    checked.append(path.name)
  assert len(checked) == 17
  four = {"RG3_J2KR.dcm", "RG3_RLE.dcm", "RG3_JPLL.dcm", "RG3_JLSL.dcm"}
  assert four <= set(checked)


def test_twelve_bit_jpeg_is_near_its_lossless_twin(shared_dir):
  folder = shared_dir / "dicom" / "other_radiograph"
  lossy, exact = (
    dicom.read_stored(folder / name, []).pixels.astype(int)
    for name in ("RG3_JPLY.dcm", "RG3_RLE.dcm")
  )
  error = np.abs(lossy - exact)
  assert error.max() <= 64
  assert error.mean() < 4
