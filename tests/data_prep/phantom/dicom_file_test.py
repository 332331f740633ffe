import numpy as np
import pydicom
from pydicom import pixels, uid

from data_prep.phantom import dicom_file

_HEADER = dicom_file.Header(
  patient_id="10000032",
  patient_name="Phantom^0",
  sex="F",
  age=60,
  date="21120101",
  time="120000",
  study_id="50000000",
  study_uid="2.25.1",
  view="PA",
  portable=False,
)


def _grey(height, width):
  ramp = np.linspace(0.02, 0.98, width, dtype=np.float32)
  return np.repeat(ramp[None], height, 0)


def _show(ds):
  """Returns what a viewer shows, in [0, 1], by pydicom's own operations."""
  values = pixels.apply_modality_lut(ds.pixel_array, ds).astype(float)
  if "WindowWidth" in ds:
    values = pixels.apply_voi_lut(values, ds, index=0)
    low = high = None
    if "RescaleSlope" in ds:
      ends = np.array([0, 2**ds.BitsStored - 1])
      low, high = ends * float(ds.RescaleSlope) + float(ds.RescaleIntercept)
    else:
      low, high = 0, 2**ds.BitsStored - 1
    values = (values - low) / (high - low)
  else:
    values = (values - values.min()) / (values.max() - values.min())
  return 1 - values if ds.PhotometricInterpretation[-1] == "1" else values


def test_files_of_all_kinds_show_the_picture(tmp_path):
  seen = {"bits": set(), "syntax": set(), "photo": set(), "window": set()}
  for number in range(120):
    rng = np.random.default_rng(number)
    grey = _grey(64, 65 + number % 4)
    path = tmp_path / f"{number}.dcm"
    dicom_file.write(path, grey, _HEADER, rng)
    ds = pydicom.dcmread(path)
    shown = _show(ds)
    if "WindowWidth" not in ds:
      shown = 0.02 + 0.96 * shown
    np.testing.assert_allclose(shown, grey, atol=0.012)
    seen["bits"].add(ds.BitsStored)
    seen["syntax"].add(ds.file_meta.TransferSyntaxUID)
    seen["photo"].add(ds.PhotometricInterpretation)
    kind = "none"
    if "WindowWidth" in ds:
      kind = "two" if ds["WindowWidth"].VM > 1 else "one"
      kind = ds.get("VOILUTFunction", kind)
    seen["window"].add(kind)
  assert seen == {
    "bits": {8, 10, 12, 14, 15, 16},
    "syntax": {
      uid.ExplicitVRLittleEndian,
      uid.ImplicitVRLittleEndian,
      uid.RLELossless,
      uid.JPEG2000Lossless,
    },
    "photo": {"MONOCHROME1", "MONOCHROME2"},
    "window": {"none", "one", "two", "SIGMOID"},
  }


def test_equal_generators_give_equal_bytes(tmp_path):
  for name in ("a", "b"):
    dicom_file.write(
      tmp_path / name, _grey(8, 20), _HEADER, np.random.default_rng(5)
    )
  assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_uids_are_valid_and_differ():
  rng = np.random.default_rng(0)
  uids = {dicom_file.draw_uid(rng) for _ in range(100)}
  assert len(uids) == 100
  assert all(uid.UID(text).is_valid for text in uids)
