"""Ends a training that stands still, and says where it stood."""

import faulthandler
import os
import threading
import time
from pathlib import Path

import jax

EXIT_CODE = 76

_STDERR = 2


class Watchdog:
  """A thread that ends the process when no beat has come for a while.

  It then writes the Python stacks of all threads to `workdir/stacks.txt`
  (`stacks.N.txt` in process N > 0) and to stderr, and exits with `EXIT_CODE`
  and without clean-up: whatever hangs may hang that too.
  """

  def __init__(self, minutes: float, workdir: str | Path):
    """Starts to watch; 0 minutes is off."""
    self._seconds = 60 * minutes
    index = jax.process_index()
    name = f"stacks.{index}.txt" if index else "stacks.txt"
    self._path = Path(workdir) / name
    self._last: float | None = None
    self._closing = threading.Event()
    self._thread = None
    if minutes:
      self._thread = threading.Thread(
        target=self._watch, daemon=True, name="watchdog"
      )
      self._thread.start()

  def beat(self) -> None:
    """Says that the training goes on; before the first it may take its time."""
    self._last = time.monotonic()

  def rest(self) -> None:
    """Stops watching until the next beat, for what takes the time it takes."""
    self._last = None

  def close(self) -> None:
    """Stops watching."""
    self._closing.set()
    if self._thread is not None:
      self._thread.join()

  def _watch(self):
    while not self._closing.wait(min(self._seconds / 4, 1.0)):
      last = self._last
      if last is not None and time.monotonic() - last > self._seconds:
        self._end()

  def _end(self):
    line = f"no step for {self._seconds:g} s, the stacks of all threads:\n"
    try:
      os.write(_STDERR, line.encode())
      faulthandler.dump_traceback(_STDERR)
      with self._path.open("w", encoding="utf-8") as file:
        file.write(line)
        file.flush()  # what follows writes past Python's buffer
        faulthandler.dump_traceback(file)
    finally:  # a full disk, too
      os._exit(EXIT_CODE)
