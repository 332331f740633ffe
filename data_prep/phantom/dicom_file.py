"""Writes one picture as a DICOM, as differently as real ones are."""

import dataclasses
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid
from pydicom.dataset import FileDataset, FileMetaDataset

# transfer syntax: share. JPEG 2000 takes as long as the drawing, so a few.
_SYNTAXES = {
  uid.ExplicitVRLittleEndian: 0.50,
  uid.ImplicitVRLittleEndian: 0.32,
  uid.RLELossless: 0.14,
  uid.JPEG2000Lossless: 0.04,
}
_BITS = {8: 0.08, 10: 0.12, 12: 0.45, 14: 0.15, 15: 0.08, 16: 0.12}


@dataclasses.dataclass(frozen=True)
class Header:
  """What the file says of patient and study; `view` may be blank."""

  patient_id: str
  patient_name: str
  sex: str
  age: int
  date: str
  time: str
  study_id: str
  study_uid: str
  view: str
  portable: bool


def draw_uid(rng: np.random.Generator) -> str:
  """Returns a UID of the kind that is made from 128 random bits."""
  high, low = (int(n) for n in rng.integers(2**63, size=2))
  return f"2.25.{(high << 64) | low}"


def write(
  path: Path, grey: np.ndarray, header: Header, rng: np.random.Generator
) -> None:
  """Writes the file.

  Args:
    path: its folder exists.
    grey: (H, W) float32 in [0, 1]; any viewer that follows the header shows
      it as it is.
    header: who and what.
    rng: draws bits, photometry, window, rescaling and transfer syntax.
  """
  bits = int(rng.choice(list(_BITS), p=list(_BITS.values())))
  syntax = list(_SYNTAXES)[
    rng.choice(len(_SYNTAXES), p=list(_SYNTAXES.values()))
  ]
  if syntax == uid.JPEG2000Lossless and bits == 15:
    bits = 16
  meta = FileMetaDataset()
  meta.MediaStorageSOPInstanceUID = uid.UID(draw_uid(rng))
  ds = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
  digital = rng.random() < 0.4
  meta.MediaStorageSOPClassUID = ds.SOPClassUID = (
    uid.DigitalXRayImageStorageForPresentation
    if digital
    else uid.ComputedRadiographyImageStorage
  )
  ds.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
  ds.StudyDate, ds.StudyTime = header.date, header.time
  ds.Modality = "DX" if digital else "CR"
  ds.Manufacturer = "Phantom"
  ds.PatientName, ds.PatientID = header.patient_name, header.patient_id
  ds.PatientSex, ds.PatientAge = header.sex, f"{header.age:03d}Y"
  ds.BodyPartExamined = "CHEST"
  ds.ViewPosition = header.view
  ds.StudyInstanceUID = header.study_uid
  ds.SeriesInstanceUID = draw_uid(rng)
  ds.StudyID = header.study_id
  ds.PatientOrientation = ["L", "F"] if header.view in ("AP", "PA") else ""
  _set_pixels(ds, grey, bits, rng)
  if syntax in (uid.RLELossless, uid.JPEG2000Lossless):
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    ds.compress(
      syntax,
      encoding_plugin="pydicom" if syntax == uid.RLELossless else "pylibjpeg",
      generate_instance_uid=False,
    )
  else:
    meta.TransferSyntaxUID = syntax
  ds.save_as(path, enforce_file_format=True)


def _set_pixels(
  ds: pydicom.Dataset, grey: np.ndarray, bits: int, rng: np.random.Generator
) -> None:
  top = 2**bits - 1
  window = rng.choice(
    ["none", "one", "two", "sigmoid"], p=[0.3, 0.45, 0.15, 0.1]
  )
  inverted = rng.random() < 0.3
  # A window is there to cut something off: it is narrower than the range.
  low, high = 0, top
  if window != "none":
    low = int(top * rng.uniform(0.0, 0.2))
    high = int(top * rng.uniform(0.75, 1.0))
  values = 1 - grey if inverted else grey
  center, width = (low + high + 1) / 2, high - low + 1
  if window == "sigmoid":
    # Undo 1 / (1 + exp(-4 (x - center) / width)), PS3.3 C.11.2.1.3.1; its
    # tails reach about a width to both sides.
    width = width // 2
    values = np.clip(values, 0.02, 0.98)
    stored = center - 0.25 * width * np.log(1 / values - 1)
  else:
    stored = low + values * (high - low)
  stored = np.clip(np.round(stored), 0, top)
  ds.SamplesPerPixel = 1
  ds.PhotometricInterpretation = "MONOCHROME1" if inverted else "MONOCHROME2"
  ds.Rows, ds.Columns = grey.shape
  ds.BitsAllocated = 8 if bits == 8 else 16
  ds.BitsStored, ds.HighBit, ds.PixelRepresentation = bits, bits - 1, 0
  slope, intercept = 1.0, 0.0
  if rng.random() < 0.25:
    slope, intercept = [(1.0, 0.0), (0.5, 0.0), (1.0, -100.0), (2.0, 64.0)][
      int(rng.integers(4))
    ]
    ds.RescaleSlope, ds.RescaleIntercept = slope, intercept
    ds.RescaleType = "US"
  if window != "none":
    # Decimal strings hold 16 characters.
    center = round(center * slope + intercept, 1)
    width = round(width * slope, 1)
    ds.WindowCenter, ds.WindowWidth = center, width
    if window == "two":
      ds.WindowCenter = [center, round(center * 1.1, 1)]
      ds.WindowWidth = [width, round(0.7 * width, 1)]
      ds.WindowCenterWidthExplanation = ["NORMAL", "HARDER"]
    elif window == "sigmoid":
      ds.VOILUTFunction = "SIGMOID"
  if rng.random() < 0.4:
    ds.PresentationLUTShape = "INVERSE" if inverted else "IDENTITY"
  ds.BurnedInAnnotation = "NO"
  data = stored.astype("<u1" if bits == 8 else "<u2").tobytes()
  ds.PixelData = data + b"\0" * (len(data) % 2)
