import dataclasses
import json

import numpy as np
import pytest
from array_record.python import array_record_module
from PIL import Image

from data_prep import engine, items, shards, store
from tier_jax.data import records

ITEM = items.Item(
  image_paths=(),
  split="train",
  image_id="",
  study_id="s",
  patient_id="p",
  labels={"Edema": 1},
)


@pytest.fixture
def work(tmp_path):
  """Tasks over 11 images of which one is broken and one is denied."""
  rng = np.random.default_rng(0)
  found = []
  for number in range(11):
    pixels = rng.integers(0, 256, (20, 30), np.uint8)
    path = tmp_path / f"{number}.png"
    Image.fromarray(pixels).save(path)
    found.append(
      dataclasses.replace(
        ITEM,
        image_paths=(path.name,),
        image_id=f"id{number}",
        denied="denied:deny_list" if number == 2 else "",
      )
    )
  (tmp_path / "7.png").write_bytes(b"no picture")
  tasks = [
    shards.Task("train", index, tuple(found[start : start + 4]))
    for index, start in enumerate(range(0, 11, 4))
  ]
  return (
    tasks,
    shards.Settings(tmp_path, 16, "voi"),
    store.Store(tmp_path / "out"),
  )


@pytest.mark.parametrize("num_workers", [1, 3])
def test_every_item_is_stored_or_told(work, num_workers):
  tasks, settings, directory = work
  done = []
  engine.run(tasks, settings, directory, num_workers, done.append)
  assert sum(done) == 11
  results = [shards.read_result(task, settings, directory) for task in tasks]
  stored, rejected = [], {}
  for task, result in zip(tasks, results, strict=True):
    assert result is not None
    path = directory.local_path / task.file_name
    reader = array_record_module.ArrayRecordReader(str(path))
    ids = [records.decode(data).image_id for data in reader.read_all()]
    reader.close()
    assert ids == list(result.images)
    assert result.records == len(ids)
    stored += ids
    rejected |= result.rejects
  assert stored == [f"id{n}" for n in range(11) if n not in (2, 7)]
  assert rejected == {"id7": "image:not_an_image"}


def test_a_result_of_another_task_is_not_taken(work):
  tasks, settings, directory = work
  task = tasks[1]
  assert shards.read_result(task, settings, directory) is None
  shards.make_shard(task, settings, directory)
  assert shards.read_result(task, settings, directory)
  other = dataclasses.replace(
    task, items=(dataclasses.replace(task.items[0], sex="F"), *task.items[1:])
  )
  smaller = dataclasses.replace(settings, short_side=15)
  assert shards.read_result(other, settings, directory) is None
  assert shards.read_result(task, smaller, directory) is None


@pytest.mark.parametrize(
  "damage",
  [
    lambda path: path.with_suffix(".json").write_text('{"half'),
    lambda path: path.with_suffix(".json").write_text("[]"),
    lambda path: path.unlink(),
    lambda path: path.write_bytes(path.read_bytes()[:-1] + b"\1"),
  ],
)
def test_a_damaged_result_is_not_taken(work, damage):
  tasks, settings, directory = work
  shards.make_shard(tasks[0], settings, directory)
  damage(directory.local_path / tasks[0].file_name)
  assert shards.read_result(tasks[0], settings, directory) is None


def test_a_full_disk_stops_the_run_and_keeps_what_is_done(work, monkeypatch):
  tasks, settings, directory = work
  put = store.Store.put

  def full(self, path, name):
    if name == tasks[1].file_name:
      raise OSError(28, "No space left on device")
    put(self, path, name)

  monkeypatch.setattr(store.Store, "put", full)
  with pytest.raises(OSError, match="No space left"):
    engine.run(tasks, settings, directory, 1, lambda count: None)
  assert shards.read_result(tasks[0], settings, directory)
  assert shards.read_result(tasks[1], settings, directory) is None
  assert not list(directory.local_path.glob(".staging-*"))


def test_a_writer_that_fails_is_an_error_of_the_disk(work, monkeypatch):
  tasks, settings, directory = work

  class Writer:
    def __init__(self, *_):
      pass

    def write(self, _):
      raise RuntimeError("No space left; writing /secret/path")

  monkeypatch.setattr(shards.array_record_module, "ArrayRecordWriter", Writer)
  with pytest.raises(OSError, match="is the disk full") as error:
    shards.make_shard(tasks[0], settings, directory)
  assert "secret" not in str(error.value)
  assert directory.names() == []


def test_tasks_travel_as_json(work):
  tasks, settings, _ = work
  item = dataclasses.replace(
    tasks[0].items[0],
    boxes=(("Edema", (1.0, 2.0, 3.0, 4.0)),),
    box_shape=(20, 30),
    masks=(("Edema", "0Pn0", (20, 30)),),
    notes=("view:not_stated",),
  )
  task = dataclasses.replace(tasks[0], items=(item, *tasks[0].items[1:]))
  got = shards.read_task(json.dumps(dataclasses.asdict(task)))
  assert got == task
  assert got.digest(settings) == task.digest(settings)


def test_results_name_no_file(work):
  tasks, settings, directory = work
  shards.make_shard(tasks[1], settings, directory)
  text = directory.read_text(tasks[1].result_name)
  assert json.loads(text)["rejects"] == {"id7": "image:not_an_image"}
  assert ".png" not in text
