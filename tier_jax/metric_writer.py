"""Scalars and images to TensorBoard files, JSON lines and the console.

Nothing leaves the machine. Only process 0 writes.
"""

import contextlib
import datetime
import json
import logging as std_logging
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tqdm
from absl import logging
from tensorboardX import event_file_writer, summary
from tensorboardX.proto import event_pb2, summary_pb2

# The type checker knows none of the classes, which are made at import.
_EVENT: Any = event_pb2
_SUMMARY: Any = summary_pb2
_WORTH_SAYING = 0.05  # of the time


def log_plainly() -> None:
  """Logs the project's own lines as they are, and others' warnings only.

  Checkpointing alone writes some thirty lines a step at the same level, and
  stacks by the hundred lines of an error that we report in one: theirs are left
  out below the verbosity of debugging.
  """
  root = str(Path(__file__).parent)
  logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
  handler = logging.get_absl_handler()
  handler.setFormatter(std_logging.Formatter("%(message)s"))

  def plain(record):
    if record.pathname.startswith(root):
      return True
    if not logging.level_debug():
      record.exc_info = record.exc_text = None
      if record.name == "asyncio":  # tells of failed writes once more, late
        return False
    return record.levelno >= std_logging.WARNING

  handler.addFilter(plain)


class MetricWriter:
  """Writes scalars and images of a training under its workdir.

  `metrics.jsonl` has one object a line: the step and the scalars by name;
  `tensorboard/` has the images too. What a call wrote outlives the process, and
  what it could not write is its OSError.
  """

  def __init__(self, workdir: str | Path, first_step: int):
    """Opens the files and drops rows past `first_step`.

    A killed run may have written rows after its last checkpoint; the resumed
    run writes them again.
    """
    self._active = jax.process_index() == 0
    if not self._active:
      return
    self._path = Path(workdir) / "metrics.jsonl"
    self._jsonl = self._path.open("a", encoding="utf-8")
    directory = Path(workdir) / "tensorboard"
    directory.mkdir(exist_ok=True)
    # Not SummaryWriter: when its thread fails, as on a full disk, it hangs. The
    # suffix tells two writers of one second apart.
    self._tensorboard = event_file_writer.EventsWriter(
      str(directory / "events"), f".{time.time_ns() % 10**9:09d}"
    )
    self.rewind(first_step)

  def rewind(self, step: int) -> None:
    """Drops rows past `step`, which are about to be written again."""
    if not self._active:
      return
    self._jsonl.close()
    rows = map(_parse, self._path.read_text("utf-8").splitlines())
    kept = [
      json.dumps(row) + "\n" for row in rows if row and row["step"] <= step
    ]
    new = self._path.with_suffix(".jsonl.new")
    new.write_text("".join(kept), "utf-8")
    new.replace(self._path)
    self._jsonl = self._path.open("a", encoding="utf-8")
    # TensorBoard forgets what it read of this step and later ones.
    start = _EVENT.SessionLog(status=_EVENT.SessionLog.START)
    self._add_event(step + 1, session_log=start)

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars, such as {"train/loss": 1.2}, of a step."""
    if not self._active:
      return
    scalars = {name: float(value) for name, value in scalars.items()}
    # JSON has no NaN. What is not finite, `faults/` tells of.
    finite = {name: x for name, x in scalars.items() if math.isfinite(x)}
    with _naming(self._path):
      self._jsonl.write(json.dumps({"step": step, **finite}) + "\n")
      self._jsonl.flush()
    values = [
      _SUMMARY.Summary.Value(tag=name, simple_value=value)
      for name, value in scalars.items()
    ]
    self._add_event(step, summary=_SUMMARY.Summary(value=values))

  def write_image(self, step: int, name: str, image: np.ndarray) -> None:
    """Writes an image of a step, for TensorBoard alone.

    Args:
      step: that it belongs to.
      name: such as "valid/similarity_map".
      image: (H, W, 3) uint8.

    Raises:
      ValueError: if it is anything else.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
      raise ValueError(
        f"image {name} is {image.shape} {image.dtype}, expected (H, W, 3) uint8"
      )
    if self._active:
      self._add_event(
        step, summary=summary.image(name, image, dataformats="HWC")
      )

  def close(self) -> None:
    """Closes the files."""
    if self._active:
      self._jsonl.close()
      self._tensorboard.close()

  def _add_event(self, step, **what):
    event = _EVENT.Event(wall_time=time.time(), step=step, **what)
    with _naming(self._path.parent / "tensorboard"):
      self._tensorboard.write_event(event)
      self._tensorboard.flush()


@contextlib.contextmanager
def _naming(path):
  """Says what could not be written, where it is a file that fails within."""
  try:
    yield
  except OSError as error:
    raise OSError(f"{path} cannot be written: {error}") from error


class Progress:
  """A progress bar on a terminal, plain log lines elsewhere."""

  def __init__(self, num_steps: int, first_step: int):
    """Starts at `first_step` of `num_steps`."""
    self._bar = None
    if jax.process_index() == 0 and sys.stderr.isatty():
      self._bar = tqdm.tqdm(
        total=num_steps, initial=first_step, unit="step", smoothing=0.05
      )
    self._num_steps = num_steps

  def step(self) -> None:
    """Advances by one step."""
    if self._bar is not None:
      self._bar.update()

  def rewind(self, step: int) -> None:
    """Goes back to `step`."""
    if self._bar is not None:
      self._bar.n = step
      self._bar.refresh()

  def log(
    self,
    step: int,
    loss: float,
    pairs_per_second: float,
    left: float,
    *,
    mfu: float | None = None,
    input_wait: float = 0.0,
  ) -> None:
    """Shows where the training stands.

    Args:
      step: the last one that was made.
      loss: of it.
      pairs_per_second: since the last call.
      left: seconds.
      mfu: share of the devices' peak, None where it is not known.
      input_wait: share of the time that went by waiting for batches; shown
        where it costs something.
    """
    text = f"loss {loss:.4f}, {pairs_per_second:.0f} pairs/s"
    if mfu is not None:
      text += f", MFU {mfu:.1%}"
    if input_wait >= _WORTH_SAYING:
      text += f", {input_wait:.0%} waiting for input"
    text += f", {datetime.timedelta(seconds=round(left))} left"
    if self._bar is not None:
      self._bar.set_postfix_str(text)
    else:
      logging.info("step %d/%d: %s", step, self._num_steps, text)

  def close(self) -> None:
    """Ends the bar."""
    if self._bar is not None:
      self._bar.close()


def _parse(line: str) -> dict | None:
  """Returns the row, None for a line that a kill cut short."""
  try:
    return json.loads(line)
  except json.JSONDecodeError:
    return None
