"""Records and shards that are not as they were written."""

import logging as std_logging

import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore

from tests.data import pairs
from tier_jax.data import (
  loader,
  pair_source,
  shards,
  tokenizer,
)

SHARD = "x-train.array_record-00000-of-00002"


def write_corrupt(directory, flipped=(), undecodable=(), size=(40, 50)):
  """Ten records in two shards, some of the first with a bit or a PNG wrong."""
  pairs.write_dataset(
    directory, [f"Nodule {i} seen." for i in range(10)], size=size
  )
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
    pairs.take(pairs.iterator(config), 3)
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
  want = pairs.take(pairs.iterator(corrupt_config(tmp_path)), 5)
  config = corrupt_config(tmp_path / "damaged", max_corrupt=3)
  with caplog.at_level(std_logging.WARNING):
    got = pairs.take(pairs.iterator(config), 5)
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
  pairs.assert_same(pairs.take(pairs.iterator(config), 5), got)
  first = pairs.iterator(config)
  pairs.take(first, 2)
  resumed = pairs.iterator(config)
  resumed.set_state(first.get_state())
  pairs.assert_same(pairs.take(resumed, 3), got[2:])
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
    pairs.take(pairs.iterator(config), 3)
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
  batches = pairs.iterator(corrupt_config(tmp_path, max_corrupt=budget))
  next(batches)
  with (tmp_path / "a" / SHARD).open("r+b") as file:
    file.truncate(1000)
  with pytest.raises(ValueError, match=f"records are corrupt.*a/{SHARD}#"):
    pairs.take(batches, 12)


def test_a_shard_deleted_during_the_run_is_read_to_the_end(tmp_path):
  write_corrupt(tmp_path / "a", size=(300, 300))
  config = corrupt_config(tmp_path)
  want = pairs.take(pairs.iterator(config), 6)
  batches = pairs.iterator(config)
  next(batches)
  # The scan at the start opened it: its bytes stay until it is closed.
  (tmp_path / "a" / SHARD).unlink()
  pairs.assert_same(pairs.take(batches, 5), want[1:])
  with pytest.raises(ValueError, match=f"lacks shard {SHARD}"):
    pair_source.PairSource(config, "train")


def test_a_shard_deleted_before_it_is_opened_is_an_error(tmp_path):
  write_corrupt(tmp_path / "a")
  source = shards.open_split(tmp_path / "a", "train")
  (tmp_path / "a" / SHARD).unlink()
  with pytest.raises(FileNotFoundError, match=f"shard .*{SHARD} is gone"):
    source[0]
