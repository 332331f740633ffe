"""Batches on the devices before the steps ask for them."""

import contextlib
import queue
import threading
import time
from typing import Any, Protocol

import jax

from tier_jax import sharding


class Batches(Protocol):
  """An endless iterator whose position can be told."""

  def __next__(self) -> Any: ...
  def get_state(self) -> Any: ...
  def close(self) -> None: ...


class Prefetcher:
  """Reads ahead in a thread and copies batches to the devices meanwhile.

  Attributes:
    waited: seconds that `next` has waited for a batch so far.
  """

  def __init__(self, iterator: Batches, mesh: jax.sharding.Mesh, ahead: int):
    """Starts to read.

    Args:
      iterator: endless, of this process's part of each batch; from here on
        this object's alone.
      mesh: where the batches go.
      ahead: batches, >= 1, that are ready at most.
    """
    self.waited = 0.0
    self._position = iterator.get_state()
    self._ready: queue.Queue[tuple[Any, Any]] = queue.Queue(ahead)
    self._closing = threading.Event()
    self._thread = threading.Thread(
      target=self._read, args=(iterator, mesh), daemon=True, name="prefetch"
    )
    self._thread.start()

  def next(self) -> dict[str, jax.Array]:
    """Returns the next batch, as global arrays.

    Raises:
      Exception: whatever reading it raised.
      RuntimeError: if reading ended by what is no Exception, such as a
        SystemExit: raised here, that would end the training as if all was well.
    """
    start = time.monotonic()
    batch, position = self._ready.get()
    self.waited += time.monotonic() - start
    if isinstance(batch, BaseException):
      self._ready.put((batch, None))  # again, if asked again
      if isinstance(batch, Exception):
        raise batch
      name = type(batch).__name__
      raise RuntimeError(f"reading batches ended by {name}") from batch
    self._position = position
    return batch

  def position(self) -> Any:
    """Returns the iterator's state after the batches that `next` returned.

    What was read ahead does not count: a resumed run reads it again.
    """
    return self._position

  def close(self) -> None:
    """Stops reading, and closes the iterator.

    One that hangs is left alone after ten seconds.
    """
    self._closing.set()
    deadline = time.monotonic() + 10
    while self._thread.is_alive() and time.monotonic() < deadline:
      with contextlib.suppress(queue.Empty):  # it may wait for a place
        self._ready.get(timeout=0.01)

  def _read(self, iterator, mesh):
    try:
      while not self._closing.is_set():
        batch = sharding.put_batch(next(iterator), mesh)
        self._ready.put((batch, iterator.get_state()))
      iterator.close()
    except BaseException as error:  # or `next` would wait for ever
      self._ready.put((error, None))
