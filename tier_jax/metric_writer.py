"""Scalars to TensorBoard files, JSON lines and the console.

Nothing leaves the machine. Only process 0 writes.
"""

import json
import logging as std_logging
import sys
from collections.abc import Mapping
from pathlib import Path

import jax
import tensorboardX
import tqdm
from absl import logging


def log_plainly() -> None:
  """Logs the project's own lines as they are, and others' warnings only.

  Checkpointing alone writes some thirty lines a step at the same level.
  """
  root = str(Path(__file__).parent)
  logging.set_verbosity(max(logging.get_verbosity(), logging.INFO))
  handler = logging.get_absl_handler()
  handler.setFormatter(std_logging.Formatter("%(message)s"))
  handler.addFilter(
    lambda record: (
      record.levelno >= std_logging.WARNING or record.pathname.startswith(root)
    )
  )


class MetricWriter:
  """Writes scalars of a training under its workdir.

  `metrics.jsonl` has one object a line: the step and the scalars by name.
  """

  def __init__(self, workdir: str | Path, first_step: int):
    """Opens the files and drops rows past `first_step`.

    A killed run may have written rows after its last checkpoint; the resumed
    run writes them again.
    """
    self._active = jax.process_index() == 0
    if not self._active:
      return
    path = Path(workdir) / "metrics.jsonl"
    rows = path.read_text("utf-8").splitlines() if path.is_file() else []
    kept = [row for row in map(_parse, rows) if row]
    with path.open("w", encoding="utf-8") as file:
      for row in kept:
        if row["step"] <= first_step:
          file.write(json.dumps(row) + "\n")
    self._jsonl = path.open("a", encoding="utf-8")
    self._tensorboard = tensorboardX.SummaryWriter(
      str(Path(workdir) / "tensorboard"), purge_step=first_step + 1
    )

  def write(self, step: int, scalars: Mapping[str, float]) -> None:
    """Writes scalars, such as {"train/loss": 1.2}, of a step."""
    if not self._active:
      return
    scalars = {name: float(value) for name, value in scalars.items()}
    self._jsonl.write(json.dumps({"step": step, **scalars}) + "\n")
    self._jsonl.flush()
    for name, value in scalars.items():
      self._tensorboard.add_scalar(name, value, step)

  def close(self) -> None:
    """Writes what is left and closes the files."""
    if self._active:
      self._jsonl.close()
      self._tensorboard.close()


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

  def log(self, step: int, loss: float, pairs_per_second: float, left: float):
    """Shows the loss, the rate in pairs/s and the time left in seconds."""
    minutes, seconds = divmod(round(left), 60)
    text = (
      f"loss {loss:.4f}, {pairs_per_second:.0f} pairs/s, "
      f"{minutes}:{seconds:02d} left"
    )
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
