"""RSNA Pneumonia Detection Challenge: DICOM images, boxes round opacities."""

import re
from pathlib import Path

from data_prep import items, labels, splits

FRACTIONS = (0.7, 0.1, 0.2)
SEED = 0

_TABLE, _CLASSES = (
  "stage_2_train_labels.csv",
  "stage_2_detailed_class_info.csv",
)
_OPACITY, _NORMAL = "Lung Opacity", "Normal"
_CLASS_NAMES = (_OPACITY, _NORMAL, "No Lung Opacity / Not Normal")
_BOX = ("x", "y", "width", "height")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_FOLDER = "stage_2_train_images"

_Boxes = tuple[tuple[str, tuple[float, float, float, float]], ...]


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert: the challenge's labelled images, its "train" set.

  The labels of its own test set are not public, so that a hash of the id puts
  the images 70:10:20 in `train`, `validate` and `test`. "Pneumonia" is the
  challenge's target, 1 where there is a box; "No Finding" is 1 for its class
  "Normal". Each id is one image and counts as a patient. The images are some
  of NIH ChestX-ray14, whose patients may have several: a model trained on that
  set has seen them. All views are frontal.

  Args:
    source_dir: holds `stage_2_train_labels.csv(.gz)`, the DICOMs in
      `stage_2_train_images/`, and perhaps
      `stage_2_detailed_class_info.csv(.gz)`.

  Raises:
    ValueError: if the table is missing, or one of the two is malformed.
  """
  boxes = _read_boxes(labels.require_table([source_dir], _TABLE))
  table = labels.find_table([source_dir], _CLASSES)
  classes = _read_classes(table) if table else {}
  if classes and classes.keys() != boxes.keys():
    raise ValueError(
      f"table {_CLASSES} lists {len(classes.keys() ^ boxes.keys())} image(s) "
      f"that {_TABLE} does not, or the other way round"
    )
  wrong = sum(
    (name == _OPACITY) != bool(boxes[image]) for image, name in classes.items()
  )
  if wrong:
    raise ValueError(
      f"table {_CLASSES}: {wrong} image(s) of class {_OPACITY!r} without a box "
      f"in {_TABLE}, or with one and of another class"
    )
  found = []
  for image, of_image in boxes.items():
    values = {"Pneumonia": int(bool(of_image))}
    if classes:
      values["No Finding"] = int(classes[image] == _NORMAL)
    found.append(
      items.Item(
        image_paths=(f"{_FOLDER}/{image}.dcm",),
        split=splits.assign_split(image, FRACTIONS, SEED),
        image_id=image,
        study_id=image,
        patient_id=image,
        view="frontal",
        labels=values,
        boxes=of_image,
      )
    )
  return items.Plan(
    "rsna",
    source_dir,
    found,
    settings={"split_fractions": list(FRACTIONS), "split_seed": SEED},
  )


def _read_boxes(path: Path) -> dict[str, _Boxes]:
  """Returns image -> its boxes, none where the target is 0."""
  rows = labels.read_table(path, ("patientId", *_BOX, "Target"))
  boxes: dict[str, _Boxes] = {}
  for number, row in enumerate(rows, 1):
    image = _parse_image(row, path.name, number)
    target = labels.parse_value(row["Target"], path.name, number, "Target")
    blank = not any(row[column].strip() for column in _BOX)
    if target not in (0, 1) or blank == bool(target):
      raise ValueError(
        f"table {path.name} row {number}: expected Target 1 with a box, or "
        "Target 0 without"
      )
    if image in boxes and not (target and boxes[image]):
      raise ValueError(
        f"table {path.name} row {number}: a second row of an image that has "
        "no box"
      )
    box: _Boxes = ()
    if target:
      x, y, w, h = labels.parse_numbers(row, _BOX, path.name, number)
      if not (w > 0 and h > 0):
        raise ValueError(
          f"table {path.name} row {number}: expected a width and height above 0"
        )
      box = (("Pneumonia", (x, y, x + w, y + h)),)
    boxes[image] = boxes.get(image, ()) + box
  return boxes


def _read_classes(path: Path) -> dict[str, str]:
  """Returns image -> its class; a row a box, so that rows may recur."""
  classes: dict[str, str] = {}
  rows = labels.read_table(path, ("patientId", "class"))
  for number, row in enumerate(rows, 1):
    image = _parse_image(row, path.name, number)
    name = row["class"].strip()
    if name not in _CLASS_NAMES:
      raise ValueError(
        f"table {path.name} row {number} column 'class' is none of the classes"
      )
    if classes.setdefault(image, name) != name:
      raise ValueError(
        f"table {path.name} row {number} gives an image a second class"
      )
  return classes


def _parse_image(row: dict[str, str], table: str, number: int) -> str:
  image = row["patientId"].strip()
  if not _ID.fullmatch(image):
    raise ValueError(
      f"table {table} row {number} column 'patientId' is not of the form "
      "01234567-89ab-cdef-0123-456789abcdef"
    )
  return image
