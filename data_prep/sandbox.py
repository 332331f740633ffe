"""A process that converts one file at a time, under limits.

A hostile file may crash its reader, grow without bound or never end. It does
so here, and costs itself alone. The verdict on such a file is always that of a
fresh process, so it does not depend on what was read before.
"""

import contextlib
import errno
import json
import logging
import math
import multiprocessing
import resource
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Generic, TypeVar

import cv2

from data_prep import convert

# Of address space, over what the process has when it starts: with its own
# quarter of a GiB, a worker stays below 2 GiB.
MEMORY_BYTES = 3 * 2**29
CPU_S = 30
# Of waiting, as on a share that does not answer; the CPU's time runs out long
# before it on the busiest machine.
WALL_S = 600.0

START_S = 120.0  # for the process to be ready; imports from a slow disk

# Starting a process looks after all others of this one, those of other threads
# too, and two threads that do so at once lose a child's exit status.
_processes = threading.Lock()

Job = TypeVar("Job")


class Sandbox(Generic[Job]):
  """Runs `work` in a process of its own, and through its end.

  Args:
    work: picklable, as its jobs are.
    memory_bytes, cpu_s, wall_s: what one job may take; memory counts from the
      start of the process.
  """

  def __init__(
    self,
    work: Callable[[Job], convert.Outcome],
    *,
    memory_bytes: int = MEMORY_BYTES,
    cpu_s: int = CPU_S,
    wall_s: float = WALL_S,
  ):
    self._work = work
    self._limits = memory_bytes, cpu_s
    self._wall_s = wall_s
    # A fork would copy locks that the parent's threads hold at that moment.
    self._context = multiprocessing.get_context("forkserver")
    self._context.set_forkserver_preload(["data_prep.sandbox"])
    self._start()

  def __enter__(self) -> "Sandbox[Job]":
    return self

  def __exit__(self, *_) -> None:
    self._stop()

  def run(self, jobs: Iterable[Job]) -> Iterator[convert.Outcome]:
    """Yields the outcome of each job, in their order.

    Raises:
      OSError: if no process can be started.
    """
    rest = iter(jobs)
    job = next(rest, None)
    if job is not None:
      self._send(job)
    while job is not None:
      outcome = self._settle(job)
      following = next(rest, None)
      if following is not None:
        self._send(following)  # to work on while the outcome is dealt with
      yield outcome
      job = following

  def _settle(self, job: Job) -> convert.Outcome:
    """Returns the outcome of the job that was sent."""
    outcome = self._receive()
    if outcome.reason in convert.ENDS and self._is_used:
      self._restart()
      self._send(job)
      outcome = self._receive()
    if outcome.reason == convert.DIED and self._was_killed:
      # By someone else, as a system short of memory does: not the file.
      self._restart()
      self._send(job)
      outcome = self._receive()
    if outcome.reason in convert.ENDS or self._hangs:
      self._restart()
    else:
      self._is_used = True
    return outcome

  def _send(self, job: Job) -> None:
    # One job at a time: the process is waiting, and reads it whole before it
    # writes, so that the two cannot block each other. If it has died, the next
    # _receive finds out.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
      self._connection.send(job)

  def _receive(self) -> convert.Outcome:
    try:
      if not self._connection.poll(self._wall_s):
        self._hangs = True
        return convert.Outcome(None, convert.UNREADABLE)
      fields = json.loads(self._connection.recv_bytes())
      data = self._connection.recv_bytes() if fields.pop("has_data") else None
    except (EOFError, OSError):  # it has died, perhaps in the middle of a word
      with _processes:
        self._process.join()
        status = self._process.exitcode
      self._was_killed = status == -signal.SIGKILL
      slow = status == -signal.SIGXCPU
      return convert.Outcome(None, convert.TIME_LIMIT if slow else convert.DIED)
    return convert.Outcome(data, **{**fields, "notes": tuple(fields["notes"])})

  def _restart(self) -> None:
    self._stop()
    self._start()

  def _start(self) -> None:
    self._is_used = self._was_killed = self._hangs = False
    self._connection, end = self._context.Pipe()
    with _processes:
      self._process = self._context.Process(
        target=_serve, args=(end, self._work, *self._limits), daemon=True
      )
      self._process.start()
    end.close()  # or the process's death would not close the pipe
    try:
      ready = self._connection.poll(START_S) and self._connection.recv_bytes()
    except (EOFError, OSError):
      ready = False
    if not ready:
      self._stop()
      raise OSError(errno.ECHILD, "a process that reads files does not start")

  def _stop(self) -> None:
    self._connection.close()
    with _processes:
      self._process.kill()
      self._process.join()
      self._process.close()


def _serve(
  connection: Connection,
  work: Callable[[Any], convert.Outcome],
  memory_bytes: int,
  cpu_s: int,
) -> None:
  signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle
  cv2.setNumThreads(1)
  logging.disable(logging.CRITICAL)  # libraries log values of the files
  _limit(resource.RLIMIT_CORE, 0)  # a dump would hold the file
  _limit(resource.RLIMIT_FSIZE, 0)  # nothing here writes files
  if sys.platform == "linux":  # elsewhere there is no such limit, or no /proc
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    _limit(resource.RLIMIT_AS, pages * resource.getpagesize() + memory_bytes)
  connection.send_bytes(b"ready")
  while True:
    try:
      job = connection.recv()
    except (EOFError, ConnectionResetError):
      return
    _limit(resource.RLIMIT_CPU, math.ceil(time.process_time()) + cpu_s)
    outcome = work(job)
    fields = {
      "reason": outcome.reason,
      "notes": outcome.notes,
      "pixels_digest": outcome.pixels_digest,
      "perceptual_hash": outcome.perceptual_hash,
      "has_data": outcome.data is not None,
    }
    try:
      connection.send_bytes(json.dumps(fields).encode())
      if outcome.data is not None:
        connection.send_bytes(outcome.data)
    except (BrokenPipeError, ConnectionResetError):
      return


def _limit(kind: int, soft: int) -> None:
  hard = resource.getrlimit(kind)[1]
  if hard != resource.RLIM_INFINITY:
    soft = min(soft, hard)
  resource.setrlimit(kind, (soft, hard))
