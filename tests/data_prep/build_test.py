import dataclasses
import hashlib
import json
import os

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import build, ids, items

KEY = bytes(32)


def make_plan(root, count=13):
  """Images of which every fifth is broken, 2 of 3 in train."""
  rng = np.random.default_rng(3)
  (root / "images").mkdir(parents=True, exist_ok=True)
  found = []
  for number in range(count):
    path = root / "images" / f"{number}.png"
    pixels = rng.integers(0, 256, (30, 20 + number), np.uint8)
    Image.fromarray(pixels).save(path)
    if number % 5 == 4:
      path.write_bytes(path.read_bytes()[:60])
    patient = f"patient{number}"
    found.append(
      items.Item(
        image_paths=(f"images/{number}.png",),
        split="train" if number % 3 else "test",
        image_id=path.name,
        study_id=f"{patient}/study",
        patient_id=patient,
        labels={"Edema": number % 3 - 1},
      )
    )
  return items.Plan("some_set", root, found, {"row:odd": 2})


def read_all(directory):
  return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
  root = tmp_path_factory.mktemp("raw")
  plan = make_plan(root)
  output_dir = tmp_path_factory.mktemp("out") / "some_set"
  manifest = build.build(plan, output_dir, key=KEY, shard_records=4)
  return plan, output_dir, manifest


def test_manifest_counts(built):
  _, output_dir, manifest = built
  assert json.loads((output_dir / "manifest.json").read_text()) == manifest
  # 13 images, of which 4 and 9 are broken; 0, 3, 6, 9, 12 are for testing.
  train, test = manifest["splits"]["train"], manifest["splits"]["test"]
  assert (train["records"], train["patients"], train["studies"]) == (7, 7, 7)
  assert (test["records"], test["patients"], test["studies"]) == (4, 4, 4)
  assert manifest["rejects"] == {"image:does_not_decode": 2}
  assert manifest["filtered"] == {"row:odd": 2}
  assert manifest["labels"] == {"Edema": {"1": 4, "0": 3, "-1": 4}}
  assert manifest["settings"]["id_key"] == ids.fingerprint(KEY)
  for split in (train, test):
    assert len(split["shards"]) == 2
    for name, shard in split["shards"].items():
      data = (output_dir / name).read_bytes()
      assert hashlib.sha256(data).hexdigest() == shard["sha256"]
      assert len(data) == shard["bytes"]


def test_rejects_name_hashed_ids(built):
  plan, output_dir, _ = built
  lines = (output_dir / "rejects.jsonl").read_text().splitlines()
  broken = [item.image_id for item in plan.items if item.image_id[0] in "49"]
  assert {json.loads(line)["image_id"] for line in lines} == {
    ids.hash_id(KEY, "some_set", "image", image_id) for image_id in broken
  }


def test_tfds_opens_it(built):
  plan, output_dir, _ = built
  builder = tfds.builder_from_directory(output_dir)
  by_id = {
    ids.hash_id(KEY, "some_set", "image", item.image_id): item
    for item in plan.items
  }
  for split, count in (("train", 7), ("test", 4)):
    examples = list(builder.as_data_source(split))  # pyright: ignore
    assert len(examples) == count
    for example in examples:
      item = by_id[example["image_id"].decode()]
      with Image.open(plan.root / item.image_paths[0]) as picture:
        np.testing.assert_array_equal(
          example["image"][..., 0], np.asarray(picture)
        )
      assert list(example["label_values"]) == [item.labels["Edema"]]


def test_two_workers_write_the_same_bytes(built, tmp_path):
  plan, output_dir, _ = built
  reversed_plan = dataclasses.replace(plan, items=plan.items[::-1])
  build.build(
    reversed_plan, tmp_path / "b", key=KEY, shard_records=4, num_workers=2
  )
  assert read_all(tmp_path / "b") == read_all(output_dir)
  assert list(tmp_path.iterdir()) == [tmp_path / "b"]


def test_failed_build_leaves_the_old_dataset(built, tmp_path):
  plan, _, _ = built
  output_dir = tmp_path / "out"
  build.build(plan, output_dir, key=KEY)
  before = read_all(output_dir)
  missing = [
    dataclasses.replace(item, image_paths=("images/none.png",))
    for item in plan.items
  ]
  with pytest.raises(ValueError, match=r"none of the 13 .*image:missing"):
    build.build(dataclasses.replace(plan, items=missing), output_dir, key=KEY)
  assert read_all(output_dir) == before
  build.build(plan, output_dir, key=KEY, short_side=8)
  assert read_all(output_dir) != before
  assert list(tmp_path.iterdir()) == [output_dir]


def test_foreign_directory_is_left_alone(built, tmp_path):
  plan, _, _ = built
  (tmp_path / "out").mkdir()
  (tmp_path / "out" / "thesis.txt").write_text("")
  with pytest.raises(ValueError, match="not a prepared dataset"):
    build.build(plan, tmp_path / "out", key=KEY)
  assert os.listdir(tmp_path / "out") == ["thesis.txt"]


@pytest.mark.parametrize(
  ("changes", "message"),
  [
    ({"patient_id": "patient1"}, r"1 patient id\(s\) stand in more than one"),
    ({"study_id": "patient1/study"}, r"1 study id\(s\) stand in more"),
    ({"image_id": "1.png"}, r"1 image id\(s\) stand in more"),
    ({"image_id": "1.png", "split": "train"}, "repeat an image"),
  ],
)
def test_leaks_are_refused_before_work(built, tmp_path, changes, message):
  plan, _, _ = built
  first = dataclasses.replace(plan.items[0], **changes)
  leaky = dataclasses.replace(plan, items=[first, *plan.items[1:]])
  with pytest.raises(ValueError, match=message) as error:
    build.build(leaky, tmp_path / "out", key=KEY)
  assert "patient1" not in str(error.value)
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  "field", ["short_side", "shard_records", "num_workers"]
)
def test_numbers_are_checked(built, tmp_path, field):
  plan, _, _ = built
  with pytest.raises(ValueError, match=f"{field} is 0"):
    build.build(plan, tmp_path / "out", key=KEY, **{field: 0})


def test_same_pixels_in_two_splits_are_noted(built, tmp_path):
  plan, _, _ = built
  train, test = plan.items[1], plan.items[0]
  same = dataclasses.replace(test, image_paths=train.image_paths)
  manifest = build.build(
    dataclasses.replace(plan, items=[train, same]), tmp_path / "a", key=KEY
  )
  assert manifest["notes"] == {"image:same_pixels_in_two_splits": 1}


def test_empty_plan_is_an_error(tmp_path):
  plan = items.Plan("x", tmp_path, [], {"row:odd": 3})
  with pytest.raises(ValueError, match=r"no image to convert.*'row:odd': 3"):
    build.build(plan, tmp_path / "out", key=KEY)
