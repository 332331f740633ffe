"""The input path: determinism, sharding, resuming, refusals."""

import json
import logging as std_logging

import jax
import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore

from tier_jax import prefetch, sharding
from tier_jax.data import (
  loader,
  pair_source,
  records,
  shards,
  tokenizer,
  transforms,
)


def write_dataset(
  directory, texts, split="train", shards=2, findings="", size=(40, 50)
):
  """Writes records with the given impressions, and a manifest.

  Each two records are of one study.
  """
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / "manifest.json"
  manifest = json.loads(path.read_text()) if path.exists() else {"splits": {}}
  names = {}
  rng = np.random.default_rng(0)
  parts = np.array_split(np.arange(len(texts)), shards)
  for i, part in enumerate(parts):
    name = f"x-{split}.array_record-{i:05d}-of-{shards:05d}"
    writer = array_record_module.ArrayRecordWriter(
      str(directory / name), "group_size:1,uncompressed"
    )
    for j in part:
      image = rng.integers(0, 255, size).astype(np.uint8)
      record = records.Record(
        image=image,
        image_id=f"i{j}",
        study_id=f"s{j // 2}",
        patient_id=f"p{j // 2}",
        view="frontal",
        impression=texts[j],
        findings=findings,
      )
      writer.write(records.encode(record))
    writer.close()
    names[name] = {"records": len(part)}
  manifest["splits"][split] = {"records": len(texts), "shards": names}
  path.write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  write_dataset(root / "a", [f"Nodule {i}. Clear." for i in range(9)])
  write_dataset(root / "b", ["", "Edema.", "", "No edema.", "Effusion."])
  return pair_source.DataConfig(
    data_dir=str(root),
    datasets=("a", "b"),
    max_length=12,
    sentence_probability=0.5,
    num_threads=2,
  )


def iterator(
  config,
  *,
  seed=0,
  index=0,
  count=1,
  batch_size=4,
  image_size=16,
  second_view=False,
):
  return loader.train_iterator(
    pair_source.PairSource(config, "train"),
    config,
    transforms.AugmentConfig(),
    tokenizer.Tokenizer.from_name("bundled", config.max_length),
    image_size=image_size,
    batch_size=batch_size,
    seed=seed,
    second_view=second_view,
    process_index=index,
    process_count=count,
  )


def take(it, count):
  return [next(it) for _ in range(count)]


def assert_same(left, right):
  for a, b in zip(left, right, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])


def test_records_without_a_text_are_left_out(config, monkeypatch):
  monkeypatch.setattr(pair_source, "_SCAN_CHUNK", 2)
  source = pair_source.PairSource(config, "train")
  assert len(source) == 9 + 3
  texts = [records.decode(source[i]).impression for i in range(9, 12)]
  assert texts == ["Edema.", "No edema.", "Effusion."]


def test_splits_are_those_with_records(tmp_path):
  assert shards.splits(tmp_path / "nothing") == ()
  write_dataset(tmp_path, ["Clear."], "test", shards=1)
  write_dataset(tmp_path, [], "train", shards=1)
  assert shards.splits(tmp_path) == ("test",)
  (tmp_path / "manifest.json").unlink()
  with pytest.raises(ValueError, match=r"holds no manifest\.json"):
    shards.splits(tmp_path)


def test_batches_have_the_promised_form(config):
  batch = next(iterator(config))
  assert batch["image"].shape == (4, 16, 16)
  assert batch["image"].dtype == np.uint8
  assert batch["input_ids"].shape == (4, 12)
  assert batch["attention_mask"].dtype == np.int32
  assert batch["token_mask"].dtype == bool
  for name in ("study_hash", "text_hash"):
    assert batch[name].shape == (4, 2)
    assert batch[name].dtype == np.uint32
  assert batch["record"].shape == (4,)
  assert batch["record"].dtype == np.int32
  assert "second_image" not in batch


def test_the_seed_alone_fixes_the_batches(config):
  assert_same(take(iterator(config), 8), take(iterator(config), 8))
  other = take(iterator(config, seed=1), 1)[0]
  assert not np.array_equal(other["image"], next(iterator(config))["image"])


def test_epochs_differ_in_order_and_augmentation(config):
  batches = take(iterator(config), 6)
  first = np.concatenate([b["image"] for b in batches[:3]])
  second = np.concatenate([b["image"] for b in batches[3:]])
  assert not any(np.array_equal(a, b) for a in first for b in second)


def test_resumes_exactly_across_an_epoch(config):
  whole = take(iterator(config), 7)
  first = iterator(config)
  take(first, 2)
  state = json.loads(json.dumps(first.get_state()))
  second = iterator(config)
  second.set_state(state)
  assert_same(take(second, 5), whole[2:])


def test_two_processes_share_the_batch_of_one(config):
  whole = take(iterator(config), 4)
  halves = [take(iterator(config, index=i, count=2), 4) for i in (0, 1)]
  for batch, left, right in zip(whole, *halves, strict=True):
    for name in batch:
      both = np.concatenate([left[name], right[name]])
      np.testing.assert_array_equal(both, batch[name])


def test_eval_batches_are_in_order_and_unaugmented(config):
  source = pair_source.PairSource(config, "train")
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.max_length)
  batches = list(
    loader.eval_batches(source, config, tokenize, image_size=16, batch_size=5)
  )
  assert len(batches) == 2  # 12 records: the last two fill no batch
  want = transforms.eval_image(records.decode(source[6]).image, 16)
  np.testing.assert_array_equal(batches[1]["image"][1], want)


def groups(hashes):
  """The places of equal rows, as a set of sets."""
  rows = [row.tobytes() for row in hashes]
  return {
    frozenset(i for i, other in enumerate(rows) if other == row) for row in rows
  }


def test_hashes_tell_studies_and_texts_apart(tmp_path):
  texts = ["Edema.", "Mass.", "1. edema", "Clear.", "EDEMA", "Mass 2."]
  write_dataset(tmp_path / "a", texts)
  config = pair_source.DataConfig(
    data_dir=str(tmp_path), datasets=("a",), max_length=12, num_threads=1
  )
  tokenize = tokenizer.Tokenizer.from_name("bundled", 12)
  source = pair_source.PairSource(config, "train")
  (batch,) = loader.eval_batches(
    source, config, tokenize, image_size=16, batch_size=6
  )
  assert groups(batch["study_hash"]) == {
    frozenset(pair) for pair in ((0, 1), (2, 3), (4, 5))
  }
  assert groups(batch["text_hash"]) == {
    frozenset(same) for same in ((0, 2, 4), (1,), (3,), (5,))
  }
  # Training gives the same hashes, of the same texts.
  shuffled = next(iterator(config, batch_size=6))
  for name in ("study_hash", "text_hash"):
    assert sorted(map(tuple, shuffled[name])) == sorted(map(tuple, batch[name]))
    assert shuffled[name].dtype == batch[name].dtype == np.uint32


def test_the_text_hash_is_of_the_sampled_sentences(tmp_path):
  write_dataset(tmp_path / "a", ["One. Two. Three."] * 8)
  config = pair_source.DataConfig(
    data_dir=str(tmp_path),
    datasets=("a",),
    max_length=12,
    sentence_probability=1.0,
    num_threads=1,
  )
  batch = next(iterator(config, batch_size=8))
  assert groups(batch["text_hash"]) == groups(batch["input_ids"])
  assert 1 < len(groups(batch["text_hash"])) < 8


def test_a_second_view_changes_nothing_else(config):
  plain = take(iterator(config), 3)
  batches = take(iterator(config, second_view=True), 3)
  seconds = [batch.pop("second_image") for batch in batches]
  assert_same(batches, plain)
  for batch, second in zip(batches, seconds, strict=True):
    assert second.shape == batch["image"].shape
    assert second.dtype == np.uint8
    for one, other in zip(batch["image"], second, strict=True):
      assert not np.array_equal(one, other)
  again = [
    b["second_image"] for b in take(iterator(config, second_view=True), 3)
  ]
  np.testing.assert_array_equal(seconds, again)


@pytest.mark.parametrize("choice", ["first", "random", "both"])
def test_sections_are_chosen_as_the_config_says(tmp_path, choice):
  write_dataset(tmp_path / "a", ["Edema."] * 16, findings="Clear lungs.")
  config = pair_source.DataConfig(
    data_dir=str(tmp_path),
    datasets=("a",),
    max_length=12,
    section_choice=choice,
    num_threads=1,
  )
  tokenize = tokenizer.Tokenizer.from_name("bundled", 12)
  ids = {
    name: tuple(tokenize([text])["input_ids"][0])
    for name, text in {
      "impression": "Edema.",
      "findings": "Clear lungs.",
      "both": "Edema. Clear lungs.",
    }.items()
  }
  want = {
    "first": {ids["impression"]},
    "random": {ids["impression"], ids["findings"]},
    "both": {ids["both"]},
  }[choice]
  batches = take(iterator(config, batch_size=16), 2)
  assert {tuple(row) for b in batches for row in b["input_ids"]} == want
  assert_same(take(iterator(config, batch_size=16), 2), batches)
  (batch,) = loader.eval_batches(
    pair_source.PairSource(config, "train"),
    config,
    tokenize,
    image_size=16,
    batch_size=16,
  )
  assert {tuple(row) for row in batch["input_ids"]} == {
    ids["both" if choice == "both" else "impression"]
  }


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"data_dir": ""}, "data.data_dir is empty"),
    ({"datasets": ()}, "data.datasets is empty"),
    ({"sections": ("history",)}, "data.sections has 'history'"),
    ({"sentence_probability": 1.5}, "data.sentence_probability is 1.5"),
    ({"section_choice": "all"}, "data.section_choice is 'all', expected one"),
    ({"num_threads": 0}, "data.num_threads 0"),
    ({"max_corrupt": -1}, "data.max_corrupt is -1, expected >= 0"),
  ],
)
def test_bad_config(change, words):
  with pytest.raises(ValueError, match=words):
    pair_source.DataConfig(**{"data_dir": "data", **change})


def test_one_dataset_with_a_validate_split_is_enough(tmp_path):
  write_dataset(tmp_path / "a", ["Edema."] * 3)
  write_dataset(tmp_path / "b", ["Nodule."] * 3)
  config = pair_source.DataConfig(data_dir=str(tmp_path), datasets=("a", "b"))
  with pytest.raises(ValueError, match="no records in split 'validate'"):
    pair_source.PairSource(config, "validate")
  write_dataset(tmp_path / "b", ["Clear."] * 2, split="validate")
  assert len(pair_source.PairSource(config, "validate")) == 2
  assert len(pair_source.PairSource(config, "train")) == 6


def test_bad_directories_are_named(config, tmp_path):
  with pytest.raises(ValueError, match=r"nowhere holds no manifest.json"):
    shards.open_split(tmp_path / "nowhere", "train")
  with pytest.raises(ValueError, match=r"no records in split 'test'.*train"):
    shards.open_split(f"{config.data_dir}/a", "test")
  write_dataset(tmp_path / "c", ["x"] * 3)
  next((tmp_path / "c").glob("*.array_record*")).unlink()
  with pytest.raises(ValueError, match="lacks shard x-train"):
    shards.open_split(tmp_path / "c", "train")
  write_dataset(tmp_path / "d", [""] * 3)
  nothing = pair_source.DataConfig(data_dir=str(tmp_path), datasets=("d",))
  with pytest.raises(ValueError, match="no train record"):
    pair_source.PairSource(nothing, "train")


def test_bad_batch_sizes_are_named(config):
  with pytest.raises(ValueError, match="batch_size 5 is not a multiple of"):
    iterator(config, batch_size=5, count=2)
  with pytest.raises(ValueError, match="batch_size 13 exceeds the 12"):
    iterator(config, batch_size=13)


def test_each_pair_says_which_record_it_is(config):
  source = pair_source.PairSource(config, "train")
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.max_length)
  batches = take(iterator(config), 3)
  seen = np.concatenate([batch["record"] for batch in batches])
  assert sorted(seen) == list(range(12))  # once an epoch
  for batch in batches:
    for index, study in zip(batch["record"], batch["study_hash"], strict=True):
      want = loader._hash(records.decode(source[index]).study_id)
      np.testing.assert_array_equal(study, want)
  (first, second) = loader.eval_batches(
    source, config, tokenize, image_size=16, batch_size=5
  )
  np.testing.assert_array_equal(
    np.concatenate([first["record"], second["record"]]), np.arange(10)
  )


def test_records_are_located_by_shard(config):
  source = pair_source.PairSource(config, "train")
  first, second = (f"x-train.array_record-0000{i}-of-00002" for i in (0, 1))
  assert source.locate(0) == ("a", first, 0)
  assert source.locate(5) == ("a", second, 0)  # after five of nine
  # Of five in b, three a shard, those with a text are 1, 3 and 4.
  assert source.locate(9) == ("b", first, 1)
  assert source.locate(11) == ("b", second, 1)


SHARD = "x-train.array_record-00000-of-00002"


def write_corrupt(directory, flipped=(), undecodable=(), size=(40, 50)):
  """Ten records in two shards, some of the first with a bit or a PNG wrong."""
  write_dataset(directory, [f"Nodule {i} seen." for i in range(10)], size=size)
  path = directory / SHARD
  if undecodable:
    source = shards.open_split(directory, "train")
    rows = [source[i] for i in range(5)]
    writer = array_record_module.ArrayRecordWriter(
      str(path), "group_size:1,uncompressed"
    )
    for i, row in enumerate(rows):
      writer.write(row.replace(b"PNG", b"GNP") if i in undecodable else row)
    writer.close()
  data = bytearray(path.read_bytes())
  for i in flipped:
    data[data.index(f"Nodule {i} seen.".encode())] ^= 1
  path.write_bytes(data)


def corrupt_config(directory, **changes):
  return pair_source.DataConfig(
    data_dir=str(directory),
    datasets=("a",),
    max_length=12,
    num_threads=2,
    **changes,
  )


def test_a_flipped_bit_is_found_before_training(tmp_path):
  write_corrupt(tmp_path / "a", flipped=(1, 3))
  for budget in (0, 1):
    with pytest.raises(
      ValueError, match="2 of 10 records are corrupt"
    ) as error:
      pair_source.PairSource(
        corrupt_config(tmp_path, max_corrupt=budget), "train"
      )
    message = str(error.value)
    assert f"data.max_corrupt {budget}: a/{SHARD}#1, a/{SHARD}#3" in message
    assert "Nodule" not in message


def test_a_record_that_does_not_decode_fails_its_batch(tmp_path):
  write_corrupt(tmp_path / "a", undecodable=(2,))
  config = corrupt_config(tmp_path)
  source = pair_source.PairSource(config, "train")
  tokenize = tokenizer.Tokenizer.from_name("bundled", 12)
  words = f"1 of 10 records are corrupt.*max_corrupt 0: a/{SHARD}#2(\n|$)"
  with pytest.raises(ValueError, match=words):
    take(iterator(config), 3)
  batches = loader.eval_batches(
    source, config, tokenize, image_size=16, batch_size=10
  )
  for _ in range(2):  # nor does it pass the second time
    with pytest.raises(ValueError, match=words):
      source.read(2)
  with pytest.raises(ValueError, match=words):
    next(batches)


def test_within_the_budget_the_next_sound_record_stands_in(tmp_path, caplog):
  write_corrupt(tmp_path / "whole")
  write_corrupt(tmp_path / "damaged" / "a", flipped=(1,), undecodable=(2, 4))
  (tmp_path / "whole").rename(tmp_path / "a")
  want = take(iterator(corrupt_config(tmp_path)), 5)
  config = corrupt_config(tmp_path / "damaged", max_corrupt=3)
  with caplog.at_level(std_logging.WARNING):
    got = take(iterator(config), 5)
  stands_in = {1: 3, 2: 3, 4: 5}
  for batch, whole in zip(got, want, strict=True):
    assert list(batch["record"]) == [
      stands_in.get(i, i) for i in whole["record"].tolist()
    ]
    sound = ~np.isin(whole["record"], list(stands_in))
    for name in batch:
      np.testing.assert_array_equal(batch[name][sound], whole[name][sound])
  # Each is listed once, though two epochs met them.
  assert sorted(record.getMessage() for record in caplog.records) == [
    f"record a/{SHARD}#{i} is corrupt, the next sound one takes its place"
    for i in (1, 2, 4)
  ]
  assert_same(take(iterator(config), 5), got)
  first = iterator(config)
  take(first, 2)
  resumed = iterator(config)
  resumed.set_state(first.get_state())
  assert_same(take(resumed, 3), got[2:])
  (batch,) = loader.eval_batches(
    pair_source.PairSource(config, "train"),
    config,
    tokenizer.Tokenizer.from_name("bundled", 12),
    image_size=16,
    batch_size=10,
  )
  assert batch["record"].tolist() == [0, 3, 3, 3, 5, 5, 6, 7, 8, 9]


def test_the_budget_counts_those_of_the_start_and_of_the_run(tmp_path):
  write_corrupt(tmp_path / "a", flipped=(1,), undecodable=(2, 4))
  config = corrupt_config(tmp_path, max_corrupt=2)
  with pytest.raises(ValueError, match="3 of 10 records") as error:
    take(iterator(config), 3)
  assert str(error.value).endswith(
    ", ".join(f"a/{SHARD}#{i}" for i in (1, 2, 4))
  )


@pytest.mark.parametrize("share", [0, 0.5, 0.99])
def test_a_truncated_shard_is_named_at_the_start(tmp_path, share):
  write_corrupt(tmp_path / "a")
  path = tmp_path / "a" / SHARD
  data = path.read_bytes()
  path.write_bytes(data[: int(share * len(data))])
  config = corrupt_config(tmp_path, max_corrupt=10)
  with pytest.raises(ValueError, match=f"shard .*{SHARD} does not open"):
    pair_source.PairSource(config, "train")


@pytest.mark.parametrize("budget", [0, 2])
def test_a_shard_truncated_during_the_run_is_an_error(tmp_path, budget):
  # Large enough that records do not fit what was read ahead.
  write_corrupt(tmp_path / "a", size=(300, 300))
  batches = iterator(corrupt_config(tmp_path, max_corrupt=budget))
  next(batches)
  with (tmp_path / "a" / SHARD).open("r+b") as file:
    file.truncate(1000)
  with pytest.raises(ValueError, match=f"records are corrupt.*a/{SHARD}#"):
    take(batches, 12)


def test_a_shard_deleted_during_the_run_is_read_to_the_end(tmp_path):
  write_corrupt(tmp_path / "a", size=(300, 300))
  config = corrupt_config(tmp_path)
  want = take(iterator(config), 6)
  batches = iterator(config)
  next(batches)
  # The scan at the start opened it: its bytes stay until it is closed.
  (tmp_path / "a" / SHARD).unlink()
  assert_same(take(batches, 5), want[1:])
  with pytest.raises(ValueError, match=f"lacks shard {SHARD}"):
    pair_source.PairSource(config, "train")


def test_a_shard_deleted_before_it_is_opened_is_an_error(tmp_path):
  write_corrupt(tmp_path / "a")
  source = shards.open_split(tmp_path / "a", "train")
  (tmp_path / "a" / SHARD).unlink()
  with pytest.raises(FileNotFoundError, match=f"shard .*{SHARD} is gone"):
    source[0]


def test_a_loader_thread_that_is_killed_is_an_error(config, monkeypatch):
  def die(*args):
    raise SystemExit(1)

  monkeypatch.setattr(transforms, "train_image", die)
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  batches = prefetch.Prefetcher(iterator(config), mesh, 1)
  with pytest.raises(RuntimeError, match="reading batches ended by SystemExit"):
    batches.next()
  batches.close()
