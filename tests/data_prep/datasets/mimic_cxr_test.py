import csv
import dataclasses

import numpy as np
import pytest

from data_prep import build, convert, labels
from data_prep.datasets import mimic_cxr
from tier_jax.data import records

# (subject, study, dicom, view, split)
IMAGES = [
  ("10000032", "50414267", "a" * 8, "PA", "train"),
  ("10000032", "50414267", "b" * 8, "LATERAL", "train"),
  ("10000033", "50000001", "c" * 8, "AP", "train"),
  ("11000034", "50000002", "d" * 8, "LL", "validate"),
  ("12000035", "50000003", "e" * 8, "", "test"),
]


def dicom_id(letters):
  return "-".join([letters] * 5)


def write_csv(path, header, rows):
  with path.open("w", newline="") as handle:
    csv.writer(handle).writerows([header, *rows])


@pytest.fixture
def raw(tmp_path, write_dicom):
  rng = np.random.default_rng(0)
  metadata, split_rows, label_rows = [], [], {}
  for subject, study, letters, view, split in IMAGES:
    name = dicom_id(letters)
    folder = tmp_path / "files" / f"p{subject[:2]}" / f"p{subject}"
    write_dicom(
      folder / f"s{study}" / f"{name}.dcm",
      rng.integers(0, 4096, (40, 60), np.uint16),
      WindowCenter=2048,
      WindowWidth=4096,
    )
    (folder / f"s{study}.txt").write_text(f" IMPRESSION: Study {study}.")
    metadata.append([name, subject, study, view, 40, 60])
    split_rows.append([name, study, subject, split])
    label_rows[study] = [subject, study] + ["1.0", "0.0", "-1.0"] + [""] * 11
  write_csv(
    tmp_path / "mimic-cxr-2.0.0-metadata.csv",
    ["dicom_id", "subject_id", "study_id", "ViewPosition", "Rows", "Columns"],
    metadata,
  )
  write_csv(
    tmp_path / "mimic-cxr-2.0.0-split.csv",
    ["dicom_id", "study_id", "subject_id", "split"],
    split_rows,
  )
  write_csv(
    tmp_path / "mimic-cxr-2.0.0-chexpert.csv",
    ["subject_id", "study_id", *labels.CHEXPERT_LABELS],
    label_rows.values(),
  )
  return tmp_path


def write_boxes(raw, *letters, box=(15, 10, 30, 20), size=(60, 40), folder="."):
  header = "dicom_id,category_name,label_text,path,x,y,w,h"
  header += ",image_width,image_height,split"
  write_csv(
    raw / folder / "MS_CXR_Local_Alignment_v1.1.0.csv",
    header.split(","),
    [
      [dicom_id(name), "Edema", "text", "path", *box, *size, "test"]
      for name in letters
    ],
  )


def test_plan_keeps_the_official_split(raw):
  plan = mimic_cxr.plan(raw)
  assert [item.split for item in plan.items] == [row[4] for row in IMAGES]
  assert [item.view for item in plan.items] == [
    "frontal",
    "lateral",
    "frontal",
    "lateral",
    "unknown",
  ]
  assert plan.items[0].labels == {
    "Atelectasis": 1,
    "Cardiomegaly": 0,
    "Consolidation": -1,
  }
  # Without its table, patients of MS-CXR are trained on: that is told.
  assert plan.filtered == {"ms_cxr:no_table": 1}
  write_boxes(raw, "e" * 8)
  assert mimic_cxr.plan(raw).filtered == {}


def test_silent_views_are_told_apart_and_counted(raw):
  path = raw / "mimic-cxr-2.0.0-metadata.csv"
  rows = [line.split(",") for line in path.read_text().splitlines()]
  positions = ["ViewPosition", "", "LATERAL", "LAO", "", "AP"]
  meanings = ["ViewCodeSequence_CodeMeaning", "postero-anterior"]
  meanings += ["antero-posterior", "lateral", "", ""]
  write_csv(
    path,
    [*rows[0], meanings[0]],
    [
      [*row[:3], position, *row[4:], meaning]
      for row, position, meaning in zip(
        rows[1:], positions[1:], meanings[1:], strict=True
      )
    ],
  )
  assert [(item.view, *item.notes) for item in mimic_cxr.plan(raw).items] == [
    ("frontal",),
    ("lateral",),
    ("unknown", "view:neither_frontal_nor_lateral"),
    ("unknown", "view:not_stated"),
    ("frontal",),
  ]


def test_jpg_release_has_the_same_plan_and_other_files(raw):
  write_boxes(raw, "a" * 8)
  dicom, jpg = mimic_cxr.plan(raw), mimic_cxr.plan_jpg(raw)
  assert (dicom.name, jpg.name) == ("mimic_cxr", "mimic_cxr_jpg")
  assert jpg.filtered == dicom.filtered
  for of_dicom, of_jpg in zip(dicom.items, jpg.items, strict=True):
    (path,) = of_dicom.image_paths
    expected = (path.removesuffix(".dcm") + ".jpg",)
    assert of_jpg == dataclasses.replace(of_dicom, image_paths=expected)


def test_a_study_labelled_twice_is_an_error(raw):
  path = raw / "mimic-cxr-2.0.0-chexpert.csv"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([*lines, lines[1]]) + "\n")
  with pytest.raises(ValueError, match="row 5 labels a study a second time"):
    mimic_cxr.plan(raw)


def test_build_reads_reports_in_either_place(raw, tmp_path_factory):
  moved = raw / "mimic-cxr-reports" / "files" / "p10" / "p10000033"
  moved.mkdir(parents=True)
  report = raw / "files" / "p10" / "p10000033" / "s50000001.txt"
  report.rename(moved / report.name)
  out = tmp_path_factory.mktemp("out") / "mimic_cxr"
  manifest = build.build(mimic_cxr.plan(raw), out, key=bytes(32))
  assert manifest["splits"]["train"]["records"] == 3
  assert manifest["splits"]["train"]["studies"] == 2
  assert manifest["notes"] == {"view:not_stated": 1}


MOVED = "split:ms_cxr_moved_to_test"


@pytest.mark.parametrize("folder", [".", "ms-cxr"])
def test_ms_cxr_studies_of_train_become_test(raw, folder):
  (raw / folder).mkdir(exist_ok=True)
  write_boxes(raw, "a" * 8, folder=folder)
  plan = mimic_cxr.plan(raw)
  # Both images of the study go, the other patient's stays.
  assert [(item.split, MOVED in item.notes) for item in plan.items] == [
    ("test", True),
    ("test", True),
    ("train", False),
    ("validate", False),
    ("test", False),
  ]
  assert [len(item.boxes) for item in plan.items] == [1, 0, 0, 0, 0]
  assert plan.filtered == {}
  build.check_plan(plan)


@pytest.mark.parametrize(
  ("boxed", "split", "got", "filtered"),
  [
    # Another study of the patient: of train, of validate and of test.
    ("a", "train", ["test", "test"], "split:ms_cxr_patient_in_train"),
    ("a", "validate", ["test", "test"], "split:ms_cxr_patient_in_validate"),
    ("a", "test", ["test", "test", "test"], ""),
    # Who is boxed in both comes together, who is not in train stays.
    ("ac", "validate", ["test", "test", "test"], ""),
    ("c", "validate", ["validate"], "split:ms_cxr_patient_in_train"),
  ],
)
def test_ms_cxr_patients_are_in_one_split(raw, boxed, split, got, filtered):
  path = raw / "mimic-cxr-2.0.0-metadata.csv"
  path.write_text(path.read_text().replace("10000033", "10000032"))
  path = raw / "mimic-cxr-2.0.0-split.csv"
  path.write_text(
    path.read_text().replace("10000033,train", f"10000032,{split}")
  )
  write_boxes(raw, *(letter * 8 for letter in boxed))
  plan = mimic_cxr.plan(raw)
  assert [item.split for item in plan.items[:-2]] == got
  dropped = 3 - len(got)
  assert plan.filtered == ({filtered: dropped} if dropped else {})
  build.check_plan(plan)


def test_two_tables_of_ms_cxr_are_one_too_many(raw):
  for name in ("old", "new"):
    (raw / name).mkdir()
    write_boxes(raw, "a" * 8, folder=name)
  table = next((raw / "old").iterdir())
  table.rename(table.with_name("MS_CXR_Local_Alignment_v1.0.0.csv"))
  with pytest.raises(ValueError, match="2 tables match"):
    mimic_cxr.plan(raw)


def test_boxes_reach_the_records(raw):
  write_boxes(raw, "e" * 8)
  plan = mimic_cxr.plan(raw)
  assert len(plan.items) == 5
  outcome = convert.convert_item(plan.items[4], raw, 20, "voi")
  assert outcome.data is not None
  record = records.decode(outcome.data)
  assert record.boxes == (("Edema", (7.5, 5.0, 22.5, 15.0)),)


def test_image_that_the_split_table_lacks_is_counted(raw):
  path = raw / "mimic-cxr-2.0.0-split.csv"
  path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
  assert mimic_cxr.plan(raw).filtered == {
    "split:not_in_split_table": 1,
    "ms_cxr:no_table": 1,
  }


def test_a_study_that_the_label_table_lacks_is_counted(raw):
  path = raw / "mimic-cxr-2.0.0-chexpert.csv"
  lines = path.read_text().splitlines()
  path.write_text("\n".join([lines[0], *lines[2:]]) + "\n")
  first, second, third, *_ = mimic_cxr.plan(raw).items
  for item in (first, second):
    assert item.labels == {}
    assert item.notes == ("labels:study_not_in_table",)
  assert third.notes == ()


@pytest.mark.parametrize(
  ("table", "old", "new", "message"),
  [
    ("metadata", "dicom_id", "id", "lacks the column.*dicom_id"),
    ("metadata", "10000032", "../etc", "row 1 column 'subject_id'"),
    ("metadata", dicom_id("c" * 8), "x/y", "row 3 column 'dicom_id'"),
    # What a spreadsheet makes of ids, and digits that are not ASCII.
    ("metadata", "10000032", "10000032.0", "row 1 column 'subject_id'"),
    ("metadata", "50000001", "5\u0660000001", "row 3 column 'study_id'"),
    ("split", "validate", "holdout", "row 4 column 'split'"),
    ("chexpert", "-1.0", "-7", "row 1 column 'Consolidation'"),
  ],
)
def test_malformed_tables(raw, table, old, new, message):
  path = raw / f"mimic-cxr-2.0.0-{table}.csv"
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message):
    mimic_cxr.plan(raw)


@pytest.mark.parametrize("table", ["metadata", "split", "chexpert"])
def test_missing_tables(raw, table):
  (raw / f"mimic-cxr-2.0.0-{table}.csv").unlink()
  with pytest.raises(ValueError, match=f"no mimic-cxr-2.0.0-{table}.csv"):
    mimic_cxr.plan(raw)


@pytest.mark.parametrize(
  ("box", "message"),
  [
    ((1, 1, 0, 5), "above 0"),
    (("x", 1, 1, 1), "not all numbers"),
    (("nan", 1, 1, 1), "not all numbers"),
  ],
)
def test_malformed_boxes(raw, box, message):
  write_boxes(raw, "e" * 8, box=box)
  with pytest.raises(ValueError, match=message):
    mimic_cxr.plan(raw)
  write_boxes(raw, "f" * 8)
  with pytest.raises(ValueError, match=r"1 dicom_id\(s\) of the MS-CXR"):
    mimic_cxr.plan(raw)
