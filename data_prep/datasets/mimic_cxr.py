"""MIMIC-CXR 2.0.0 and MIMIC-CXR-JPG: reports, official split, boxes."""

import collections
import re
from pathlib import Path

from data_prep import items, labels, splits

_PERSON_OR_STUDY = re.compile(r"[0-9]{8}")
_DICOM_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{8}){4}")
_NO_LABELS = "labels:study_not_in_table"
_MS_CXR = "MS_CXR_Local_Alignment*.csv"
_MOVED = "split:ms_cxr_moved_to_test"
_VIEW_CODE = "ViewCodeSequence_CodeMeaning"


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  The official split is kept but for MS-CXR. Its images, if its table is there,
  carry its boxes. Of a patient of it who is in train, the studies with boxes
  become `test` and the others are dropped, so that grounding is never measured
  on anyone trained on. The view is ViewPosition, or where that
  is blank, the view code's meaning.

  Args:
    source_dir: holds `files/` with the DICOMs and the tables
      `mimic-cxr-2.0.0-{metadata,split,chexpert}.csv(.gz)` (which MIMIC-CXR-JPG
      distributes); reports beside the studies' folders or below
      `mimic-cxr-reports/files/`; perhaps `MS_CXR_Local_Alignment*.csv`,
      directly or in a folder.

  Raises:
    ValueError: if a table or a column is missing or a cell is not what it
      should be.
  """
  return _plan(source_dir, "mimic_cxr", ".dcm")


def plan_jpg(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  As mimic_cxr in all else. Grey values are as MIMIC-CXR-JPG has them: scaled
  and equalised by its makers.

  Args:
    source_dir: holds `files/` with the JPEGs and the tables
      `mimic-cxr-2.0.0-{metadata,split,chexpert}.csv(.gz)`; the reports, which
      MIMIC-CXR distributes, beside the studies' folders or below
      `mimic-cxr-reports/files/`; perhaps `MS_CXR_Local_Alignment*.csv`,
      directly or in a folder.

  Raises:
    ValueError: if a table or a column is missing or a cell is not what it
      should be.
  """
  return _plan(source_dir, "mimic_cxr_jpg", ".jpg")


def _plan(source_dir: Path, name: str, suffix: str) -> items.Plan:
  if not (source_dir / "files").is_dir():
    raise ValueError("source_dir holds no directory files/")
  split_of = _read_splits(source_dir)
  study_labels = _read_labels(source_dir)
  boxes = _read_boxes(source_dir)
  path = labels.require_table([source_dir], "mimic-cxr-2.0.0-metadata.csv")
  rows = labels.read_table(
    path,
    ("dicom_id", "subject_id", "study_id", "ViewPosition"),
    (_VIEW_CODE,),
  )
  boxed = [row for row in rows if row["dicom_id"].strip() in boxes]
  unknown = boxes.keys() - {row["dicom_id"].strip() for row in boxed}
  if unknown:
    raise ValueError(
      f"{len(unknown)} dicom_id(s) of the MS-CXR table are not in {path.name}"
    )
  boxed_patients = {row["subject_id"].strip() for row in boxed}
  boxed_studies = {row["study_id"].strip() for row in boxed}
  moved_patients = {
    row["subject_id"].strip()
    for row in boxed
    if split_of.get(row["dicom_id"].strip()) == "train"
  }
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  if not boxes:
    filtered["ms_cxr:no_table"] = 1
  for number, row in enumerate(rows, 1):
    dicom_id, subject, study = (
      row[column].strip() for column in ("dicom_id", "subject_id", "study_id")
    )
    # They become parts of a path.
    for column, cell, pattern in (
      ("dicom_id", dicom_id, _DICOM_ID),
      ("subject_id", subject, _PERSON_OR_STUDY),
      ("study_id", study, _PERSON_OR_STUDY),
    ):
      if not pattern.fullmatch(cell):
        raise ValueError(
          f"table {path.name} row {number} column {column!r} is no such id"
        )
    split = split_of.get(dicom_id)
    if split is None:
      filtered["split:not_in_split_table"] += 1
      continue
    moved = ()
    if split != "test":
      if subject in moved_patients and study in boxed_studies:
        split, moved = "test", (_MOVED,)
      elif subject in moved_patients or (
        subject in boxed_patients and split == "train"
      ):
        filtered[f"split:ms_cxr_patient_in_{split}"] += 1
        continue
    patient_dir = f"files/p{subject[:2]}/p{subject}"
    report = f"{patient_dir}/s{study}.txt"
    view = row["ViewPosition"].strip() or row.get(_VIEW_CODE, "")
    unlabelled = () if study in study_labels else (_NO_LABELS,)
    box_shape, image_boxes = boxes.get(dicom_id, (None, ()))
    found.append(
      items.Item(
        image_paths=(f"{patient_dir}/s{study}/{dicom_id}{suffix}",),
        split=split,
        image_id=dicom_id,
        study_id=study,
        patient_id=subject,
        report_paths=(report, f"mimic-cxr-reports/{report}"),
        view=labels.parse_view(view),
        labels=study_labels.get(study, {}),
        boxes=tuple(image_boxes),
        box_shape=box_shape,
        notes=(*labels.note_view(view), *unlabelled, *moved),
      )
    )
  return items.Plan(
    name,
    source_dir,
    found,
    filtered,
    settings={"split": "official", "ms_cxr_boxes": bool(boxes)},
  )


def _read_splits(source_dir: Path) -> dict[str, str]:
  path = labels.require_table([source_dir], "mimic-cxr-2.0.0-split.csv")
  split_of = {}
  for number, row in enumerate(
    labels.read_table(path, ("dicom_id", "split")), 1
  ):
    split = splits.parse_split(row["split"])
    if split is None:
      raise ValueError(
        f"table {path.name} row {number} column 'split' is none of train, "
        "validate, test"
      )
    dicom_id = row["dicom_id"].strip()
    if split_of.get(dicom_id, split) != split:
      raise ValueError(
        f"table {path.name} row {number} puts an image in a second split"
      )
    split_of[dicom_id] = split
  return split_of


def _read_labels(source_dir: Path) -> dict[str, dict[str, int]]:
  path = labels.require_table([source_dir], "mimic-cxr-2.0.0-chexpert.csv")
  rows = labels.read_table(path, ("study_id", *labels.CHEXPERT_LABELS))
  found: dict[str, dict[str, int]] = {}
  for number, row in enumerate(rows, 1):
    study = row["study_id"].strip()
    if study in found:
      raise ValueError(
        f"table {path.name} row {number} labels a study a second time"
      )
    found[study] = labels.parse_values(
      row, labels.CHEXPERT_LABELS, path.name, number
    )
  return found


def _read_boxes(source_dir: Path) -> dict[str, tuple]:
  """Returns dicom_id -> ((height, width), [(name, corners)])."""
  path = labels.find_table([source_dir], _MS_CXR)
  path = path or labels.find_table([source_dir], f"*/{_MS_CXR}")
  if path is None:
    return {}
  numbers = ("x", "y", "w", "h", "image_width", "image_height")
  boxes: dict[str, tuple] = {}
  for number, row in enumerate(
    labels.read_table(path, ("dicom_id", "category_name", *numbers)), 1
  ):
    x, y, w, h, width, height = labels.parse_numbers(
      row, numbers, path.name, number
    )
    shape = int(height), int(width)
    known_shape, known = boxes.setdefault(row["dicom_id"].strip(), (shape, []))
    if known_shape != shape or not (w > 0 and h > 0):
      raise ValueError(
        f"table {path.name} row {number}: expected a width and height above 0 "
        "and one size an image"
      )
    known.append((row["category_name"].strip(), (x, y, x + w, y + h)))
  return boxes
