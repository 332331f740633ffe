import threading
import time

import numpy as np
import pytest

from tier_jax import prefetch, sharding


class Counter:
  """Batches 0, 1, 2, ...; the state is the number of the next."""

  def __init__(self, fail_at=None, seconds=0.0, error=ValueError):
    self.count = 0
    self.closed = False
    self.fail_at = fail_at
    self.error = error
    self.seconds = seconds

  def __next__(self):
    if self.count == self.fail_at:
      raise self.error(f"batch {self.count} is broken")
    time.sleep(self.seconds)
    self.count += 1
    return {"x": np.full((8, 2), self.count - 1)}

  def get_state(self):
    return {"next": self.count}

  def set_state(self, state):
    self.count = state["next"]

  def close(self):
    self.closed = True


@pytest.fixture
def mesh():
  return sharding.make_mesh(sharding.MeshConfig(fsdp=2))


def until(condition):
  deadline = time.monotonic() + 20
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.001)


def test_positions_are_of_the_batches_taken_not_of_those_read(mesh):
  iterator = Counter()
  batches = prefetch.Prefetcher(iterator, mesh, ahead=2)
  assert batches.position() == {"next": 0}
  seen = []
  for i in range(5):
    seen.append(int(batches.next()["x"][0, 0]))
    # Two in the queue, and one in the hand of the thread.
    until(lambda i=i: iterator.count == i + 4)
    assert batches.position() == {"next": i + 1}
  assert not iterator.closed
  batches.close()
  assert iterator.closed
  assert iterator.count <= 9
  assert seen == [0, 1, 2, 3, 4]
  resumed = Counter()
  resumed.set_state(batches.position())
  again = prefetch.Prefetcher(resumed, mesh, ahead=2)
  assert int(again.next()["x"][0, 0]) == 5
  again.close()


def test_batches_are_global_arrays(mesh):
  batches = prefetch.Prefetcher(Counter(), mesh, ahead=1)
  array = batches.next()["x"]
  batches.close()
  assert array.shape == (8, 2)
  assert array.sharding == sharding.batch_sharding(mesh)


def test_an_error_comes_after_the_batches_before_it(mesh):
  batches = prefetch.Prefetcher(Counter(fail_at=2), mesh, ahead=1)
  assert [int(batches.next()["x"][0, 0]) for _ in range(2)] == [0, 1]
  for _ in range(2):
    with pytest.raises(ValueError, match="batch 2 is broken"):
      batches.next()
  assert batches.position() == {"next": 2}
  batches.close()


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_thread_that_is_ended_is_an_error_not_a_wait(mesh, error):
  batches = prefetch.Prefetcher(Counter(fail_at=1, error=error), mesh, ahead=1)
  batches.next()
  for _ in range(2):
    with pytest.raises(RuntimeError, match=f"ended by {error.__name__}"):
      batches.next()
  batches.close()


def test_waiting_is_counted(mesh):
  batches = prefetch.Prefetcher(Counter(seconds=0.05), mesh, ahead=2)
  for _ in range(4):
    batches.next()
  assert batches.waited > 0.1
  before = batches.waited
  until(batches._ready.full)
  batches.next()
  assert batches.waited - before < 0.05
  batches.close()


def test_closing_leaves_no_thread(mesh):
  batches = prefetch.Prefetcher(Counter(), mesh, ahead=1)
  batches.close()
  assert "prefetch" not in {thread.name for thread in threading.enumerate()}
