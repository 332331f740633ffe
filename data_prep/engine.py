"""The local engine: shards made side by side on one machine."""

import threading
from collections.abc import Callable, Sequence
from concurrent import futures

from data_prep import shards, store


def run(
  tasks: Sequence[shards.Task],
  settings: shards.Settings,
  directory: store.Store,
  num_workers: int,
  report: Callable[[int], None],
) -> None:
  """Makes the shards of all tasks.

  A worker is a thread that writes and a process of its own that reads, so the
  interpreter's lock is nobody's limit.

  Args:
    tasks, settings, directory: as `shards.make_shard` takes them.
    num_workers: >= 1.
    report: is told of items that are done, from any thread.

  Raises:
    OSError: if a shard cannot be written; those written before remain.
  """
  stop = threading.Event()
  with futures.ThreadPoolExecutor(num_workers) as pool:
    running = [
      pool.submit(shards.make_shard, task, settings, directory, report, stop)
      for task in tasks
    ]
    try:
      for future in futures.as_completed(running):
        future.result()
    except BaseException:
      stop.set()
      pool.shutdown(cancel_futures=True)
      raise
