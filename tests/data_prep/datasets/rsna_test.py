import collections
import csv
import gzip
import io
import zipfile

import pytest

from data_prep import build
from data_prep.datasets import rsna

A, B, C = (f"{i:08x}-0123-4567-89ab-{i:012x}" for i in range(3))
LABELS = f"""patientId,x,y,width,height,Target
{A},,,,,0
{B},2.0,3.0,10.0,20.5,1
{B},20.0,3.0,10.0,20.0,1
{C},,,,,0
"""
CLASSES = f"""patientId,class
{A},Normal
{B},Lung Opacity
{B},Lung Opacity
{C},No Lung Opacity / Not Normal
"""


@pytest.fixture
def raw(tmp_path):
  (tmp_path / "stage_2_train_labels.csv").write_text(LABELS)
  (tmp_path / "stage_2_detailed_class_info.csv").write_text(CLASSES)
  return tmp_path


def test_plan(raw):
  first, second, third = rsna.plan(raw).items
  assert first.labels == {"Pneumonia": 0, "No Finding": 1}
  assert second.labels == {"Pneumonia": 1, "No Finding": 0}
  assert third.labels == {"Pneumonia": 0, "No Finding": 0}
  assert second.boxes == (
    ("Pneumonia", (2, 3, 12, 23.5)),
    ("Pneumonia", (20, 3, 30, 23)),
  )
  assert first.boxes == third.boxes == ()
  for item, image in zip((first, second, third), (A, B, C), strict=True):
    assert item.image_id == item.study_id == item.patient_id == image
    assert item.view == "frontal"
  (raw / "stage_2_detailed_class_info.csv").unlink()
  assert rsna.plan(raw).items[0].labels == {"Pneumonia": 0}


def test_images_and_boxes_become_records(raw, write_dicom, picture, tmp_path):
  for image in (A, B, C):
    write_dicom(
      raw / "stage_2_train_images" / f"{image}.dcm",
      picture if image == A else picture[:: 1 if image == B else -1, ::-1],
      bits=8,
    )
  manifest = build.build(rsna.plan(raw), tmp_path / "out/rsna", key=bytes(32))
  assert sum(split["records"] for split in manifest["splits"].values()) == 3
  assert manifest["labels"]["Pneumonia"] == {"1": 1, "0": 2, "-1": 0}


@pytest.mark.parametrize(
  ("file", "old", "new", "message"),
  [
    ("labels", A, "../" + A[3:], "row 1 column 'patientId'"),
    ("labels", "2.0,3.0,10.0", "2.0,3.0,-1", "row 2: expected a width"),
    ("labels", "2.0,3.0,10.0", "2.0,3.0,nan", "row 2: .* not all numbers"),
    ("labels", "20.5,1", "20.5,0", "row 2: expected Target 1 with a box"),
    ("labels", ",,,,0", ",,,,1", "row 1: expected Target 1 with a box"),
    ("labels", ",,,,0", ",,,,-1", "row 1: expected Target 1 with a box"),
    ("labels", ",,,,0", ",,,,2", "row 1 column 'Target'"),
    ("labels", C, A, "row 4: a second row of an image that has no box"),
    ("labels", C, B, "row 4: a second row of an image that has no box"),
    ("labels", "Target", "target", "lacks the column"),
    ("class_info", "Normal\n", "normal\n", "row 1 column 'class'"),
    ("class_info", f"{A},Normal", f"{A},Lung Opacity", "1 image.s. of class"),
    ("class_info", C, A, "row 4 gives an image a second class"),
    ("class_info", f"{A},Normal\n", "", r"lists 1 image\(s\) that"),
  ],
)
def test_malformed_tables(raw, file, old, new, message):
  (path,) = raw.glob(f"*{file}.csv")
  path.write_text(path.read_text().replace(old, new))
  with pytest.raises(ValueError, match=message) as error:
    rsna.plan(raw)
  assert A not in str(error.value)


def test_missing_table(raw):
  (raw / "stage_2_train_labels.csv").unlink()
  with pytest.raises(ValueError, match="source_dir holds no stage_2_train"):
    rsna.plan(raw)


def test_real_table(shared_dir, tmp_path):
  archive = shared_dir / "labels/rsna/kaggle_stage_2_train_labels.csv.zip"
  with zipfile.ZipFile(archive) as zipped:
    text = zipped.read("stage_2_train_labels.csv").decode()
  with gzip.open(tmp_path / "stage_2_train_labels.csv.gz", "wt") as handle:
    handle.write(text)
  plan = rsna.plan(tmp_path)
  assert len(plan.items) == 26_684
  rows = list(csv.DictReader(io.StringIO(text)))
  assert sum(len(item.boxes) for item in plan.items) == sum(
    row["Target"] == "1" for row in rows
  )
  shares = collections.Counter(item.split for item in plan.items)
  for split, share in zip(
    ("train", "validate", "test"), rsna.FRACTIONS, strict=True
  ):
    # By hash of 26,684 ids: one standard deviation is 0.003 at most.
    assert shares[split] / 26_684 == pytest.approx(share, abs=0.012)
