"""MIMIC-CXR's tree: DICOMs, reports, the tables and MS-CXR's boxes."""

import dataclasses
import datetime
from pathlib import Path

import numpy as np

from data_prep.phantom import dicom_file, patients, reports, tables

_LABELS = (
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Enlarged Cardiomediastinum",
  "Fracture",
  "Lung Lesion",
  "Lung Opacity",
  "No Finding",
  "Pleural Effusion",
  "Pleural Other",
  "Pneumonia",
  "Pneumothorax",
  "Support Devices",
)
# MS-CXR's own names of what it boxes.
_CATEGORIES = {
  "atelectasis": "Atelectasis",
  "cardiomegaly": "Cardiomegaly",
  "consolidation": "Consolidation",
  "edema": "Edema",
  "effusion": "Pleural Effusion",
  "nodule": "Lung Opacity",
  "pneumothorax": "Pneumothorax",
}
_VIEWS = {
  "PA": "postero-anterior",
  "AP": "antero-posterior",
  "LATERAL": "lateral",
  "LL": "left lateral",
  "": None,
}
# Ids run through all seven digits without meeting twice: both numbers are
# prime to each other.
_IDS, _STRIDE = 9_999_991, 7_368_787


@dataclasses.dataclass
class Rows:
  """What the tables will say of one patient."""

  metadata: list[list[object]]
  split: list[list[object]]
  labels: list[list[object]]
  boxes: list[list[object]]
  records: list[list[object]]
  studies: list[list[object]]


def write_patient(root: Path, patient: patients.Patient) -> Rows:
  """Writes the patient's DICOMs and reports under `root`, no tables."""
  rows = Rows([], [], [], [], [], [])
  subject = 10_000_000 + _scatter(patient.seed, patient.rank)
  person = f"files/p{subject // 1_000_000}/p{subject}"
  for study in patient.studies:
    study_id = 50_000_000 + _scatter(
      patient.seed + 1, 2 * patient.rank + study.number
    )
    folder = f"{person}/s{study_id}"
    (root / folder).mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng((study.seed, 0))
    report = reports.write(
      study.findings,
      patient.sex == "F",
      study.pictures[0].portable,
      len(study.pictures),
      study.number > 0,
      rng,
    )
    (root / f"{folder}.txt").write_text(report.text)
    rows.studies.append([subject, study_id, f"{folder}.txt"])
    rows.labels.append(
      [subject, study_id, *(_number(report.labels.get(n)) for n in _LABELS)]
    )
    day = datetime.date(2112, 1, 1) + datetime.timedelta(study.day)
    time = int(rng.integers(86400))
    study_uid = dicom_file.draw_uid(rng)
    for picture in study.pictures:
      dicom_id = "-".join(f"{n:08x}" for n in rng.integers(2**32, size=5))
      grey, boxes = patients.photograph(
        patient.anatomy, study.findings, picture
      )
      view = _view(picture, rng)
      header = dicom_file.Header(
        patient_id=str(subject),
        patient_name=f"Phantom^{patient.index}",
        sex=patient.sex,
        age=patient.age,
        date=day.strftime("%Y%m%d"),
        time=_clock(time),
        study_id=str(study_id),
        study_uid=study_uid,
        view=view,
        portable=picture.portable,
      )
      dicom_file.write(root / folder / f"{dicom_id}.dcm", grey, header, rng)
      procedure = (
        "CHEST (PORTABLE AP)" if picture.portable else "CHEST (PA AND LAT)"
      )
      rows.metadata.append(
        [
          dicom_id,
          subject,
          study_id,
          procedure,
          view or None,
          *grey.shape,
          header.date,
          f"{header.time}.{int(rng.integers(1000)):03d}",
          procedure,
          _VIEWS[view],
          "Recumbent" if picture.portable else "Erect",
        ]
      )
      rows.split.append([dicom_id, study_id, subject, patient.split])
      rows.records.append(
        [subject, study_id, dicom_id, f"{folder}/{dicom_id}.dcm"]
      )
      if patient.split != "train":
        rows.boxes += _box_rows(
          study, report, boxes, dicom_id, folder, grey.shape, patient.split
        )
  return rows


def write_tables(root: Path, patients_rows: list[Rows]) -> None:
  """Writes the tables over all patients, as the real ones are named."""

  def joined(name: str) -> list[list[object]]:
    return sorted(row for rows in patients_rows for row in getattr(rows, name))

  prefix = "mimic-cxr-2.0.0"
  tables.write(
    root / f"{prefix}-metadata.csv.gz",
    (
      "dicom_id",
      "subject_id",
      "study_id",
      "PerformedProcedureStepDescription",
      "ViewPosition",
      "Rows",
      "Columns",
      "StudyDate",
      "StudyTime",
      "ProcedureCodeSequence_CodeMeaning",
      "ViewCodeSequence_CodeMeaning",
      "PatientOrientationCodeSequence_CodeMeaning",
    ),
    joined("metadata"),
  )
  for labeler in ("chexpert", "negbio"):
    tables.write(
      root / f"{prefix}-{labeler}.csv.gz",
      ("subject_id", "study_id", *_LABELS),
      joined("labels"),
    )
  tables.write(
    root / "MS_CXR_Local_Alignment_v1.1.0.csv",
    (
      "dicom_id",
      "category_name",
      "label_text",
      "path",
      "x",
      "y",
      "w",
      "h",
      "image_width",
      "image_height",
      "split",
    ),
    joined("boxes"),
  )
  tables.write(
    root / "cxr-record-list.csv.gz",
    ("subject_id", "study_id", "dicom_id", "path"),
    joined("records"),
  )
  tables.write(
    root / "cxr-study-list.csv.gz",
    ("subject_id", "study_id", "path"),
    joined("studies"),
  )
  tables.write(
    root / f"{prefix}-split.csv.gz",
    ("dicom_id", "study_id", "subject_id", "split"),
    joined("split"),
  )


def _box_rows(
  study: patients.Study,
  report: reports.Report,
  boxes: list,
  dicom_id: str,
  folder: str,
  shape: tuple[int, int],
  split: str,
) -> list[list[object]]:
  height, width = shape
  return [
    [
      dicom_id,
      _CATEGORIES[study.findings[index].name],
      report.named[index],
      f"{folder}/{dicom_id}.jpg",  # MS-CXR names the JPEG edition's files
      x0,
      y0,
      x1 - x0,
      y1 - y0,
      width,
      height,
      {"validate": "val"}.get(split, split),
    ]
    for index, found in enumerate(boxes)
    if index in report.named
    for x0, y0, x1, y1 in found
  ]


def _view(picture: patients.Picture, rng: np.random.Generator) -> str:
  if rng.random() < 0.03:
    return ""
  if picture.view == "lateral":
    return "LATERAL" if rng.random() < 0.6 else "LL"
  return "AP" if picture.portable else "PA"


def _scatter(seed: int, number: int) -> int:
  return (seed * 104_729 + 32 + number * _STRIDE) % _IDS


def _clock(seconds: int) -> str:
  return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}"


def _number(value: int | None) -> str | None:
  return None if value is None else f"{value:.1f}"
