"""A DICOM file to a grey picture, trusting nothing that the header says.

Order: header checks, decode, modality LUT, VOI LUT or window, MONOCHROME1
turned over last. Only the tags in `_TAGS` are ever parsed, and no value of
theirs leaves this module in a message.
"""

import logging
import math
import warnings
from pathlib import Path

import numpy as np
import pydicom
from pydicom import config, filereader, pixels, uid
from pydicom.dataset import Dataset

from data_prep import rejects, windowing

MAX_SIDE = 16384
MAX_PIXELS = 128 * 2**20
MAX_BYTES = 512 * 2**20

# The decoder of each transfer syntax is named: pydicom would otherwise take
# whichever is installed, and one of them is under the GPL.
PLUGINS = {
  uid.ImplicitVRLittleEndian: "",
  uid.ExplicitVRLittleEndian: "",
  uid.ExplicitVRBigEndian: "",
  uid.RLELossless: "pydicom",  # slower, but pylibjpeg's panics on bad data
  uid.JPEGBaseline8Bit: "gdcm",
  uid.JPEGExtended12Bit: "gdcm",  # 8 bits only; no free decoder reads 12
  uid.JPEGLossless: "gdcm",
  uid.JPEGLosslessSV1: "gdcm",
  uid.JPEGLSLossless: "gdcm",
  uid.JPEGLSNearLossless: "gdcm",
  uid.JPEG2000Lossless: "pylibjpeg",
  uid.JPEG2000: "pylibjpeg",
}

_TAGS = [
  "BitsAllocated",
  "BitsStored",
  "BurnedInAnnotation",
  "Columns",
  "HighBit",
  "ModalityLUTSequence",
  "NumberOfFrames",
  "PhotometricInterpretation",
  "PixelRepresentation",
  "RescaleIntercept",
  "RescaleSlope",
  "Rows",
  "SamplesPerPixel",
  "VOILUTFunction",
  "VOILUTSequence",
  "WindowCenter",
  "WindowWidth",
]

# pydicom's warnings and log lines quote header values.
logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
config.settings.reading_validation_mode = config.IGNORE


def read_image(path: Path, notes: list[str] | None = None) -> np.ndarray:
  """Returns the picture as (H, W) uint8, bright where the body is dense.

  Args:
    path: a DICOM file with one grey frame.
    notes: gets the reason appended, such as "window:absent", when the stated
      window is not what was applied. The percentiles of the pixels stand in.

  Raises:
    rejects.RejectError: if the file is no such DICOM or does not decode.
  """
  notes = [] if notes is None else notes
  with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    header, plugin = _read_header(path)
    stored = _decode(path, header, plugin)
    return _render(stored, header, notes)


def _read_header(path: Path) -> tuple[Dataset, str]:
  """Returns the checked header, without pixels, and the decoder to use."""
  if path.stat().st_size > MAX_BYTES:
    raise rejects.RejectError("dicom:too_large")
  try:
    # The meta group alone first: a deflated file must not be parsed, as
    # pydicom inflates it whole whatever it grows to.
    syntax = filereader.read_file_meta_info(path).get("TransferSyntaxUID")
  except Exception as error:
    raise rejects.RejectError("dicom:not_dicom") from error
  if syntax is None:
    raise rejects.RejectError("dicom:no_transfer_syntax")
  plugin = PLUGINS.get(uid.UID(str(syntax)))
  if plugin is None:
    raise rejects.RejectError("dicom:transfer_syntax")
  try:
    header = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=_TAGS)
    rows, columns = int(header.Rows), int(header.Columns)
    frames = int(header.get("NumberOfFrames") or 1)
    samples = int(header.get("SamplesPerPixel") or 1)
    allocated, bits = int(header.BitsAllocated), int(header.BitsStored)
    photometric = str(header.get("PhotometricInterpretation")).strip()
    burned_in = str(header.get("BurnedInAnnotation")).strip().upper()
  except Exception as error:
    raise rejects.RejectError("dicom:header") from error
  if not (0 < rows <= MAX_SIDE and 0 < columns <= MAX_SIDE):
    raise rejects.RejectError("dicom:size")
  if rows * columns > MAX_PIXELS:
    raise rejects.RejectError("dicom:size")
  if frames != 1:
    raise rejects.RejectError("dicom:frames")
  if samples != 1 or photometric not in ("MONOCHROME1", "MONOCHROME2"):
    raise rejects.RejectError("dicom:not_grey")
  if allocated not in (8, 16) or not 8 <= bits <= allocated:
    raise rejects.RejectError("dicom:bits")
  if syntax == uid.JPEGExtended12Bit and bits != 8:
    raise rejects.RejectError("dicom:transfer_syntax")
  if burned_in == "YES":
    raise rejects.RejectError("dicom:burned_in_annotation")
  return header, plugin


def _decode(path: Path, header: Dataset, plugin: str) -> np.ndarray:
  """Returns the stored values, (H, W), of an integer type."""
  try:
    stored = pixels.pixel_array(path, decoding_plugin=plugin, raw=True)
  except AttributeError as error:
    raise rejects.RejectError("dicom:no_pixels") from error
  except Exception as error:
    raise rejects.RejectError("dicom:pixels") from error
  shape = header.Rows, header.Columns
  if stored.shape != shape or stored.dtype.kind not in "iu":
    raise rejects.RejectError("dicom:pixels")
  return stored


def _render(
  stored: np.ndarray, header: Dataset, notes: list[str]
) -> np.ndarray:
  """Returns the stored values as they are meant to be seen, uint8."""
  low, high = int(stored.min()), int(stored.max())
  if low == high:
    raise rejects.RejectError("image:constant")
  # At most 65,536 values occur: every step below works on them, not on the
  # millions of pixels, and comes out the same. Subtracting may wrap around in
  # a signed type; the unsigned view is right all the same.
  index = (stored - stored.dtype.type(low)).view(f"u{stored.itemsize}")
  values = np.arange(low, high + 1, dtype=np.int32)
  try:
    values = np.asarray(pixels.apply_modality_lut(values, header))
  except Exception as error:
    raise rejects.RejectError("dicom:modality_lut") from error
  if not np.isfinite(values).all():
    raise rejects.RejectError("dicom:modality_lut")
  sample = windowing.subsample(index)
  try:
    unit = _apply_voi(values, header)
    if windowing.is_blank(unit[sample]):
      raise rejects.RejectError("window:blank")
  except rejects.RejectError as rejection:
    notes.append(rejection.reason)
    limits = windowing.percentile_limits(values[sample])
    if limits[0] == limits[1]:
      limits = float(values.min()), float(values.max())
    if limits[0] == limits[1]:
      raise rejects.RejectError("image:constant") from None
    unit = windowing.apply_limits(values, *limits)
  # PresentationLUTShape is not looked at: INVERSE goes with MONOCHROME1 in
  # the standard, and obeying both would turn the picture over twice.
  if str(header.PhotometricInterpretation).strip() == "MONOCHROME1":
    unit = 1 - unit
  return windowing.to_uint8(unit)[index]


def _apply_voi(values: np.ndarray, header: Dataset) -> np.ndarray:
  """Returns the values in [0, 1] by the first VOI LUT, else first window.

  Raises:
    rejects.RejectError: with the reason why neither can be applied.
  """
  if header.get("VOILUTSequence"):
    try:
      depth = int(header.VOILUTSequence[0].LUTDescriptor[2])
      whole = np.rint(values).astype(np.int64)
      unit = np.asarray(pixels.apply_voi(whole, header)) / (2**depth - 1)
    except Exception as error:
      raise rejects.RejectError("voi_lut:invalid") from error
    if unit.max() > 1:
      raise rejects.RejectError("voi_lut:invalid")
    return unit
  try:
    center, width = (
      _first(header.get(keyword)) for keyword in ("WindowCenter", "WindowWidth")
    )
    function = str(header.get("VOILUTFunction") or "LINEAR").strip().upper()
  except Exception as error:
    raise rejects.RejectError("window:invalid") from error
  if center is None or width is None:
    raise rejects.RejectError("window:absent")
  if not (math.isfinite(center) and math.isfinite(width)):
    raise rejects.RejectError("window:invalid")
  try:
    return windowing.apply_window(values, center, width, function)
  except ValueError as error:
    raise rejects.RejectError("window:invalid") from error


def _first(value: object) -> float | None:
  if value is None or value == "":
    return None
  if isinstance(value, (list, tuple)) or hasattr(value, "__getitem__"):
    value = value[0]  # pyright: ignore
  return float(value)  # pyright: ignore
