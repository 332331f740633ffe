"""NIH ChestX-ray14: PNG images, 14 findings mined from reports, some boxes."""

import collections
import re
from pathlib import Path

from data_prep import items, labels, splits

FINDINGS = (
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Effusion",
  "Emphysema",
  "Fibrosis",
  "Hernia",
  "Infiltration",
  "Mass",
  "Nodule",
  "Pleural_Thickening",
  "Pneumonia",
  "Pneumothorax",
)
NO_FINDING = "No Finding"

# Of train_val_list.txt: train, validate and test.
FRACTIONS = (0.9, 0.1, 0.0)
SEED = 0

_IMAGE = re.compile(r"([0-9]{8})_[0-9]{3}\.png")
_COLUMNS = ("Image Index", "Finding Labels", "Patient ID", "Patient Age")
_COLUMNS += ("Patient Gender", "View Position")
# One heading with commas in its brackets, which reads as four.
_BOX = ("Bbox [x", "y", "w", "h]")
_BOX_SHAPE = (1024, 1024)
_BOX_NAMES = {"Infiltrate": "Infiltration"}
_FOLDERS = ("images", *(f"images_{n:03d}/images" for n in range(1, 13)), ".")


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  The official `test` is kept; a tenth of the official train_val, by the
  patient's hash, becomes `validate`. Each of the 14 findings and "No Finding"
  is 1 if it is listed, else 0. Boxes come with the images they are of, most of
  which are in `test`.

  Args:
    source_dir: holds `Data_Entry_2017*.csv(.gz)`, `train_val_list.txt`,
      `test_list.txt` and the images, in `images/`, in `images_001/images/` to
      `images_012/images/` or directly; perhaps `BBox_List_2017*.csv(.gz)`.

  Raises:
    ValueError: if a table or a list is missing, or a cell is not what it
      should be.
  """
  table = labels.require_table([source_dir], "Data_Entry_2017*.csv")
  listed = _read_lists(source_dir)
  boxes = _read_boxes(source_dir)
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  for number, row in enumerate(labels.read_table(table, _COLUMNS), 1):
    image = row["Image Index"].strip()
    match = _IMAGE.fullmatch(image)
    patient = row["Patient ID"].strip()
    if match is None or not re.fullmatch("[0-9]{1,8}", patient):
      raise ValueError(
        f"table {table.name} row {number}: Image Index or Patient ID is not of "
        "the form 00000001_000.png, 1"
      )
    if int(match[1]) != int(patient):
      raise ValueError(
        f"table {table.name} row {number}: Image Index is of another patient "
        "than Patient ID"
      )
    names = _parse_labels(row["Finding Labels"])
    if not names:
      raise ValueError(
        f"table {table.name} row {number} column 'Finding Labels' is not one "
        f"or more of the 14 findings, or {NO_FINDING} alone"
      )
    split = listed.get(image)
    if split is None:
      filtered["split:in_neither_list"] += 1
      continue
    if split == "train":
      split = splits.assign_split(match[1], FRACTIONS, SEED)
    view = row["View Position"]
    sex, age = row["Patient Gender"], row["Patient Age"]
    image_boxes = boxes.pop(image, ())
    found.append(
      items.Item(
        image_paths=tuple(f"{folder}/{image}" for folder in _FOLDERS),
        split=split,
        image_id=image,
        # Each image is a study: the table knows no other.
        study_id=image,
        patient_id=match[1],
        view=labels.parse_view(view),
        labels={name: int(name in names) for name in (*FINDINGS, NO_FINDING)},
        sex=labels.parse_sex(sex),
        age_band=labels.age_band(age),
        boxes=tuple(image_boxes),
        box_shape=_BOX_SHAPE if image_boxes else None,
        notes=(
          *labels.note_view(view),
          *labels.note_sex(sex),
          *labels.note_age(age),
        ),
      )
    )
  if boxes:
    filtered["boxes:of_no_planned_image"] = sum(map(len, boxes.values()))
  return items.Plan(
    "nih_cxr14",
    source_dir,
    found,
    filtered,
    settings={
      "split": "official; validate: of train_val, by hashed patient",
      "split_fractions": list(FRACTIONS),
      "split_seed": SEED,
    },
  )


def _parse_labels(cell: str) -> frozenset[str]:
  """Returns the labels that a cell lists, none if it is not as it should be."""
  names = frozenset(name.strip() for name in cell.split("|"))
  if names == {NO_FINDING} or names <= set(FINDINGS):
    return names
  return frozenset()


def _read_lists(source_dir: Path) -> dict[str, str]:
  """Returns image -> "train" or "test", as the official lists divide them."""
  listed: dict[str, str] = {}
  for name, split in (
    ("train_val_list.txt", "train"),
    ("test_list.txt", "test"),
  ):
    path = source_dir / name
    if not path.is_file():
      raise ValueError(f"source_dir holds no {name}")
    for image in labels.read_names(path):
      if listed.setdefault(image, split) != split:
        raise ValueError(f"list {name} names an image of the other list")
  return listed


def _read_boxes(
  source_dir: Path,
) -> dict[str, list[tuple[str, tuple[float, float, float, float]]]]:
  path = labels.find_table([source_dir], "BBox_List_2017*.csv")
  if path is None:
    return {}
  boxes = collections.defaultdict(list)
  rows = labels.read_table(path, ("Image Index", "Finding Label", *_BOX))
  for number, row in enumerate(rows, 1):
    name = row["Finding Label"].strip()
    name = _BOX_NAMES.get(name, name)
    if name not in FINDINGS:
      raise ValueError(
        f"table {path.name} row {number} column 'Finding Label' is none of the "
        "14 findings"
      )
    x, y, w, h = labels.parse_numbers(row, _BOX, path.name, number)
    if not (w > 0 and h > 0):
      raise ValueError(
        f"table {path.name} row {number}: expected a width and height above 0"
      )
    boxes[row["Image Index"].strip()].append((name, (x, y, x + w, y + h)))
  return dict(boxes)
