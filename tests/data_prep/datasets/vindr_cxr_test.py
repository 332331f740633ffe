import collections
import csv
import gzip

import numpy as np
import pytest

from data_prep import paths
from data_prep.datasets import vindr_cxr

A, B, C, D = (letter * 32 for letter in "abcd")
# In an order of their own, and with train's plural.
COLUMNS = {
  "train": ["Other diseases", *vindr_cxr.LABELS],
  "test": list(vindr_cxr.LABELS[::-1]),
}
COLUMNS["train"].remove("Other disease")


def write_labels(root, split, rows, columns=None):
  """Writes rows of (image, reader, names of what is there)."""
  columns = columns or COLUMNS[split]
  reader = ["rad_id"] if split == "train" else []
  path = root / "annotations" / f"image_labels_{split}.csv"
  path.parent.mkdir(exist_ok=True)
  with path.open("w", newline="") as handle:
    writer = csv.writer(handle)
    writer.writerow(["image_id", *reader, *columns])
    for image, name, present in rows:
      values = [int(column in present) for column in columns]
      writer.writerow([image, *([name] if reader else []), *values])


def write_boxes(root, split, rows):
  path = root / "annotations" / f"annotations_{split}.csv"
  path.parent.mkdir(exist_ok=True)
  header = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max"
  path.write_text("\n".join([header, *rows, ""]))


@pytest.fixture
def raw(tmp_path):
  write_labels(
    tmp_path,
    "train",
    [
      (A, "R1", ["Edema", "Other diseases"]),
      (A, "R2", ["Edema", "COPD", "Other diseases"]),
      (A, "R3", ["Edema"]),
      *((B, f"R{n}", ["No finding"]) for n in (1, 2, 3)),
    ],
  )
  write_boxes(
    tmp_path,
    "train",
    [
      f"{A},R1,Edema,10,20.5,110,220",
      f"{A},R2,Edema,12,21,109,221",
      f"{B},R1,No finding,,,,",
    ],
  )
  write_labels(
    tmp_path, "test", [(C, "", ["COPD"]), (D, "", ["Other disease"])]
  )
  write_boxes(tmp_path, "test", [f"{C},,Lung cyst,1,2,3,4"])
  return tmp_path


def test_plan(raw):
  plan = vindr_cxr.plan(raw)
  assert [(item.image_id, item.split) for item in plan.items] == [
    (A, "train"),
    (B, "train"),
    (C, "test"),
    (D, "test"),
  ]
  # Three say edema, two another disease and one COPD.
  expected = dict.fromkeys(vindr_cxr.LABELS, 0)
  assert plan.items[0].labels == expected | {
    "Edema": 1,
    "Other disease": 1,
    "COPD": -1,
  }
  assert plan.items[1].labels == expected | {"No finding": 1}
  assert plan.items[2].labels == expected | {"COPD": 1}
  assert plan.items[3].labels == expected | {"Other disease": 1}
  # Each reader's box stays.
  assert plan.items[0].boxes == (
    ("Edema", (10, 20.5, 110, 220)),
    ("Edema", (12, 21, 109, 221)),
  )
  assert plan.items[2].boxes == (("Lung cyst", (1, 2, 3, 4)),)
  assert plan.items[1].boxes == plan.items[3].boxes == ()
  for item in plan.items:
    assert item.patient_id == item.study_id == item.image_id
    assert (item.view, item.notes) == ("frontal", ())
  assert plan.filtered == {}


@pytest.mark.parametrize(
  ("values", "value"),
  [
    ([1], 1),
    ([0], 0),
    ([1, 1, 0], 1),
    ([1, 0, 0], -1),
    ([0, 0, 0], 0),
    ([1, 0], -1),
    ([1, 1, 1, 0, 0], 1),
    ([0, -1, 0], -1),
  ],
)
def test_readers_agree_by_majority(values, value):
  assert vindr_cxr.agree(values) == value


@pytest.mark.parametrize("suffix", [".dicom", ".dcm"])
def test_images_are_found(raw, suffix):
  path = raw / "test" / f"{C}{suffix}"
  path.parent.mkdir()
  path.touch()
  assert paths.locate(raw, vindr_cxr.plan(raw).items[2].image_paths) == path


def test_boxes_of_images_without_labels_are_counted(raw):
  write_boxes(raw, "test", [f"{A},,Lung cyst,1,2,3,4"])
  assert vindr_cxr.plan(raw).filtered == {"boxes:of_an_image_without_labels": 1}


@pytest.mark.parametrize(
  ("file", "old", "new", "message"),
  [
    ("image_labels_train", A, "../" + A[3:], "row 1 column 'image_id'"),
    ("image_labels_train", A, A.upper(), "row 1 column 'image_id'"),
    ("image_labels_train", "R3", "R2", "row 3 repeats a reader of an image"),
    ("image_labels_test", f"{C},0", f"{C},2", "row 1 column 'No finding'"),
    ("image_labels_test", "Lung cyst", "cyst", r"lacks the .*'Lung cyst'"),
    ("annotations_train", "110", "9", "row 1: expected x_min < x_max"),
    ("annotations_train", "110", "", "row 1: .* not all numbers"),
    ("annotations_train", "110", "1e999", "row 1: .* not all numbers"),
    ("annotations_test", "Lung cyst", "Cyst", "row 1 column 'class_name'"),
  ],
)
def test_malformed_tables(raw, file, old, new, message):
  path = raw / "annotations" / f"{file}.csv"
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message) as error:
    vindr_cxr.plan(raw)
  assert path.name in str(error.value)
  assert A not in str(error.value)


def test_missing_tables(raw):
  (raw / "annotations" / "annotations_test.csv").unlink()
  with pytest.raises(ValueError, match="holds no annotations_test.csv"):
    vindr_cxr.plan(raw)
  for path in (raw / "annotations").iterdir():
    path.unlink()
  with pytest.raises(ValueError, match="source_dir holds no VinDr-CXR"):
    vindr_cxr.plan(raw)


def test_real_table_of_the_challenge(shared_dir, tmp_path):
  source = shared_dir / "labels" / "vinbigdata" / "vinbigdata-train.csv.gz"
  (tmp_path / "train.csv.gz").symlink_to(source)
  plan = vindr_cxr.plan(tmp_path)
  assert len(plan.items) == 15_000
  assert {item.split for item in plan.items} == {"train"}
  with gzip.open(source, "rt", newline="") as handle:
    rows = list(csv.DictReader(handle))
  # An array of readers by labels for each image, of what they marked.
  names = sorted({row["class_name"] for row in rows})
  readers = collections.defaultdict(dict)
  for row in rows:
    marked = readers[row["image_id"]].setdefault(
      row["rad_id"], np.zeros(len(names), bool)
    )
    marked[names.index(row["class_name"])] = True
  for item in plan.items:
    votes = np.sum(list(readers[item.image_id].values()), 0)
    values = np.select([votes == 0, votes >= 2], [0, 1], -1)
    assert item.labels == dict(zip(names, values.tolist(), strict=True))
  boxes = [row for row in rows if row["x_min"]]
  assert len(boxes) == sum(len(item.boxes) for item in plan.items) == 36_096
  assert sum(item.labels["No finding"] for item in plan.items) == 10_606
