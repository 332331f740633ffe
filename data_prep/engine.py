"""Work over many files in processes, in order, through crashes."""

import collections
import itertools
import logging
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import cv2

_Job = TypeVar("_Job")
_Result = TypeVar("_Result")

CHUNK = 16  # jobs sent at a time; a crash does this many over, singly
CHUNKS_AHEAD = 4  # a worker; bounds what waits in memory


def run(
  jobs: Iterable[_Job],
  work: Callable[[_Job], _Result],
  on_crash: Callable[[_Job], _Result],
  num_workers: int,
) -> Iterator[_Result]:
  """Yields `work(job)` for each job, in their order.

  Args:
    jobs: picklable.
    work: picklable, and must not raise.
    on_crash: gives the result of a job whose process died.
    num_workers: processes, >= 1; the results do not depend on it.
  """
  rest = iter(jobs)
  chunks = iter(lambda: list(itertools.islice(rest, CHUNK)), [])
  pool = _make_pool(num_workers)
  pending: collections.deque[tuple[list[_Job], futures.Future | None]]
  pending = collections.deque()
  try:
    while True:
      while len(pending) < CHUNKS_AHEAD * num_workers:
        if not (chunk := next(chunks, [])):
          break
        pending.append((chunk, _submit(pool, work, chunk)))
      if not pending:
        return
      chunk, future = pending.popleft()
      try:
        if future is None:
          raise BrokenProcessPool
        results = future.result()
      except BrokenProcessPool:
        # One job killed its process, and with it every job under way. Nobody
        # says which: all of them are done again, one at a time.
        pool.shutdown(cancel_futures=True)
        lost = [chunk, *(other for other, _ in pending)]
        pending.clear()
        yield from _run_singly(itertools.chain(*lost), work, on_crash)
        pool = _make_pool(num_workers)
      else:
        yield from results
  finally:
    pool.shutdown(cancel_futures=True)


def _run_singly(
  jobs: Iterable[_Job],
  work: Callable[[_Job], _Result],
  on_crash: Callable[[_Job], _Result],
) -> Iterator[_Result]:
  pool = _make_pool(1)
  try:
    for job in jobs:
      try:
        yield pool.submit(work, job).result()
      except BrokenProcessPool:
        yield on_crash(job)
        pool.shutdown()
        pool = _make_pool(1)
  finally:
    pool.shutdown()


def _submit(
  pool: futures.ProcessPoolExecutor, work: Callable, chunk: list
) -> futures.Future | None:
  try:
    return pool.submit(_work_chunk, work, chunk)
  except BrokenProcessPool:
    return None


def _work_chunk(
  work: Callable[[_Job], _Result], chunk: list[_Job]
) -> list[_Result]:
  return [work(job) for job in chunk]


def _make_pool(num_workers: int) -> futures.ProcessPoolExecutor:
  # A fork would copy locks that the parent's threads hold at that moment.
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["data_prep.convert"])
  return futures.ProcessPoolExecutor(num_workers, context, _start_worker)


def _start_worker() -> None:
  cv2.setNumThreads(1)
  logging.disable(logging.CRITICAL)  # libraries log values of the files
