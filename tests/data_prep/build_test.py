import dataclasses
import hashlib
import json
import os
import sys

import fsspec
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import build, ids, items, shards, splits, verify

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
  assert manifest["near_duplicates"] == 0
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


def same_pixels(plan):
  train, test = plan.items[1], plan.items[0]
  same = dataclasses.replace(test, image_paths=train.image_paths)
  return dataclasses.replace(plan, items=[same, *plan.items[1:]])


def test_same_pixels_in_two_splits_are_an_error_with_a_way_out(built, tmp_path):
  plan = same_pixels(built[0])
  output_dir = tmp_path / "out"
  with pytest.raises(ValueError, match=r"1 image\(s\) have the pixels"):
    build.build(plan, output_dir, key=KEY)
  assert not output_dir.exists()
  denied = splits.read_deny_list(tmp_path / "out.duplicates/deny_list.txt")
  assert denied == {ids.hash_id(KEY, "some_set", "image", "1.png")}
  plan = splits.apply_deny_list(plan, denied, KEY)
  manifest = build.build(plan, output_dir, key=KEY)
  assert manifest["splits"]["train"]["records"] == 6
  assert manifest["filtered"] == {"denied:deny_list": 1, "row:odd": 2}


def test_pictures_that_look_alike_are_told(built, tmp_path):
  plan = built[0]
  train, test = plan.items[1], plan.items[0]
  with Image.open(plan.root / train.image_paths[0]) as picture:
    pixels = np.array(picture)
  pixels[0, 0] ^= 1
  Image.fromarray(pixels).save(plan.root / "images" / "alike.png")
  alike = dataclasses.replace(test, image_paths=("images/alike.png",))
  manifest = build.build(
    dataclasses.replace(plan, items=[train, alike]), tmp_path / "a", key=KEY
  )
  assert manifest["near_duplicates"] == 1
  (pair,) = (tmp_path / "a/near_duplicates.jsonl").read_text().splitlines()
  assert json.loads(pair) == {
    "image_id": ids.hash_id(KEY, "some_set", "image", train.image_id),
    "other_image_id": ids.hash_id(KEY, "some_set", "image", test.image_id),
    "distance": 0,
  }


def test_limit_counts_a_split(built, tmp_path):
  manifest = build.build(built[0], tmp_path / "a", key=KEY, limit=2)
  records = sum(split["records"] for split in manifest["splits"].values())
  assert records + sum(manifest["rejects"].values()) == 4
  assert manifest["settings"]["limit"] == 2


def count_conversions(monkeypatch):
  made = []
  make_shard = shards.make_shard

  def counting(task, *arguments):
    made.append(task.name)
    make_shard(task, *arguments)

  monkeypatch.setattr(shards, "make_shard", counting)
  return made


def test_a_complete_dataset_is_left_as_it_is(built, tmp_path, monkeypatch):
  plan, output_dir, manifest = built
  made = count_conversions(monkeypatch)
  before = read_all(output_dir)
  assert build.build(plan, output_dir, key=KEY, shard_records=4) == manifest
  assert read_all(output_dir) == before
  assert not made
  build.build(plan, tmp_path / "other", key=KEY, shard_records=4)
  assert made == ["train-00000", "train-00001", "test-00000", "test-00001"]


# What stops a build, and how many of its four shards are then made again.
STOPS = [
  ("engine.run", 4),
  ("duplicates.find_near", 0),
  ("store.Store.rename", 0),
  ("manifest.write_tfds_metadata", 0),
  ("store.Store.move_to", 0),
]


@pytest.mark.parametrize(("where", "again"), STOPS)
def test_a_stopped_build_goes_on(built, tmp_path, monkeypatch, where, again):
  plan, output_dir, manifest = built
  arguments = {"key": KEY, "shard_records": 4}

  def stop(*_, **__):
    raise KeyboardInterrupt

  with monkeypatch.context() as patch:
    patch.setattr(f"data_prep.{where}", stop)
    with pytest.raises(KeyboardInterrupt):
      build.build(plan, tmp_path / "out", **arguments)
  assert not (tmp_path / "out").exists()
  made = count_conversions(monkeypatch)
  assert build.build(plan, tmp_path / "out", **arguments) == manifest
  assert len(made) == again
  assert read_all(tmp_path / "out") == read_all(output_dir)
  assert os.listdir(tmp_path) == ["out"]


def test_an_image_that_came_late_is_taken(built, tmp_path):
  plan = built[0]
  late = dataclasses.replace(plan.items[1], image_paths=("images/late.png",))
  plan = dataclasses.replace(plan, items=[*plan.items[2:], late])
  manifest = build.build(plan, tmp_path / "out", key=KEY)
  assert manifest["rejects"]["image:missing"] == 1
  before = read_all(tmp_path / "out")
  assert build.build(plan, tmp_path / "out", key=KEY) == manifest
  assert read_all(tmp_path / "out") == before
  path = plan.root / "images" / "late.png"
  Image.fromarray(np.arange(900, dtype=np.uint8).reshape(30, 30)).save(path)
  manifest = build.build(plan, tmp_path / "out", key=KEY)
  assert "image:missing" not in manifest["rejects"]
  path.unlink()


def test_a_source_that_vanishes_is_no_set_of_missing_images(
  tmp_path, monkeypatch
):
  plan = make_plan(tmp_path / "raw")
  make_shard = shards.make_shard

  def vanish(*arguments):
    (tmp_path / "raw").rename(tmp_path / "gone")
    make_shard(*arguments)

  with monkeypatch.context() as patch:
    patch.setattr(shards, "make_shard", vanish)
    with pytest.raises(FileNotFoundError, match="source directory is gone"):
      build.build(plan, tmp_path / "out", key=KEY, shard_records=100)
  (tmp_path / "gone").rename(tmp_path / "raw")
  manifest = build.build(plan, tmp_path / "out", key=KEY, shard_records=100)
  assert "image:missing" not in manifest["rejects"]


def test_only_what_changed_is_made_again(built, tmp_path, monkeypatch):
  plan = built[0]
  with monkeypatch.context() as patch:
    patch.setattr("data_prep.store.Store.move_to", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      build.build(plan, tmp_path / "out", key=KEY, shard_records=4)
  part = tmp_path / ".out.part"
  shard = next(part.glob("*-test.array_record-00001*"))
  shard.write_bytes(shard.read_bytes()[:-1])
  other = [
    dataclasses.replace(item, sex="F" if item.image_id == "1.png" else "")
    for item in plan.items
  ]
  made = count_conversions(monkeypatch)
  build.build(
    dataclasses.replace(plan, items=other),
    tmp_path / "out",
    key=KEY,
    shard_records=4,
  )
  assert len(made) == 2
  assert made[1] == "test-00001"


def test_a_shard_that_is_gone_is_made_again(built, tmp_path):
  plan = built[0]
  manifest = build.build(plan, tmp_path / "out", key=KEY)
  before = read_all(tmp_path / "out")
  next((tmp_path / "out").glob("*array_record*")).unlink()
  assert build.build(plan, tmp_path / "out", key=KEY) == manifest
  assert read_all(tmp_path / "out") == before


def test_nothing_is_left_of_a_shard_that_lost_its_records(built, tmp_path):
  plan = same_pixels(built[0])
  arguments = {"key": KEY, "shard_records": 1}
  with pytest.raises(ValueError, match="1 image"):
    build.build(plan, tmp_path / "a", **arguments)
  deny_list = tmp_path / "a.duplicates/deny_list.txt"
  plan = splits.apply_deny_list(plan, splits.read_deny_list(deny_list), KEY)
  build.build(plan, tmp_path / "a", **arguments)
  build.build(plan, tmp_path / "b", **arguments)
  assert read_all(tmp_path / "a") == read_all(tmp_path / "b")
  assert verify.verify(tmp_path / "a") == []


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"key": bytes([1]) * 32}, "holds ids of another key"),
    ({"limit": 1}, "holds the whole dataset, which limit 1 would replace"),
  ],
)
def test_a_whole_dataset_is_not_replaced_unawares(built, change, message):
  plan, output_dir, _ = built
  before = read_all(output_dir)
  with pytest.raises(ValueError, match=message):
    build.build(plan, output_dir, **({"key": KEY} | change))
  assert read_all(output_dir) == before


def test_what_a_power_cut_left_is_no_obstacle(built, tmp_path):
  plan, output_dir, manifest = built
  part = tmp_path / ".out.part"
  part.mkdir()
  for name in ("begun.json", "train-00000.json", "train-00000.shard"):
    (part / name).write_text("")
  (tmp_path / ".out.old").mkdir()
  got = build.build(plan, tmp_path / "out", key=KEY, shard_records=4)
  assert got == manifest
  assert read_all(tmp_path / "out") == read_all(output_dir)
  (tmp_path / ".out.old").mkdir()
  build.build(plan, tmp_path / "out", key=KEY, shard_records=4)
  assert os.listdir(tmp_path) == ["out"]


def test_beam_that_is_not_there_is_said_at_once(built, tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "data_prep.beam_engine", None)
  with pytest.raises(ValueError, match="needs the extra `beam`"):
    build.build(built[0], tmp_path / "out", key=KEY, runner="DirectRunner")
  assert not list(tmp_path.iterdir())


def test_one_run_at_a_time(built, tmp_path, monkeypatch):
  plan = built[0]

  def second_run(*_, **__):
    with pytest.raises(ValueError, match="another run is writing"):
      build.build(plan, tmp_path / "out", key=KEY)
    raise KeyboardInterrupt

  monkeypatch.setattr("data_prep.engine.run", second_run)
  with pytest.raises(KeyboardInterrupt):
    build.build(plan, tmp_path / "out", key=KEY)


def test_output_at_a_url(built, monkeypatch):
  plan, output_dir, manifest = built
  memory = fsspec.filesystem("memory")
  memory.store.clear()
  url = "memory://bucket/sets/some_set"
  with monkeypatch.context() as patch:
    patch.setattr("data_prep.manifest.write_tfds_metadata", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
      build.build(plan, url, key=KEY, shard_records=4)
  assert not memory.exists("/bucket/sets/some_set/manifest.json")
  made = count_conversions(monkeypatch)
  assert build.build(plan, url, key=KEY, shard_records=4) == manifest
  assert not made
  written = {
    path.rpartition("/")[2]: memory.cat_file(path)
    for path in memory.find("/bucket")
  }
  assert written == read_all(output_dir)
  assert verify.verify(url) == []
  with pytest.raises(ValueError, match="holds another dataset; remove it"):
    build.build(plan, url, key=KEY)


def test_empty_plan_is_an_error(tmp_path):
  plan = items.Plan("x", tmp_path, [], {"row:odd": 3})
  with pytest.raises(ValueError, match=r"no image to convert.*'row:odd': 3"):
    build.build(plan, tmp_path / "out", key=KEY)
