"""Any image file to a grey picture of the stored size."""

import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from data_prep import dicom, rejects

DICOM_SUFFIXES = (".dcm", ".dicom")
SUFFIXES = (*DICOM_SUFFIXES, ".png", ".jpg", ".jpeg")

_EIGHT_BIT_MODES = ("1", "L", "LA", "P", "RGB", "RGBA")
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B")


def read_image(
  path: Path, notes: list[str] | None = None, recipe: str = "voi"
) -> np.ndarray:
  """Returns the picture in a DICOM, PNG or JPEG file as (H, W) uint8.

  Eight-bit files are taken as they are, whatever the recipe: someone has made
  them to be looked at. Colour is read by its luma and without its alpha.
  Sixteen bits of grey are scaled as a DICOM's that has no window and is
  MONOCHROME2; of colour or with an alpha they are rejected.

  Args:
    path: the file; its first bytes, not its name, decide what it is.
    notes: gets the reason appended when a window was made up.
    recipe: one of `dicom.RECIPES`.

  Raises:
    rejects.RejectError: if it is no such file, too large, or does not decode
      whole.
    OSError: if it cannot be read now, as `rejects.is_passing` says.
    ValueError: if there is no such recipe.
  """
  try:
    with path.open("rb") as handle:
      start = handle.read(132)
    size = path.stat().st_size
  except OSError as error:
    if rejects.is_passing(error):
      raise
    raise rejects.RejectError("image:cannot_be_opened") from error
  if start[128:] == b"DICM" or path.suffix.lower() in DICOM_SUFFIXES:
    return dicom.read_image(path, notes, recipe)
  if size > dicom.MAX_BYTES:
    raise rejects.RejectError("image:too_large")
  with warnings.catch_warnings():
    # Pillow's own limit is lower than ours, and would only warn.
    warnings.simplefilter("ignore")
    return _read_raster(path, start, [] if notes is None else notes, recipe)


def shrink(image: np.ndarray, short_side: int) -> np.ndarray:
  """Returns the image with its shorter side at most `short_side` pixels.

  A smaller one comes back as it is: enlarging adds bytes and no detail.

  Args:
    image: (H, W) uint8.
    short_side: > 0.
  """
  height, width = image.shape
  scale = short_side / min(height, width)
  if scale >= 1:
    return image
  size = max(1, round(width * scale)), max(1, round(height * scale))
  return cv2.resize(image, size, interpolation=cv2.INTER_AREA)


def _read_raster(
  path: Path, start: bytes, notes: list[str], recipe: str
) -> np.ndarray:
  try:
    picture = Image.open(path, formats=("PNG", "JPEG"))
  except Exception as error:
    if rejects.is_passing(error):
      raise
    raise rejects.RejectError("image:not_an_image") from error
  with picture:
    width, height = picture.size
    if max(width, height) > dicom.MAX_SIDE or width * height > dicom.MAX_PIXELS:
      raise rejects.RejectError("image:size")
    if getattr(picture, "n_frames", 1) != 1:
      raise rejects.RejectError("image:frames")
    if picture.mode not in _EIGHT_BIT_MODES + _SIXTEEN_BIT_MODES:
      raise rejects.RejectError("image:mode")
    if picture.format == "PNG":
      # The header, which has to come first; Pillow takes it from anywhere.
      if start[12:16] != b"IHDR":
        raise rejects.RejectError("image:not_an_image")
      # Of colour or alpha in 16 bits, Pillow drops the low byte.
      if start[24] == 16 and picture.mode in _EIGHT_BIT_MODES:
        raise rejects.RejectError("image:mode")
    try:
      picture.load()
      if picture.mode in _EIGHT_BIT_MODES:
        image = np.asarray(picture.convert("L"))
      else:
        image = np.asarray(picture)
    except Exception as error:
      if rejects.is_passing(error):
        raise
      # Truncated data and failed checksums come here.
      raise rejects.RejectError("image:does_not_decode") from error
  if image.min() == image.max():
    raise rejects.RejectError("image:constant")
  if image.dtype == np.uint8:
    return image
  if image.min() < 0 or image.max() > 2**16 - 1:
    raise rejects.RejectError("image:mode")
  return dicom.render(image.astype(np.uint16, copy=False), notes, recipe)
