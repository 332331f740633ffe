import dataclasses

import numpy as np
import pytest
from PIL import Image

from data_prep import convert, items, rejects
from tier_jax.data import records

ITEM = items.Item(
  image_paths=("a/x.png",),
  split="test",
  image_id="i",
  study_id="s",
  patient_id="p",
  labels={"Edema": -1},
)


@pytest.fixture
def root(tmp_path, picture):
  (tmp_path / "a").mkdir()
  Image.fromarray(picture).save(tmp_path / "a" / "x.png")
  return tmp_path


def test_record_holds_what_the_item_says(root, picture):
  (root / "r.txt").write_text("FINDINGS: A.\nIMPRESSION: B.")
  item = dataclasses.replace(
    ITEM,
    report_paths=("none.txt", "r.txt"),
    view="frontal",
    sex="F",
    age_band="60-69",
  )
  outcome = convert.convert_item(item, root, 256)
  assert outcome.data is not None
  record = records.decode(outcome.data)
  np.testing.assert_array_equal(record.image, picture)
  assert (record.findings, record.impression) == ("A.", "B.")
  assert record.labels == {"Edema": -1}
  assert (record.view, record.sex, record.age_band) == (
    "frontal",
    "F",
    "60-69",
  )
  assert (outcome.reason, outcome.notes) == ("", ())


def test_boxes_follow_the_image(root):
  item = dataclasses.replace(
    ITEM, boxes=(("Edema", (12.0, 10.0, 60.0, 30.0)),), box_shape=(40, 48)
  )
  outcome = convert.convert_item(item, root, 20)
  assert outcome.data is not None
  record = records.decode(outcome.data)
  assert record.image.shape == (20, 24)
  # Halved, and cut off at the right edge.
  assert record.boxes == (("Edema", (6.0, 5.0, 24.0, 15.0)),)


@pytest.mark.parametrize(
  ("change", "reason"),
  [
    ({"image_paths": ("a/none.png",)}, "image:missing"),
    ({"image_paths": ("a",)}, "image:missing"),
    ({"image_paths": ("../x.png",)}, "path:outside_source_dir"),
    ({"image_paths": ("/etc/passwd",)}, "path:outside_source_dir"),
    ({"image_paths": ("a/link.png",)}, "path:outside_source_dir"),
    ({"image_paths": ("a/\0",)}, "path:invalid"),
    ({"image_paths": ("a/" + "x" * 5000,)}, "error:OSError"),
    ({"labels": {}}, "record:no_text_and_no_labels"),
    ({"labels": {"Edema": 2}}, "error:ValueError"),
    (
      {"boxes": (("E", (0, 0, 1, 1)),), "box_shape": (9, 9)},
      "boxes:other_image_size",
    ),
    ({"boxes": (("E", (90, 0, 99, 1)),)}, "boxes:outside_the_image"),
  ],
)
def test_reasons(root, tmp_path_factory, change, reason):
  outside = tmp_path_factory.mktemp("outside") / "x.png"
  outside.write_bytes((root / "a" / "x.png").read_bytes())
  (root / "a" / "link.png").symlink_to(outside)
  item = dataclasses.replace(ITEM, **change)
  assert convert.convert_item(item, root, 256) == convert.Outcome(None, reason)


def test_missing_report_is_noted_where_labels_stand_in(root):
  item = dataclasses.replace(ITEM, report_paths=("none.txt",))
  outcome = convert.convert_item(item, root, 256)
  assert outcome.notes == ("report:missing",)
  (root / "none.txt").write_text("Nothing with a heading.")
  outcome = convert.convert_item(item, root, 256)
  assert outcome.notes == ("report:no_findings_or_impression",)


def test_linked_folder_of_the_owner_is_followed(root, tmp_path_factory):
  source = tmp_path_factory.mktemp("source")
  (source / "files").symlink_to(root / "a")
  assert convert.locate(source, ["files/x.png"]) == source / "files/x.png"
  (source / "x.png").symlink_to(root / "a" / "x.png")
  with pytest.raises(rejects.RejectError):
    convert.locate(source, ["x.png"])
