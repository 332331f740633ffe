"""VinDr-CXR: DICOM images, boxes, three readers an image of the train set."""

import collections
import re
from collections.abc import Iterable
from pathlib import Path

from data_prep import items, labels

# As the tables spell them, but for `_SPELLINGS`.
FINDINGS = (
  "Aortic enlargement",
  "Atelectasis",
  "Calcification",
  "Cardiomegaly",
  "Clavicle fracture",
  "Consolidation",
  "Edema",
  "Emphysema",
  "Enlarged PA",
  "ILD",
  "Infiltration",
  "Lung Opacity",
  "Lung cavity",
  "Lung cyst",
  "Mediastinal shift",
  "Nodule/Mass",
  "Pleural effusion",
  "Pleural thickening",
  "Pneumothorax",
  "Pulmonary fibrosis",
  "Rib fracture",
  "Other lesion",
)
DIAGNOSES = ("COPD", "Lung tumor", "Pneumonia", "Tuberculosis", "Other disease")
NO_FINDING = "No finding"
LABELS = (*FINDINGS, *DIAGNOSES, NO_FINDING)
# The challenge has these and boxes of no others.
CHALLENGE_LABELS = (
  "Aortic enlargement",
  "Atelectasis",
  "Calcification",
  "Cardiomegaly",
  "Consolidation",
  "ILD",
  "Infiltration",
  "Lung Opacity",
  "Nodule/Mass",
  "Other lesion",
  "Pleural effusion",
  "Pleural thickening",
  "Pneumothorax",
  "Pulmonary fibrosis",
  NO_FINDING,
)

# The train set's tables have it in the plural.
_SPELLINGS = {"Other diseases": "Other disease"}
_ID = re.compile(r"[0-9a-f]{32}")
_CORNERS = ("x_min", "y_min", "x_max", "y_max")

_Boxes = dict[str, list[tuple[str, tuple[float, float, float, float]]]]
_Labels = dict[str, dict[str, int]]


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  The official `train` and `test` are kept; there is no `validate`. Of `train`,
  three readers marked each image on their own: a label is 1 where more than
  half of them give it, 0 where none does, else -1. All of their boxes are kept,
  so that one finding may have up to three. Of `test` the consensus is stored.
  Patients are not named: each image counts as one. All views are frontal, as
  the data's authors state.

  Args:
    source_dir: holds `train/` and `test/` with the DICOMs, and the tables
      `{image_labels,annotations}_{train,test}.csv(.gz)`, directly or in
      `annotations/`; or, as in the challenge, `train/` and `train.csv(.gz)`
      with 14 of the findings.

  Raises:
    ValueError: if no table is there, or one of them is malformed.
  """
  directories = [source_dir / "annotations", source_dir]
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  for split in ("train", "test"):
    marks = labels.find_table(directories, f"image_labels_{split}.csv")
    if marks is None:
      continue
    image_labels = _read_image_labels(marks)
    table = labels.require_table(directories, f"annotations_{split}.csv")
    found += _plan_split(split, image_labels, _read_boxes(table), filtered)
  challenge = labels.find_table([source_dir], "train.csv")
  if challenge and not found:
    image_labels = _read_challenge_labels(challenge)
    found += _plan_split(
      "train", image_labels, _read_boxes(challenge), filtered
    )
  if not found:
    raise ValueError(
      "source_dir holds no VinDr-CXR: expected image_labels_train.csv, "
      "image_labels_test.csv or train.csv"
    )
  return items.Plan(
    "vindr_cxr",
    source_dir,
    found,
    filtered,
    settings={"split": "official", "labels_of_readers": "majority 1, any -1"},
  )


def _plan_split(
  split: str,
  image_labels: _Labels,
  boxes: _Boxes,
  filtered: collections.Counter[str],
) -> list[items.Item]:
  if stray := boxes.keys() - image_labels.keys():
    filtered["boxes:of_an_image_without_labels"] += sum(
      len(boxes[image]) for image in stray
    )
  return [
    items.Item(
      image_paths=tuple(
        f"{split}/{image}{suffix}" for suffix in (".dicom", ".dcm")
      ),
      split=split,
      image_id=image,
      study_id=image,
      patient_id=image,
      view="frontal",
      labels=values,
      boxes=tuple(boxes.get(image, ())),
    )
    for image, values in image_labels.items()
  ]


def _read_image_labels(path: Path) -> _Labels:
  """Returns image -> label -> value, over all readers of the image."""
  spellings = {name: name for name in LABELS} | _SPELLINGS
  rows = labels.read_table(path, ("image_id",), ("rad_id", *spellings))
  columns = [column for column in spellings if column in rows[0]]
  lacking = set(LABELS) - {spellings[column] for column in columns}
  if lacking:
    raise ValueError(
      f"table {path.name} lacks the column(s) "
      f"{', '.join(map(repr, sorted(lacking)))}"
    )
  readers: set[tuple[str, str]] = set()
  votes: dict[str, dict[str, list[int]]] = {}
  for number, row in enumerate(rows, 1):
    image = _parse_image(row, path.name, number)
    reader = image, row.get("rad_id", "").strip()
    if reader in readers:
      raise ValueError(
        f"table {path.name} row {number} repeats a reader of an image"
      )
    readers.add(reader)
    values = labels.parse_values(row, columns, path.name, number)
    of_image = votes.setdefault(image, {})
    for column, value in values.items():
      of_image.setdefault(spellings[column], []).append(value)
  return {
    image: {label: agree(values) for label, values in of_image.items()}
    for image, of_image in votes.items()
  }


def agree(values: list[int]) -> int:
  """Returns one label value for those of an image's readers.

  1 if more than half of them say so, 0 if all say that it is absent, else -1.
  """
  if 2 * values.count(1) > len(values):
    return 1
  return -1 if any(values) else 0


def _read_challenge_labels(path: Path) -> _Labels:
  rows = labels.read_table(path, ("image_id", "class_name", "rad_id"))
  marked: dict[str, dict[str, set[str]]] = {}
  for number, row in enumerate(rows, 1):
    image = _parse_image(row, path.name, number)
    name = _parse_name(row, path.name, number, CHALLENGE_LABELS)
    # A reader who finds nothing has a row that says so.
    of_image = marked.setdefault(image, {})
    of_image.setdefault(row["rad_id"].strip(), set()).add(name)
  return {
    image: {
      label: agree([int(label in names) for names in of_image.values()])
      for label in CHALLENGE_LABELS
    }
    for image, of_image in marked.items()
  }


def _read_boxes(path: Path) -> _Boxes:
  rows = labels.read_table(path, ("image_id", "class_name", *_CORNERS))
  boxes: _Boxes = {}
  for number, row in enumerate(rows, 1):
    image = _parse_image(row, path.name, number)
    name = _parse_name(row, path.name, number, LABELS)
    if name == NO_FINDING or not any(row[c].strip() for c in _CORNERS):
      continue
    x0, y0, x1, y1 = labels.parse_numbers(row, _CORNERS, path.name, number)
    if not (x0 < x1 and y0 < y1):
      raise ValueError(
        f"table {path.name} row {number}: expected x_min < x_max and "
        "y_min < y_max"
      )
    boxes.setdefault(image, []).append((name, (x0, y0, x1, y1)))
  return boxes


def _parse_image(row: dict[str, str], table: str, number: int) -> str:
  image = row["image_id"].strip()
  if not _ID.fullmatch(image):
    raise ValueError(
      f"table {table} row {number} column 'image_id' is not 32 hexadecimal "
      "digits"
    )
  return image


def _parse_name(
  row: dict[str, str], table: str, number: int, known: Iterable[str]
) -> str:
  name = row["class_name"].strip()
  name = _SPELLINGS.get(name, name)
  if name not in known:
    raise ValueError(
      f"table {table} row {number} column 'class_name' is none of the labels"
    )
  return name
