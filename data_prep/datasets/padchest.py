"""PadChest: 16-bit PNG images, labels as a Python list in a CSV cell."""

import ast
import collections
from pathlib import Path

from data_prep import items, labels, reports

_TABLE = "PADCHEST_chest_x_ray_images_labels*.csv"
_COLUMNS = ("ImageID", "StudyID", "PatientID", "Projection")
_COLUMNS += ("MethodLabel", "Labels")
_OPTIONAL = ("ImageDir", "Report", "PatientSex_DICOM", "PatientBirth")
_OPTIONAL += ("StudyDate_DICOM",)
_MAX_CELL = 10_000


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  Rows that a physician labelled are the split `test`. Those that a network
  labelled are `train`, less the patients of the former. Only the labels that
  a row lists are stored, each as 1. Pixels are taken as the PNG has them: it
  is not known whether MONOCHROME1 images were turned over for the release.

  Args:
    source_dir: holds the table, `.csv` or `.csv.gz`, and the images: directly,
      in folders named by the column ImageDir, or either below `images/`.

  Raises:
    ValueError: if the table is missing or malformed.
  """
  table = labels.require_table([source_dir], _TABLE)
  rows = labels.read_table(table, _COLUMNS, _OPTIONAL)
  physicians_patients = {
    row["PatientID"].strip()
    for row in rows
    if row["MethodLabel"].strip() == "Physician"
  }
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  for number, row in enumerate(rows, 1):
    image, study, patient = (
      row[column].strip() for column in ("ImageID", "StudyID", "PatientID")
    )
    if not (image and study and patient):
      raise ValueError(
        f"table {table.name} row {number}: ImageID, StudyID or PatientID is "
        "blank"
      )
    method = row["MethodLabel"].strip()
    names = parse_labels(row["Labels"])
    if row["Projection"].strip() == "EXCLUDE":
      filtered["projection:exclude"] += 1
    elif isinstance(names, str):
      filtered[names] += 1
    elif method not in ("Physician", "RNN_model"):
      filtered["method:unknown"] += 1
    elif method == "RNN_model" and patient in physicians_patients:
      filtered["split:patient_also_labelled_by_a_physician"] += 1
    else:
      folder = row.get("ImageDir", "").strip() or "."
      found.append(
        items.Item(
          image_paths=(
            f"{folder}/{image}",
            image,
            f"images/{folder}/{image}",
            f"images/{image}",
          ),
          split="test" if method == "Physician" else "train",
          image_id=image,
          study_id=study,
          patient_id=patient,
          view=labels.parse_view(row["Projection"]),
          findings=reports.clean(row.get("Report", "")),
          labels=dict.fromkeys(names, 1),
          sex=labels.parse_sex(row.get("PatientSex_DICOM", "")),
          age_band=_age_band(row),
        )
      )
  return items.Plan(
    "padchest",
    source_dir,
    found,
    filtered,
    settings={"split": "Physician: test, RNN_model: train"},
  )


def parse_labels(cell: str) -> list[str] | str:
  """Returns the labels in lower case, or the reason why there are none.

  Args:
    cell: such as "['pleural effusion', ' nodule']".
  """
  cell = cell.strip()
  if not cell or cell.lower() in ("nan", "none", "null"):
    return "labels:null"
  if len(cell) > _MAX_CELL:
    return "labels:unparseable"
  try:
    names = ast.literal_eval(cell)
  except (MemoryError, RecursionError, SyntaxError, TypeError, ValueError):
    return "labels:unparseable"
  if not isinstance(names, list) or not all(
    isinstance(name, str) for name in names
  ):
    return "labels:unparseable"
  cleaned = {reports.clean(name).lower() for name in names} - {""}
  if not cleaned:
    return "labels:null"
  return "labels:exclude" if "exclude" in cleaned else sorted(cleaned)


def _age_band(row: dict[str, str]) -> str:
  born = row.get("PatientBirth", "").strip().removesuffix(".0")
  taken = row.get("StudyDate_DICOM", "").strip()[:4]
  if not (born.isdecimal() and len(born) == 4):
    return ""
  if not (taken.isdecimal() and len(taken) == 4):
    return ""
  return labels.age_band(str(int(taken) - int(born)))
