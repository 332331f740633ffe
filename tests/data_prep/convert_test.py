import dataclasses

import cv2
import numpy as np
import pytest
from PIL import Image

from data_prep import convert, items, rejects
from tier_jax.data import records

# 0 pixels outside, 960 inside, 960 outside, as COCO writes it.
RUNS = "0Pn0Pn0"
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
  item = dataclasses.replace(
    ITEM,
    findings="A.",
    impression="B.",
    notes=("view:not_stated",),
    view="frontal",
    sex="F",
    age_band="60-69",
  )
  outcome = convert.convert_item(item, root, 256, "voi")
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
  assert (outcome.reason, outcome.notes) == ("", ("view:not_stated",))


def test_boxes_follow_the_image(root):
  item = dataclasses.replace(
    ITEM, boxes=(("Edema", (12.0, 10.0, 60.0, 30.0)),), box_shape=(40, 48)
  )
  outcome = convert.convert_item(item, root, 20, "voi")
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
    ({"masks": (("E", RUNS, (48, 40)),)}, "masks:other_image_size"),
    ({"masks": (("E", "!", (40, 48)),)}, "masks:invalid"),
  ],
)
def test_reasons(root, tmp_path_factory, change, reason):
  outside = tmp_path_factory.mktemp("outside") / "x.png"
  outside.write_bytes((root / "a" / "x.png").read_bytes())
  (root / "a" / "link.png").symlink_to(outside)
  item = dataclasses.replace(ITEM, **change)
  assert convert.convert_item(item, root, 256, "voi") == convert.Outcome(
    None, reason
  )


def test_masks_follow_the_image(root):
  # COCO's runs go down the columns: 960 pixels are the left half of 40 x 48.
  item = dataclasses.replace(ITEM, masks=(("Edema", RUNS, (40, 48)),))
  outcome = convert.convert_item(item, root, 20, "voi")
  assert outcome.data is not None
  ((name, mask),) = records.decode(outcome.data).masks
  assert name == "Edema"
  expected = np.zeros((20, 24), bool)
  expected[:, :12] = True
  np.testing.assert_array_equal(mask, expected)


def test_perceptual_hash_sees_the_picture_not_the_file():
  rng = np.random.default_rng(0)
  coarse = rng.integers(0, 256, (6, 6)).astype(np.uint8)
  image = cv2.resize(coarse, (300, 200), interpolation=cv2.INTER_CUBIC)
  smaller = cv2.resize(image, (150, 100), interpolation=cv2.INTER_AREA)
  darker = (image * 0.8).astype(np.uint8)
  other = cv2.resize(coarse[::-1], (300, 200), interpolation=cv2.INTER_CUBIC)

  def distance(a, b):
    return (convert.perceptual_hash(a) ^ convert.perceptual_hash(b)).bit_count()

  assert distance(image, smaller) <= 2
  assert distance(image, darker) <= 2
  assert distance(image, other) > 10


def test_running_out_of_memory_is_told_apart(root, monkeypatch):
  def read_image(*_):
    try:
      raise MemoryError
    except MemoryError as error:
      raise rejects.RejectError("dicom:pixels") from error

  monkeypatch.setattr("data_prep.images.read_image", read_image)
  outcome = convert.convert_item(ITEM, root, 256, "voi")
  assert outcome.reason == convert.MEMORY_LIMIT
