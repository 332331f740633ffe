import csv

import numpy as np
import pytest
from PIL import Image

from data_prep import build
from data_prep.datasets import padchest

HEADER = ["", "ImageID", "ImageDir", "StudyDate_DICOM", "StudyID", "PatientID"]
HEADER += ["PatientBirth", "PatientSex_DICOM", "Projection", "Report"]
HEADER += ["MethodLabel", "Labels"]

# patient, method, projection, labels
ROWS = [
  ("p1", "Physician", "PA", "['Cardiomegaly ', ' pleural  effusion', '']"),
  ("p1", "RNN_model", "L", "['normal']"),
  ("p2", "RNN_model", "AP_horizontal", "['normal']"),
  ("p3", "RNN_model", "EXCLUDE", "['normal']"),
  ("p4", "RNN_model", "PA", ""),
  ("p5", "RNN_model", "PA", "['exclude', 'nodule']"),
  ("p6", "RNN_model", "PA", "['nodule'"),
  ("p7", "RNN_model", "PA", "[]"),
  ("p8", "Guess", "PA", "['nodule']"),
  ("p9", " RNN_Model ", "COSTAL", "['normal']"),
  ("p9", "RNN_model", " exclude", "['normal']"),
  ("p9", "RNN_model", "UNK", "['normal']"),
]


@pytest.fixture
def raw(tmp_path):
  lines = []
  for number, (patient, method, projection, cell) in enumerate(ROWS):
    name = f"{number}_abc.png"
    lines.append([number, name, number % 3, "20171024", f"s{number}", patient])
    lines[-1] += ["1950.0", "F", projection, " corazon normal .", method, cell]
    # Each place that an image may lie in.
    folder = ["", f"{number % 3}", "images", f"images/{number % 3}"][number % 4]
    path = tmp_path / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(number)
    Image.fromarray(rng.integers(0, 65536, (20, 20), np.uint16)).save(path)
  name = "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
  with (tmp_path / name).open("w", newline="") as handle:
    csv.writer(handle).writerows([HEADER, *lines])
  return tmp_path


def test_plan(raw):
  plan = padchest.plan(raw)
  assert [(item.patient_id, item.split) for item in plan.items] == [
    ("p1", "test"),
    ("p2", "train"),
    ("p9", "train"),
    ("p9", "train"),
  ]
  assert plan.items[0].labels == {"cardiomegaly": 1, "pleural effusion": 1}
  assert plan.items[0].findings == "corazon normal ."
  assert (plan.items[0].sex, plan.items[0].age_band) == ("F", "60-69")
  assert [(item.view, *item.notes) for item in plan.items[1:]] == [
    ("frontal",),
    ("unknown", "view:neither_frontal_nor_lateral"),
    ("unknown", "view:not_stated"),
  ]
  assert plan.filtered == {
    "split:patient_also_labelled_by_a_physician": 1,
    "projection:exclude": 2,
    "labels:null": 2,
    "labels:exclude": 1,
    "labels:unparseable": 1,
    "method:unknown": 1,
  }


def test_images_are_found(raw, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "padchest"
  manifest = build.build(padchest.plan(raw), out, key=bytes(32))
  assert manifest["rejects"] == {}
  assert manifest["notes"] == {
    "view:neither_frontal_nor_lateral": 1,
    "view:not_stated": 1,
    "window:absent": 4,
  }


@pytest.mark.parametrize(
  ("cell", "expected"),
  [
    ("['a', ' B ']", ["a", "b"]),
    ("['a', 'a ']", ["a"]),
    ("nan", "labels:null"),
    ("['']", "labels:null"),
    ("a", "labels:unparseable"),
    ("__import__('os').getcwd()", "labels:unparseable"),
    ("[1, 2]", "labels:unparseable"),
    ("('a',)", "labels:unparseable"),
    ("[" * 5000, "labels:unparseable"),
    ("['" + "a" * 20_000 + "']", "labels:unparseable"),
    ("['a\\x41']", "labels:unparseable"),
    ("['a' 'b']", "labels:unparseable"),
    ("['a'] + ['b']", "labels:unparseable"),
    ("['a', ['b']]", "labels:unparseable"),
    ("['a', 'b',]", ["a", "b"]),
    ("[ 'a' ,\t\"koch's bacillus\" ]", ["a", "koch's bacillus"]),
    ("['" + "a'" * 4000, "labels:unparseable"),
    ("['Exclude']", "labels:exclude"),
  ],
)
def test_labels(cell, expected):
  assert padchest.parse_labels(cell) == expected


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("p5", "2.38E+38", "row 6 column 'PatientID' is an id that was rounded"),
    ("6_abc.png", "6\x07.png", "row 7 column 'ImageID' holds control"),
  ],
)
def test_ids_that_are_none(raw, old, new, message):
  (path,) = raw.glob("*.csv")
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message) as error:
    padchest.plan(raw)
  assert "38E" not in str(error.value)


@pytest.mark.parametrize("old", ["2_abc.png", "s2", "p2"])
def test_rows_with_a_blank_id_are_counted(raw, old):
  (path,) = raw.glob("*.csv")
  whole = padchest.plan(raw)
  path.write_text(path.read_text().replace(f",{old},", ", ,"))
  plan = padchest.plan(raw)
  assert plan.filtered == {**whole.filtered, "id:blank": 1}
  assert plan.items == [whole.items[0], *whole.items[2:]]


@pytest.mark.parametrize(
  ("born", "sex", "band", "notes"),
  [
    ("1950", "M", "60-69", ()),
    ("", "", "", ()),
    ("nan", "", "", ()),
    ("1950-01", "F", "", ("age:not_read",)),
    ("2020", "O", "", ("sex:not_read", "age:not_read")),
  ],
)
def test_what_is_said_of_a_person(raw, born, sex, band, notes):
  (path,) = raw.glob("*.csv")
  path.write_text(path.read_text().replace("1950.0,F", f"{born},{sex}"))
  item = padchest.plan(raw).items[1]
  assert (item.age_band, item.notes) == (band, notes)


def test_missing_table(tmp_path):
  with pytest.raises(ValueError, match="holds no PADCHEST"):
    padchest.plan(tmp_path)


def test_real_table(shared_dir):
  plan = padchest.plan(shared_dir / "labels" / "padchest")
  assert len(plan.items) + sum(plan.filtered.values()) == 19_637
  assert plan.filtered["labels:null"] >= 9
  assert "labels:unparseable" not in plan.filtered
  assert not any(item.findings == "nan" for item in plan.items)
  unclear = sum(
    note.startswith("view:") for item in plan.items for note in item.notes
  )
  assert 60 < unclear <= 89  # COSTAL, as SOURCE.md counts them
  test = [item for item in plan.items if item.split == "test"]
  assert 4_500 < len(test) <= 4_726
  patients = {item.patient_id for item in test}
  assert not patients & {
    item.patient_id for item in plan.items if item.split == "train"
  }
  assert all(
    name == name.strip().lower() for item in plan.items for name in item.labels
  )
