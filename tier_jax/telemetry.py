"""Rates and memory of a training, measured on the host."""

import os
import time
from collections.abc import Callable
from pathlib import Path

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
    """Stops the clock, for an evaluation or a checkpoint."""
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
