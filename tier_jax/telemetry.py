"""Rates and memory of a training, measured on the host, and profiles."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from tier_jax import flops


class Meter:
  """Measures from one report to the next, pauses left out.

  Costs a few clock readings a report, and no wait for the devices.
  """

  def __init__(
    self,
    batch_size: int,
    flops_per_step: int,
    num_devices: int,
    clock: Callable[[], float] = time.monotonic,
  ):
    """Measures nothing until `start`.

    Args:
      batch_size: pairs a step.
      flops_per_step: of the products, over all devices, without what is done
        again to save memory.
      num_devices: of the mesh.
      clock: gives seconds.
    """
    self._batch_size = batch_size
    self._clock = clock
    peak = flops.peak(jax.devices()[0].device_kind)
    self._mfu = flops_per_step / num_devices / peak if peak else None
    self._paused = 0.0
    self.start(0, 0.0)

  def start(self, step: int, waited: float) -> None:
    """Begins at `step`, after `waited` seconds of waiting for input."""
    self._step, self._waited, self._since = step, waited, self._clock()

  def pause(self) -> None:
    """Stops the clock, for an evaluation."""
    self._paused = self._clock()

  def resume(self) -> None:
    """Lets the clock go on."""
    self._since += self._clock() - self._paused

  def scalars(self, step: int, waited: float) -> dict[str, float]:
    """Returns what was measured since the last report, and begins anew.

    Args:
      step: the last one that was made.
      waited: seconds of waiting for input, since the run began.

    Returns:
      train/pairs_per_second and train/step_seconds; train/input_wait, the share
      of the time that the host waited for batches, 0 as it should be;
      train/mfu, the share of the devices' bf16 peak, where that is known;
      train/host_memory_gib, the resident set of this process, on Linux;
      train/device_memory_gib, the highest peak of a device of this process,
      where it counts. The rates are left out if no step was made.
    """
    scalars = _memory()
    steps, elapsed = step - self._step, self._clock() - self._since
    if steps > 0 and elapsed > 0:
      seconds = elapsed / steps
      scalars["train/pairs_per_second"] = self._batch_size / seconds
      scalars["train/step_seconds"] = seconds
      scalars["train/input_wait"] = (waited - self._waited) / elapsed
      if self._mfu is not None:
        scalars["train/mfu"] = self._mfu / seconds
    self.start(step, waited)
    return scalars


class Profile:
  """Traces some steps into `workdir/profile`, `profile.N` in process N > 0."""

  def __init__(self, workdir: str | Path, steps: tuple[int, int] | None):
    """Takes the first step to trace and the one after the last, or None."""
    index = jax.process_index()
    self._path = Path(workdir) / (f"profile.{index}" if index else "profile")
    self._steps = range(*steps) if steps else range(0)
    self._tracing = False

  def before(self, step: int, state: Any) -> None:
    """Starts to trace, if `step` is the first; `state` is what it starts from.

    A run that resumes later starts later.
    """
    if step in self._steps and not self._tracing:
      jax.block_until_ready(state)
      jax.profiler.start_trace(str(self._path))
      self._tracing = True

  def after(self, step: int, state: Any) -> None:
    """Ends it, if `step` was the last; `state` is what it gave."""
    if self._tracing and step + 1 not in self._steps:
      jax.block_until_ready(state)
      self.close()

  def close(self) -> None:
    """Ends it early."""
    if self._tracing:
      self._tracing = False
      jax.profiler.stop_trace()


def _memory() -> dict[str, float]:
  memory = {}
  statm = Path("/proc/self/statm")
  if statm.exists():
    pages = int(statm.read_text("ascii").split()[1])
    memory["train/host_memory_gib"] = pages * os.sysconf("SC_PAGESIZE") / 2**30
  peaks = [
    stats["peak_bytes_in_use"]
    for stats in (device.memory_stats() for device in jax.local_devices())
    if stats and "peak_bytes_in_use" in stats
  ]
  if peaks:
    memory["train/device_memory_gib"] = max(peaks) / 2**30
  return memory
