import collections
import csv
import gzip

import numpy as np
import pytest
from PIL import Image

from data_prep import paths, splits
from data_prep.datasets import nih_cxr14

HEADER = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age"
HEADER += ",Patient Gender,View Position,OriginalImage[Width,Height]"
HEADER += ",OriginalImagePixelSpacing[x,y]"
ROWS = (
  "00000001_000.png,Cardiomegaly,0,1,57,M,PA,2682,2749,0.143,0.143",
  "00000001_001.png,Cardiomegaly|Effusion,1,1,058Y,M,AP,2,3,0.143,0.143",
  "00000002_000.png,No Finding,0,2,414,F,PA,2500,2048,0.171,0.171",
  "00000003_000.png,Infiltration,0,3,91,F,,2500,2048,0.171,0.171",
  "00000004_000.png,Hernia,0,4,81,M,PA,2500,2048,0.171,0.171",
)
# As distributed, and as a package that many use distributes it.
BOXES = {
  "official": "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
  "00000003_000.png,Infiltrate,225.5,547.25,86.5,79,,,\n",
  "without empty cells": "Image Index,Finding Label,Bbox [x,y,w,h],,,\n"
  "00000003_000.png,Infiltrate,225.5,547.25,86.5,79\n",
}


@pytest.fixture
def raw(tmp_path):
  (tmp_path / "Data_Entry_2017_v2020.csv").write_text(
    "\n".join([HEADER, *ROWS, ""])
  )
  (tmp_path / "train_val_list.txt").write_text(
    "00000001_000.png\n00000001_001.png\r\n00000002_000.png"
  )
  (tmp_path / "test_list.txt").write_text("00000003_000.png\n")
  (tmp_path / "BBox_List_2017.csv").write_text(BOXES["official"])
  return tmp_path


def test_plan(raw):
  plan = nih_cxr14.plan(raw)
  first, second, third, fourth = plan.items
  expected = splits.assign_split("00000001", (0.9, 0.1, 0), 0)
  assert first.split == second.split == expected
  assert fourth.split == "test"
  assert first.patient_id == second.patient_id == "00000001"
  assert len(first.labels) == 15
  assert [name for name, value in second.labels.items() if value] == [
    "Cardiomegaly",
    "Effusion",
  ]
  assert sum(third.labels.values()) == third.labels["No Finding"] == 1
  assert [(item.sex, item.age_band) for item in plan.items] == [
    ("M", "50-59"),
    ("M", "50-59"),
    ("F", ""),
    ("F", "90+"),
  ]
  assert [(item.view, *item.notes) for item in plan.items[2:]] == [
    ("frontal", "age:not_read"),
    ("unknown", "view:not_stated"),
  ]
  assert plan.filtered == {"split:in_neither_list": 1}


@pytest.mark.parametrize("form", BOXES)
def test_boxes_are_corners_in_the_image_of_1024(raw, form):
  (raw / "BBox_List_2017.csv").write_text(BOXES[form])
  *others, item = nih_cxr14.plan(raw).items
  assert item.boxes == (("Infiltration", (225.5, 547.25, 312.0, 626.25)),)
  assert item.box_shape == (1024, 1024)
  assert not any(item.boxes or item.box_shape for item in others)
  (raw / "BBox_List_2017.csv").unlink()
  assert nih_cxr14.plan(raw).items[3].boxes == ()


def test_boxes_of_no_planned_image_are_counted(raw):
  path = raw / "BBox_List_2017.csv"
  path.write_text(path.read_text().replace("00000003", "00000004"))
  assert nih_cxr14.plan(raw).filtered["boxes:of_no_planned_image"] == 1


@pytest.mark.parametrize("folder", ["images", "images_012/images", "."])
def test_images_are_found(raw, folder):
  item = nih_cxr14.plan(raw).items[0]
  path = raw / folder / "00000001_000.png"
  path.parent.mkdir(parents=True, exist_ok=True)
  Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
  assert paths.locate(raw, item.image_paths) == path


@pytest.mark.parametrize(
  ("file", "old", "new", "message"),
  [
    ("Data", "00000001_001", "1_001", "row 2: Image Index"),
    ("Data", "00000001_001", "../000001_001", "row 2: Image Index"),
    ("Data", "1,1,058Y", "1,7,058Y", "row 2: .* another patient"),
    ("Data", "Hernia", "Fracture", "row 5 column 'Finding Labels'"),
    ("Data", "|Effusion", "|", "row 2 column 'Finding Labels'"),
    ("Data", "|Effusion", "|No Finding", "row 2 column 'Finding Labels'"),
    ("Data", "Infiltration", "", "row 4 column 'Finding Labels'"),
    ("Data", ",0.143\n", ",0.143,1\n", "row 1 has 12 cells"),
    ("Data", "View Position", "View", "lacks the column"),
    ("BBox", "86.5", "-86.5", "row 1: expected a width"),
    ("BBox", "86.5", "inf", "row 1: .* not all numbers"),
    ("BBox", "86.5", "8_6", "row 1: .* not all numbers"),
    ("BBox", "Infiltrate", "Fracture", "row 1 column 'Finding Label'"),
    ("test", "00000003", "00000001", "names an image of the other list"),
  ],
)
def test_malformed_files(raw, file, old, new, message):
  (path,) = raw.glob(f"{file}*")
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message):
    nih_cxr14.plan(raw)


@pytest.mark.parametrize(
  "name", ["Data_Entry_2017_v2020.csv", "train_val_list.txt", "test_list.txt"]
)
def test_missing_files(raw, name):
  (raw / name).unlink()
  with pytest.raises(ValueError, match="source_dir holds no "):
    nih_cxr14.plan(raw)


def test_real_tables(shared_dir, tmp_path):
  directory = shared_dir / "nih_cxr14"
  for name in ("Data_Entry_2017_v2020.csv.gz", "BBox_List_2017.csv.gz"):
    (tmp_path / name).symlink_to(directory / name)
  # The official lists are not here: these divide by the patient's number.
  with gzip.open(directory / "Data_Entry_2017_v2020.csv.gz", "rt") as handle:
    rows = list(csv.DictReader(handle))
  names = [row["Image Index"] for row in rows]
  for name, held in (("train_val_list.txt", False), ("test_list.txt", True)):
    (tmp_path / name).write_text(
      "".join(f"{n}\n" for n in names if n.startswith("0002") == held)
    )
  plan = nih_cxr14.plan(tmp_path)
  assert len(plan.items) == 112_120
  assert plan.filtered == {}
  counts = collections.Counter(
    label for row in rows for label in row["Finding Labels"].split("|")
  )
  assert counts == {
    name: sum(item.labels[name] for item in plan.items)
    for name in plan.items[0].labels
  }
  assert sum(len(item.boxes) for item in plan.items) == 984
  patients = collections.defaultdict(set)
  for item in plan.items:
    assert item.view == "frontal"
    patients[item.split].add(item.patient_id)
  assert not patients["train"] & patients["validate"]
  share = len(patients["validate"]) / (
    len(patients["train"]) + len(patients["validate"])
  )
  # By hash of some 28,000 patients: one standard deviation is 0.002.
  assert share == pytest.approx(0.1, abs=0.01)
