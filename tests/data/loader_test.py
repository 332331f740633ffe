"""The input path: determinism, sharding, resuming, refusals."""

import hashlib
import json

import jax
import numpy as np
import pytest

from tests.data import pairs
from tier_jax import prefetch, sharding
from tier_jax.data import (
  loader,
  pair_source,
  records,
  shards,
  tokenizer,
  transforms,
)


def test_records_without_a_text_are_left_out(config, monkeypatch):
  monkeypatch.setattr(pair_source, "_SCAN_CHUNK", 2)
  source = pair_source.PairSource(config, "train")
  assert len(source) == 9 + 3
  texts = [records.decode(source[i]).impression for i in range(9, 12)]
  assert texts == ["Edema.", "No edema.", "Effusion."]


def test_splits_are_those_with_records(tmp_path):
  assert shards.splits(tmp_path / "nothing") == ()
  pairs.write_dataset(tmp_path, ["Clear."], "test", shards=1)
  pairs.write_dataset(tmp_path, [], "train", shards=1)
  assert shards.splits(tmp_path) == ("test",)
  (tmp_path / "manifest.json").unlink()
  with pytest.raises(ValueError, match=r"holds no manifest\.json"):
    shards.splits(tmp_path)


def test_batches_have_the_promised_form(config):
  batch = next(pairs.iterator(config))
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
  pairs.assert_same(
    pairs.take(pairs.iterator(config), 8), pairs.take(pairs.iterator(config), 8)
  )
  other = pairs.take(pairs.iterator(config, seed=1), 1)[0]
  assert not np.array_equal(
    other["image"], next(pairs.iterator(config))["image"]
  )


def test_epochs_differ_in_order_and_augmentation(config):
  batches = pairs.take(pairs.iterator(config), 6)
  first = np.concatenate([b["image"] for b in batches[:3]])
  second = np.concatenate([b["image"] for b in batches[3:]])
  assert not any(np.array_equal(a, b) for a in first for b in second)


def test_resumes_exactly_across_an_epoch(config):
  whole = pairs.take(pairs.iterator(config), 7)
  first = pairs.iterator(config)
  pairs.take(first, 2)
  state = json.loads(json.dumps(first.get_state()))
  second = pairs.iterator(config)
  second.set_state(state)
  pairs.assert_same(pairs.take(second, 5), whole[2:])


def test_two_processes_share_the_batch_of_one(config):
  whole = pairs.take(pairs.iterator(config), 4)
  halves = [
    pairs.take(pairs.iterator(config, index=i, count=2), 4) for i in (0, 1)
  ]
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
  pairs.write_dataset(tmp_path / "a", texts)
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
  shuffled = next(pairs.iterator(config, batch_size=6))
  for name in ("study_hash", "text_hash"):
    assert sorted(map(tuple, shuffled[name])) == sorted(map(tuple, batch[name]))
    assert shuffled[name].dtype == batch[name].dtype == np.uint32


def test_the_text_hash_is_of_the_sampled_sentences(tmp_path):
  pairs.write_dataset(tmp_path / "a", ["One. Two. Three."] * 8)
  config = pair_source.DataConfig(
    data_dir=str(tmp_path),
    datasets=("a",),
    max_length=12,
    sentence_probability=1.0,
    num_threads=1,
  )
  batch = next(pairs.iterator(config, batch_size=8))
  assert groups(batch["text_hash"]) == groups(batch["input_ids"])
  assert 1 < len(groups(batch["text_hash"])) < 8


def test_a_second_view_changes_nothing_else(config):
  plain = pairs.take(pairs.iterator(config), 3)
  batches = pairs.take(pairs.iterator(config, second_view=True), 3)
  seconds = [batch.pop("second_image") for batch in batches]
  pairs.assert_same(batches, plain)
  for batch, second in zip(batches, seconds, strict=True):
    assert second.shape == batch["image"].shape
    assert second.dtype == np.uint8
    for one, other in zip(batch["image"], second, strict=True):
      assert not np.array_equal(one, other)
  again = [
    b["second_image"]
    for b in pairs.take(pairs.iterator(config, second_view=True), 3)
  ]
  np.testing.assert_array_equal(seconds, again)


@pytest.mark.parametrize("choice", ["first", "random", "both"])
def test_sections_are_chosen_as_the_config_says(tmp_path, choice):
  pairs.write_dataset(tmp_path / "a", ["Edema."] * 16, findings="Clear lungs.")
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
  batches = pairs.take(pairs.iterator(config, batch_size=16), 2)
  assert {tuple(row) for b in batches for row in b["input_ids"]} == want
  pairs.assert_same(
    pairs.take(pairs.iterator(config, batch_size=16), 2), batches
  )
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
  pairs.write_dataset(tmp_path / "a", ["Edema."] * 3)
  pairs.write_dataset(tmp_path / "b", ["Nodule."] * 3)
  config = pair_source.DataConfig(data_dir=str(tmp_path), datasets=("a", "b"))
  with pytest.raises(ValueError, match="no records in split 'validate'"):
    pair_source.PairSource(config, "validate")
  pairs.write_dataset(tmp_path / "b", ["Clear."] * 2, split="validate")
  assert len(pair_source.PairSource(config, "validate")) == 2
  assert len(pair_source.PairSource(config, "train")) == 6


def test_bad_directories_are_named(config, tmp_path):
  with pytest.raises(ValueError, match=r"nowhere holds no manifest.json"):
    shards.open_split(tmp_path / "nowhere", "train")
  with pytest.raises(ValueError, match=r"no records in split 'test'.*train"):
    shards.open_split(f"{config.data_dir}/a", "test")
  pairs.write_dataset(tmp_path / "c", ["x"] * 3)
  next((tmp_path / "c").glob("*.array_record*")).unlink()
  with pytest.raises(ValueError, match="lacks shard x-train"):
    shards.open_split(tmp_path / "c", "train")
  pairs.write_dataset(tmp_path / "d", [""] * 3)
  nothing = pair_source.DataConfig(data_dir=str(tmp_path), datasets=("d",))
  with pytest.raises(ValueError, match="no train record"):
    pair_source.PairSource(nothing, "train")


def test_bad_batch_sizes_are_named(config):
  with pytest.raises(ValueError, match="batch_size 5 is not a multiple of"):
    pairs.iterator(config, batch_size=5, count=2)
  with pytest.raises(ValueError, match="batch_size 13 exceeds the 12"):
    pairs.iterator(config, batch_size=13)


def test_each_pair_says_which_record_it_is(config):
  source = pair_source.PairSource(config, "train")
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.max_length)
  batches = pairs.take(pairs.iterator(config), 3)
  seen = np.concatenate([batch["record"] for batch in batches])
  assert sorted(seen) == list(range(12))  # once an epoch
  for batch in batches:
    for index, study in zip(batch["record"], batch["study_hash"], strict=True):
      study_id = records.decode(source[index]).study_id.encode()
      want = hashlib.blake2b(study_id, digest_size=8).digest()
      assert study.astype("<u4").tobytes() == want
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


def test_a_loader_thread_that_is_killed_is_an_error(config, monkeypatch):
  def die(*args):
    raise SystemExit(1)

  monkeypatch.setattr(transforms, "train_image", die)
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  batches = prefetch.Prefetcher(pairs.iterator(config), mesh, 1)
  with pytest.raises(RuntimeError, match="reading batches ended by SystemExit"):
    batches.next()
  batches.close()
