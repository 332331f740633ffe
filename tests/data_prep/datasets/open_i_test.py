import collections
import csv
import gzip
import os
import tarfile
from xml.etree import ElementTree

import pytest
from PIL import Image

from data_prep import build, paths
from data_prep.datasets import open_i

REPORT = """<?xml version="1.0" encoding="utf-8"?>
<eCitation><uId id="CXR{number}"/><Abstract>
  <AbstractText Label="INDICATION">Cough</AbstractText>
  <AbstractText Label="FINDINGS">No  XXXX of
    effusion.</AbstractText>
  <AbstractText Label="IMPRESSION"/>
</Abstract>{images}</eCitation>
"""


def write_report(root, number, *image_ids):
  path = root / "ecgen-radiology" / f"{number}.xml"
  path.parent.mkdir(exist_ok=True)
  images = "".join(f'<parentImage id="{name}"/>' for name in image_ids)
  path.write_text(REPORT.format(number=number, images=images))


@pytest.fixture
def raw(tmp_path, picture, write_dicom):
  write_report(tmp_path, 1, "CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001")
  write_report(tmp_path, 2, "CXR2_IM-0652-1001")
  write_report(tmp_path, 3)
  (tmp_path / "ecgen-radiology" / "4.xml").write_text("<eCitation>")
  (tmp_path / "images").mkdir()
  for name, pixels in (
    ("CXR1_1_IM-0001-3001.png", picture),
    ("2_IM-0652-1001.dcm.png", picture[::-1]),
  ):
    Image.fromarray(pixels).save(tmp_path / "images" / name)
  write_dicom(tmp_path / "dicom" / "CXR1_1_IM-0001-4001.dcm", picture, bits=8)
  (tmp_path / "nlmcxr_dicom_metadata.csv").write_text(
    "imageid,View Position\nCXR1_1_IM-0001-3001,PA\nCXR1_1_IM-0001-4001,LL\n"
  )
  return tmp_path


def test_plan(raw):
  plan = open_i.plan(raw)
  assert [(item.image_id, item.view, *item.notes) for item in plan.items] == [
    ("1_1_IM-0001-3001", "frontal"),
    ("1_1_IM-0001-4001", "lateral"),
    ("2_IM-0652-1001", "unknown", "view:not_stated"),
  ]
  assert plan.items[0].findings == "No XXXX of effusion."
  assert plan.items[0].impression == ""
  assert len({item.split for item in plan.items[:2]}) == 1
  assert plan.filtered == {"report:names_no_image": 1}
  assert plan.rejected == (("4", "report:not_xml"),)


def test_labels_are_what_the_report_is_indexed_by(tmp_path):
  path = tmp_path / "1.xml"
  text = REPORT.format(number=1, images="")
  path.write_text(text)
  assert open_i.read_report(path).labels == {}
  terms = "<major>Mass</major><automatic>Atelectases</automatic>"
  terms += "<automatic>Calcified Granuloma</automatic>"
  terms += "<automatic>hyperinflation</automatic>"
  path.write_text(
    text.replace("</eCitation>", f"<MeSH>{terms}</MeSH></eCitation>")
  )
  found = open_i.read_report(path).labels
  assert found.keys() == open_i.LABELS.keys()
  assert [name for name, value in found.items() if value] == [
    "Atelectasis",
    "Calcified Granuloma",
    "Granuloma",
  ]


def test_every_name_of_an_image_is_found(raw, tmp_path_factory):
  out = tmp_path_factory.mktemp("out") / "open_i"
  manifest = build.build(open_i.plan(raw), out, key=bytes(32))
  assert sum(split["records"] for split in manifest["splits"].values()) == 3
  assert manifest["rejects"] == {"report:not_xml": 1}


def test_a_link_is_followed_at_the_first_level_alone(raw, tmp_path_factory):
  disk = tmp_path_factory.mktemp("disk")
  (raw / "images").rename(disk / "images")
  (raw / "images").symlink_to(disk / "images")
  (disk / "images" / "deeper").symlink_to(disk)
  (disk / "CXR9_IM-0001-1001.png").touch()
  plan = open_i.plan(raw)
  assert plan.filtered == {"report:names_no_image": 1}
  for item in plan.items:
    assert paths.locate(plan.root, item.image_paths) is not None
  (raw / "images").unlink()
  (raw / "dicom" / "images").symlink_to(disk / "images")
  first, second, third = open_i.plan(raw).items
  assert paths.locate(raw, first.image_paths) is None
  assert paths.locate(raw, second.image_paths) is not None
  assert paths.locate(raw, third.image_paths) is None


@pytest.mark.parametrize(
  "name",
  [
    "CXR1_1_IM-0001-3001.PNG",
    "CXR1_1_IM-0001-3001.DCM",
    "CXR1_1_IM-0001-3001.dicom",
    "1_1_IM-0001-3001.dcm.png",
    "1_IM-0001-3001.dcm.png",
    "1_IM-0001-3001.dicom",
  ],
)
def test_spellings_of_a_file(raw, name):
  old = raw / "images" / "CXR1_1_IM-0001-3001.png"
  old.rename(old.with_name(name))
  plan = open_i.plan(raw)
  assert plan.items[0].image_id == "1_1_IM-0001-3001"
  assert plan.items[0].image_paths == (f"images/{name}",)
  assert plan.filtered == {"report:names_no_image": 1}


def test_files_that_nobody_names_are_counted(raw):
  (raw / "images" / "CXR9_IM-0001-1001.png").touch()
  (raw / "ecgen-radiology" / os.fsdecode(b"\xff.xml")).write_text("<a>")
  plan = open_i.plan(raw)
  assert plan.filtered["image:named_by_no_report"] == 1
  assert plan.rejected[-1] == ("?", "report:not_xml")


def test_an_image_with_two_views_is_an_error(raw):
  with (raw / "nlmcxr_dicom_metadata.csv").open("a") as handle:
    handle.write("1_1_IM-0001-3001.dcm,AP\n")
  with pytest.raises(ValueError, match="row 3 repeats an image"):
    open_i.plan(raw)


def test_nothing_there(tmp_path):
  with pytest.raises(ValueError, match="no XML reports"):
    open_i.plan(tmp_path)


def test_real_reports(shared_dir, tmp_path):
  with tarfile.open(
    shared_dir / "iu_openi" / "NLMCXR_reports_subset.tgz"
  ) as archive:
    archive.extractall(tmp_path, filter="data")
  paths = sorted(tmp_path.rglob("*.xml"))
  assert len(paths) == 2655
  counts: collections.Counter[tuple[bool, ...]] = collections.Counter()
  for path in paths:
    sections = open_i.read_report(path).sections
    expected = {
      element.attrib["Label"].lower(): " ".join(element.text.split())
      for element in ElementTree.parse(path).iter("AbstractText")  # noqa: S314
      if element.text and element.text.strip()
    }
    assert sections == expected
    counts["findings" in expected, "impression" in expected] += 1
    # No report has only an indication or a comparison, which are not stored.
    assert {"findings", "impression"} & expected.keys() or not expected
  assert counts == {
    (True, True): 2292,
    (False, True): 339,
    (True, False): 5,
    (False, False): 19,
  }


def test_real_labels(shared_dir, tmp_path):
  archive = shared_dir / "iu_openi" / "NLMCXR_reports_subset.tgz"
  with tarfile.open(archive) as reports:
    reports.extractall(tmp_path, filter="data")
  counts: collections.Counter[str] = collections.Counter()
  for path in tmp_path.rglob("*.xml"):
    found = open_i.read_report(path).labels
    assert len(found) == 18
    counts.update(name for name, value in found.items() if value)
  # Counted with grep over the files.
  assert counts["Cardiomegaly"] == 188
  assert counts["Pneumothorax"] == 14
  assert min(counts.values()) > 2 and len(counts) == 18


def test_real_views(shared_dir, tmp_path):
  name = "nlmcxr_dicom_metadata.csv.gz"
  (tmp_path / name).symlink_to(shared_dir / "iu_openi" / name)
  archive = shared_dir / "iu_openi" / "NLMCXR_reports_subset.tgz"
  with tarfile.open(archive) as reports:
    reports.extractall(tmp_path, filter="data")
  plan = open_i.plan(tmp_path)
  assert plan.rejected == ()
  with gzip.open(shared_dir / "iu_openi" / name, "rt", newline="") as handle:
    stated = {
      row["imageid"].removeprefix("CXR"): row["View Position"]
      for row in csv.DictReader(handle)
    }
  silent = 0
  for item in plan.items:
    word = stated.get(item.image_id, "")
    expected = {"PA": "frontal", "AP": "frontal", "": "unknown"}
    assert item.view == expected.get(word, "lateral")
    assert item.notes == (("view:not_stated",) if word == "" else ())
    silent += word == ""
  assert 0.3 < silent / len(plan.items) < 0.4
