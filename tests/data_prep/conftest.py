"""Raw files in the making, for the tests of data_prep."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset


def _write_dicom(
  path: Path,
  pixels: np.ndarray,
  *,
  bits: int = 12,
  photometric: str = "MONOCHROME2",
  syntax: str = uid.ExplicitVRLittleEndian,
  **tags: object,
) -> Path:
  """Writes an (H, W) integer array as a DICOM file with the given tags."""
  dataset = Dataset()
  dataset.file_meta = FileMetaDataset()
  dataset.file_meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
  dataset.file_meta.MediaStorageSOPClassUID = uid.UID("1.2.3")
  dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3.4")
  dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.3", "1.2.3.4"
  dataset.Rows, dataset.Columns = pixels.shape
  dataset.SamplesPerPixel = 1
  dataset.PhotometricInterpretation = photometric
  dataset.BitsAllocated = 8 if bits == 8 else 16
  dataset.BitsStored, dataset.HighBit = bits, bits - 1
  signed = pixels.dtype.kind == "i"
  dataset.PixelRepresentation = int(signed)
  dtype = ("i" if signed else "u") + ("1" if bits == 8 else "2")
  dataset.PixelData = pixels.astype(f"<{dtype}").tobytes()
  if len(dataset.PixelData) % 2:
    dataset.PixelData += b"\0"
  for keyword, value in tags.items():
    setattr(dataset, keyword, value)
  if syntax not in (uid.ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian):
    dataset.compress(syntax)
  dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
  path.parent.mkdir(parents=True, exist_ok=True)
  pydicom.dcmwrite(
    path,
    dataset,
    enforce_file_format=True,
    implicit_vr=syntax == uid.ImplicitVRLittleEndian,
    little_endian=True,
  )
  return path


@pytest.fixture(scope="session")
def write_dicom():
  return _write_dicom


@pytest.fixture(scope="session")
def shared_dir() -> Path:
  """The real files beside the repository; tests skip where there are none."""
  path = Path(__file__).parents[3] / "shared" / "data"
  if not path.is_dir():
    pytest.skip("../shared is not here")
  return path


@pytest.fixture
def picture() -> np.ndarray:
  """(40, 48) uint8 with contrast."""
  return np.random.default_rng(0).integers(0, 256, (40, 48), np.uint8)
