"""How far a long work has come: a bar on a terminal, lines elsewhere."""

import sys
import threading
import time

import tqdm

PLAIN_S = 10.0  # between two lines


class Counter:
  """Counts items that are done; to be used in a `with` statement.

  Args:
    total: how many there are.
    unit: what they are called, in the plural.
  """

  def __init__(self, total: int, unit: str = "images"):
    self._total = total
    self._unit = unit
    self._done = 0
    self._lock = threading.Lock()
    self._begin = self._last = time.monotonic()
    self._bar = (
      tqdm.tqdm(total=total, unit=f" {unit}") if sys.stderr.isatty() else None
    )

  def __enter__(self) -> "Counter":
    return self

  def __exit__(self, *_) -> None:
    if self._bar is not None:
      self._bar.close()

  def add(self, count: int) -> None:
    """Says that `count` more items are done; from any thread."""
    with self._lock:
      self._done += count
      if self._bar is not None:
        self._bar.update(count)
        return
      now = time.monotonic()
      if not self._done or now - self._last < PLAIN_S:
        return
      self._last = now
      rate = self._done / (now - self._begin)
      left_s = (self._total - self._done) / rate
      print(
        f"{self._done}/{self._total} {self._unit}, {rate:.1f}/s, "
        f"{left_s:.0f} s left",
        file=sys.stderr,
        flush=True,
      )
