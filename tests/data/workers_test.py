"""Worker processes make what threads make, or say that they died."""

import dataclasses
import multiprocessing

import pytest

from tests.data import corrupt_records_test, pairs


@pytest.fixture
def config(tmp_path):
  corrupt_records_test.write_corrupt(tmp_path / "a", undecodable=(2,))
  return corrupt_records_test.corrupt_config(
    tmp_path, max_corrupt=1, num_workers=2
  )


def test_batches_are_those_of_threads_and_resume(config):
  want = pairs.take(
    pairs.iterator(dataclasses.replace(config, num_workers=0)), 5
  )
  batches = pairs.iterator(config)
  batches.set_state({"next_batch": 1})
  pairs.assert_same(pairs.take(batches, 4), want[1:])
  assert multiprocessing.active_children()
  batches.close()
  assert not multiprocessing.active_children()


def test_too_many_corrupt_records_are_an_error(config):
  batches = pairs.iterator(dataclasses.replace(config, max_corrupt=0))
  with pytest.raises(ValueError, match="1 of 10 records are corrupt.*#2"):
    pairs.take(batches, 4)


def test_a_killed_worker_is_an_error(config):
  batches = pairs.iterator(config)
  next(batches)
  for process in multiprocessing.active_children():
    process.kill()
  with pytest.raises(RuntimeError, match="exit code -9"):
    pairs.take(batches, 1000)
