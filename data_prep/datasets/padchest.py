"""PadChest: 16-bit PNG images, labels as a Python list in a CSV cell."""

import collections
import re
from pathlib import Path

from data_prep import items, labels, reports

_TABLE = "PADCHEST_chest_x_ray_images_labels*.csv"
_COLUMNS = ("ImageID", "StudyID", "PatientID", "Projection")
_COLUMNS += ("MethodLabel", "Labels")
_OPTIONAL = ("ImageDir", "Report", "PatientSex_DICOM", "PatientBirth")
_OPTIONAL += ("StudyDate_DICOM",)
_PHYSICIAN, _NETWORK = "physician", "rnn_model"
_MAX_CELL = 10_000
_NULL = ("", "nan", "none", "null")

# A Python list of strings without escapes; it is taken apart, never run. No two
# runs of blanks stand side by side in it: the time to fail would be quadratic.
_STRING = r"""'[^'\\]*'|"[^"\\]*\""""
_LIST = re.compile(
  rf"\[\s*(?:(?:{_STRING})\s*(?:,\s*(?:{_STRING})\s*)*(?:,\s*)?)?\]"
)


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  Rows that a physician labelled are the split `test`. Those that a network
  labelled are `train`, less the patients of the former; there is no official
  split. Only the labels that a row lists are stored, each as 1. Pixels are
  taken as the PNG has them: it is not known whether MONOCHROME1 images were
  turned over for the release.

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
    if row["MethodLabel"].strip().lower() == _PHYSICIAN
  }
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  for number, row in enumerate(rows, 1):
    image, study, patient = (
      labels.parse_id(row, column, table.name, number)
      for column in ("ImageID", "StudyID", "PatientID")
    )
    method = row["MethodLabel"].strip().lower()
    names = parse_labels(row["Labels"])
    projection = row["Projection"]
    report = reports.clean(row.get("Report", ""))
    sex = row.get("PatientSex_DICOM", "")
    age = _age(row)
    if not (image and study and patient):
      filtered["id:blank"] += 1
    elif projection.strip().upper() == "EXCLUDE":
      filtered["projection:exclude"] += 1
    elif isinstance(names, str):
      filtered[names] += 1
    elif method not in (_PHYSICIAN, _NETWORK):
      filtered["method:unknown"] += 1
    elif method == _NETWORK and patient in physicians_patients:
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
          split="test" if method == _PHYSICIAN else "train",
          image_id=image,
          study_id=study,
          patient_id=patient,
          view=labels.parse_view(projection),
          findings="" if report.lower() in _NULL else report,
          labels=dict.fromkeys(names, 1),
          sex=labels.parse_sex(sex),
          age_band=labels.age_band(age),
          notes=(
            *labels.note_view("" if projection == "UNK" else projection),
            *labels.note_sex(sex),
            *labels.note_age(age),
          ),
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
  if cell.lower() in _NULL:
    return "labels:null"
  if len(cell) > _MAX_CELL or not _LIST.fullmatch(cell):
    return "labels:unparseable"
  names = [string[1:-1] for string in re.findall(_STRING, cell)]
  cleaned = {reports.clean(name).lower() for name in names} - {""}
  if not cleaned:
    return "labels:null"
  return "labels:exclude" if "exclude" in cleaned else sorted(cleaned)


def _age(row: dict[str, str]) -> str:
  """Returns the years from birth to study, "" if none is stated."""
  born = row.get("PatientBirth", "").strip().removesuffix(".0")
  taken = row.get("StudyDate_DICOM", "").strip()[:4]
  if born.lower() in _NULL:
    return ""
  if not all(re.fullmatch("[0-9]{4}", year) for year in (born, taken)):
    return "?"
  return str(int(taken) - int(born))
