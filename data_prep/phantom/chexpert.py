"""CheXpert's tree: JPEGs, valid.csv, and the test set with its readers."""

import dataclasses
from pathlib import Path

import cv2
import numpy as np

from data_prep.phantom import findings as findings_lib
from data_prep.phantom import patients, reports, tables

# In the order of valid.csv and groundtruth.csv; the readers have Lung Lesion
# before Lung Opacity.
_LABELS = (
  "No Finding",
  "Enlarged Cardiomediastinum",
  "Cardiomegaly",
  "Lung Opacity",
  "Lung Lesion",
  "Edema",
  "Consolidation",
  "Pneumonia",
  "Atelectasis",
  "Pneumothorax",
  "Pleural Effusion",
  "Pleural Other",
  "Fracture",
  "Support Devices",
)
_READER_LABELS = (*_LABELS[:3], "Lung Lesion", "Lung Opacity", *_LABELS[5:])
_READERS = ("bc4", "bc6", "bc8")
_OPAQUE = {"consolidation", "edema", "atelectasis", "nodule"}
# How often a reader misses what is there, and sees what is not.
_MISS, _INVENT = 0.14, 0.04


@dataclasses.dataclass
class Rows:
  """What the tables will say of one patient."""

  valid: list[list[object]]
  test: list[list[object]]
  readers: dict[str, list[list[object]]]


def truth(
  findings: tuple[findings_lib.Finding, ...], rng: np.random.Generator
) -> dict[str, int]:
  """Returns the labels (1 or 0) that a panel would give to a study."""
  names = {finding.name for finding in findings}
  labels: dict[str, int] = dict.fromkeys(_LABELS, 0)
  labels.update({reports.LABELS[name]: 1 for name in names})
  labels["Lung Opacity"] = int(bool(names & _OPAQUE))
  labels["Enlarged Cardiomediastinum"] = labels["Cardiomegaly"]
  labels["Pneumonia"] = labels["Consolidation"] * int(rng.random() < 0.3)
  labels["No Finding"] = int(not names - {"devices"})
  return labels


def write_patient(root: Path, patient: patients.Patient) -> Rows:
  """Writes the patient's JPEGs under `root`, no tables."""
  rows = Rows([], [], {reader: [] for reader in _READERS})
  first = {"valid": 64541, "test": 64741}[patient.split]
  if patient.split == "valid" and patient.split_rank >= 200:
    # The real set has 200; the numbers after them are the test patients'.
    first = 90_000
  name = f"patient{first + patient.split_rank:05d}"
  for study in patient.studies:
    rng = np.random.default_rng((study.seed, 0))
    folder = f"CheXpert-v1.0/{patient.split}/{name}/study{study.number + 1}"
    (root / folder).mkdir(parents=True, exist_ok=True)
    labels = truth(study.findings, rng)
    for number, picture in enumerate(study.pictures, 1):
      grey, _ = patients.photograph(patient.anatomy, study.findings, picture)
      path = f"{folder}/view{number}_{picture.view}.jpg"
      quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(85, 96))]
      _, jpeg = cv2.imencode(
        ".jpg", np.round(grey * 255).astype(np.uint8), quality
      )
      (root / path).write_bytes(jpeg.tobytes())
      if patient.split == "valid":
        frontal = picture.view == "frontal"
        position = ("AP" if picture.portable else "PA") if frontal else None
        rows.valid.append(
          [
            path,
            "Female" if patient.sex == "F" else "Male",
            patient.age,
            picture.view.capitalize(),
            position,
            *(f"{labels[name]:.1f}" for name in _LABELS),
          ]
        )
    if patient.split == "test":
      rows.test.append([folder, *(labels[name] for name in _LABELS)])
      for reader in _READERS:
        read = _read(labels, rng)
        rows.readers[reader].append(
          [folder, *(read[name] for name in _READER_LABELS)]
        )
  return rows


def write_tables(root: Path, patients_rows: list[Rows]) -> None:
  """Writes valid.csv, groundtruth.csv and the readers' tables."""
  (root / "radiologists").mkdir(parents=True, exist_ok=True)
  (root / "CheXpert-v1.0").mkdir(parents=True, exist_ok=True)
  for reader in _READERS:
    tables.write(
      root / "radiologists" / f"{reader}.csv",
      ("Study", *_READER_LABELS),
      sorted(row for rows in patients_rows for row in rows.readers[reader]),
    )
  tables.write(
    root / "groundtruth.csv",
    ("Study", *_LABELS),
    sorted(row for rows in patients_rows for row in rows.test),
  )
  tables.write(
    root / "CheXpert-v1.0" / "valid.csv",
    ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA", *_LABELS),
    sorted(row for rows in patients_rows for row in rows.valid),
  )


def _read(labels: dict[str, int], rng: np.random.Generator) -> dict[str, int]:
  """Returns one reader's labels: the truth with slips."""
  slips = rng.random(len(labels))
  read = {
    name: value ^ int(slip < (_MISS if value else _INVENT))
    for (name, value), slip in zip(labels.items(), slips, strict=True)
  }
  others = set(read) - {"No Finding", "Support Devices"}
  read["No Finding"] = int(not any(read[name] for name in others))
  return read
