import csv
import gzip
import hashlib
import re

import cv2
import pydicom
import pytest

from data_prep.phantom import generate

_MIMIC_LABELS = (
  "Atelectasis,Cardiomegaly,Consolidation,Edema,Enlarged Cardiomediastinum,"
  "Fracture,Lung Lesion,Lung Opacity,No Finding,Pleural Effusion,"
  "Pleural Other,Pneumonia,Pneumothorax,Support Devices"
)
_CHEXPERT_LABELS = (
  "No Finding,Enlarged Cardiomediastinum,Cardiomegaly,Lung Opacity,"
  "Lung Lesion,Edema,Consolidation,Pneumonia,Atelectasis,Pneumothorax,"
  "Pleural Effusion,Pleural Other,Fracture,Support Devices"
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
  folder = tmp_path_factory.mktemp("phantom")
  generate.generate(folder, 20, 3, 1)
  return folder


def _digests(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).digest()
    for path in sorted(folder.rglob("*"))
    if path.is_file()
  }


def _read(path):
  data = path.read_bytes()
  text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
  header, *rows = csv.reader(text.splitlines())
  return header, [dict(zip(header, row, strict=True)) for row in rows]


def _image(path):
  image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
  assert image is not None, path
  return image


def test_bytes_do_not_depend_on_the_workers(tmp_path):
  for workers in (1, 2):
    generate.generate(tmp_path / str(workers), 6, 0, workers)
  one, two = (_digests(tmp_path / str(n)) for n in (1, 2))
  assert one == two
  assert len(one) > 20


def test_another_seed_gives_other_pictures(tmp_path):
  for seed in (0, 1):
    generate.generate(tmp_path / str(seed), 1, seed, 1)
  one, two = (
    {path.name for path in (tmp_path / str(n)).rglob("*.dcm")} for n in (0, 1)
  )
  assert one
  assert not one & two


def test_mimic_tables_name_files_that_are_there(tree):
  root = tree / "mimic_cxr"
  header, rows = _read(root / "mimic-cxr-2.0.0-metadata.csv.gz")
  assert header[:5] == [
    "dicom_id",
    "subject_id",
    "study_id",
    "PerformedProcedureStepDescription",
    "ViewPosition",
  ]
  split_header, split = _read(root / "mimic-cxr-2.0.0-split.csv.gz")
  assert split_header == ["dicom_id", "study_id", "subject_id", "split"]
  assert {row["split"] for row in split} == {"train", "validate", "test"}
  hexes = re.compile(r"([0-9a-f]{8}-){4}[0-9a-f]{8}")
  assert len(rows) == len(split) == len(list(root.rglob("*.dcm")))
  for row in rows:
    assert hexes.fullmatch(row["dicom_id"])
    person = row["subject_id"]
    study = f"files/p{person[:2]}/p{person}/s{row['study_id']}"
    ds = pydicom.dcmread(root / study / f"{row['dicom_id']}.dcm")
    assert (ds.Rows, ds.Columns) == (int(row["Rows"]), int(row["Columns"]))
    assert ds.PatientID == person
    assert str(ds.PatientName).startswith("Phantom^")
    assert "FINAL REPORT" in (root / f"{study}.txt").read_text()
  for labeler in ("chexpert", "negbio"):
    header, rows = _read(root / f"mimic-cxr-2.0.0-{labeler}.csv.gz")
    assert ",".join(header) == f"subject_id,study_id,{_MIMIC_LABELS}"
    values = {row[name] for row in rows for name in header[2:]}
    assert values <= {"1.0", "0.0", "-1.0", ""}
    assert {"1.0", "0.0", ""} <= values


def test_a_patient_has_one_split(tree):
  _, rows = _read(tree / "mimic_cxr" / "mimic-cxr-2.0.0-split.csv.gz")
  splits = {}
  for row in rows:
    assert splits.setdefault(row["subject_id"], row["split"]) == row["split"]


def test_ms_cxr_boxes_lie_in_pictures_kept_out_of_training(tree):
  root = tree / "mimic_cxr"
  _, rows = _read(root / "mimic-cxr-2.0.0-split.csv.gz")
  split = {row["dicom_id"]: row["split"] for row in rows}
  header, boxes = _read(root / "MS_CXR_Local_Alignment_v1.1.0.csv")
  assert ",".join(header) == (
    "dicom_id,category_name,label_text,path,x,y,w,h,image_width,image_height,"
    "split"
  )
  assert boxes
  for row in boxes:
    x, y, w, h, width, height = (int(row[name]) for name in header[4:10])
    assert 0 <= x < x + w <= width
    assert 0 <= y < y + h <= height
    assert split[row["dicom_id"]] != "train"
    report = (root / row["path"]).parent.with_suffix(".txt").read_text()
    assert " ".join(row["label_text"].split()) in " ".join(report.split())


def test_chexpert_layout(tree):
  root = tree / "chexpert"
  header, rows = _read(root / "CheXpert-v1.0" / "valid.csv")
  assert ",".join(header) == (
    f"Path,Sex,Age,Frontal/Lateral,AP/PA,{_CHEXPERT_LABELS}"
  )
  assert rows[0]["Path"] == (
    "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg"
  )
  for row in rows:
    assert _image(root / row["Path"]).dtype == "uint8"
    assert {row[name] for name in header[5:]} <= {"0.0", "1.0"}
  header, rows = _read(root / "groundtruth.csv")
  assert ",".join(header) == f"Study,{_CHEXPERT_LABELS}"
  assert rows[0]["Study"] == "CheXpert-v1.0/test/patient64741/study1"
  for row in rows:
    assert (root / row["Study"] / "view1_frontal.jpg").is_file()
  readers = list((root / "radiologists").glob("*.csv"))
  assert len(readers) == 3
  for path in readers:
    reader_header, read = _read(path)
    assert sorted(reader_header) == sorted(header) != reader_header
    assert reader_header.index("Lung Lesion") < reader_header.index(
      "Lung Opacity"
    )
    assert [row["Study"] for row in read] == [row["Study"] for row in rows]


def test_padchest_layout(tree):
  root = tree / "padchest"
  header, rows = _read(
    root / "PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv"
  )
  assert len(header) == 36
  assert header[:3] == ["", "ImageID", "ImageDir"]
  assert header[-7:] == [
    "Report",
    "MethodLabel",
    "Labels",
    "Localizations",
    "LabelsLocalizationsBySentence",
    "labelCUIS",
    "LocalizationsCUIS",
  ]
  for row in rows:
    path = root / row["ImageDir"] / row["ImageID"]
    image = _image(path)
    assert image.dtype == "uint16"
    assert image.shape == (int(row["Rows_DICOM"]), int(row["Columns_DICOM"]))
    assert row["Projection"] in ("PA", "AP", "AP_horizontal", "L")
    assert row["MethodLabel"] in ("Physician", "RNN_model")


def test_a_contact_sheet_is_there(tree):
  assert _image(tree / "contact_sheet.png").shape == (1200, 1800, 3)


@pytest.mark.parametrize(
  ("arguments", "message"),
  [
    ((0, 0, 1), "num_patients is 0"),
    ((1, -1, 1), "seed is -1"),
    ((1, 0, 0), "num_workers is 0"),
  ],
)
def test_bad_numbers_are_named(tmp_path, arguments, message):
  with pytest.raises(ValueError, match=message):
    generate.generate(tmp_path / "out", *arguments)
  assert not (tmp_path / "out").exists()


def test_finished_trees_are_not_overwritten(tree):
  before = _digests(tree)
  with pytest.raises(ValueError, match="output_dir already holds"):
    generate.generate(tree, 2, 0, 1)
  assert _digests(tree) == before
