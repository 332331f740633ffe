"""A sheet of phantoms to look at: captions and boxes of their findings."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

from data_prep.phantom import patients

_TILE, _ACROSS, _DOWN = 300, 6, 4
COUNT = _ACROSS * _DOWN


def write(path: Path, people: Iterable[patients.Patient]) -> None:
  """Draws the first frontal of the first `COUNT` patients on one PNG.

  Args:
    path: of the PNG, in a folder that exists.
    people: may be fewer.
  """
  sheet = np.zeros((_DOWN * _TILE, _ACROSS * _TILE, 3), np.uint8)
  for number, patient in zip(range(COUNT), people, strict=False):
    row, column = divmod(number, _ACROSS)
    sheet[
      row * _TILE : (row + 1) * _TILE, column * _TILE : (column + 1) * _TILE
    ] = _tile(patient)
  _, png = cv2.imencode(".png", sheet)
  path.write_bytes(png.tobytes())


def _tile(patient: patients.Patient) -> np.ndarray:
  study = patient.studies[0]
  grey, boxes = patients.photograph(
    patient.anatomy, study.findings, study.pictures[0]
  )
  room = _TILE - 36
  scale = min(_TILE / grey.shape[1], room / grey.shape[0])
  image = cv2.resize(
    np.round(grey * 255).astype(np.uint8),
    None,
    fx=scale,
    fy=scale,
    interpolation=cv2.INTER_AREA,
  )
  tile = np.zeros((_TILE, _TILE, 3), np.uint8)
  height, width = image.shape
  tile[:height, :width] = image[:, :, None]
  captions = []
  for finding, found in zip(study.findings, boxes, strict=True):
    words = [finding.severity, finding.side, finding.zone, finding.name]
    if finding.name == "devices":
      words = [finding.side, finding.form]
    captions.append(" ".join(word for word in words if word))
    for box in found:
      x0, y0, x1, y1 = (round(scale * value) for value in box)
      cv2.rectangle(tile, (x0, y0), (x1, y1), (0, 190, 255), 1)
  for number, line in enumerate(_lines(captions or ["no finding"])):
    cv2.putText(
      tile,
      line,
      (3, room + 11 + 11 * number),
      cv2.FONT_HERSHEY_SIMPLEX,
      0.32,
      (200, 230, 200),
      1,
      cv2.LINE_AA,
    )
  return tile


def _lines(captions: list[str]) -> list[str]:
  lines = [""]
  for caption in captions:
    if lines[-1] and len(lines[-1]) + len(caption) > 50:
      lines.append("")
    lines[-1] += ("; " if lines[-1] else "") + caption
  return lines[:3]
