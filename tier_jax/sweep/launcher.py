"""A trial as a run of launch/train.py."""

import ctypes
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tier_jax.sweep import search

_PREEMPTED = 75  # launch/train.py saved and left
_WEIGHT = re.compile(r"--?config\.loss\.(\w+)")
_PARENT_DEATH = 1  # PR_SET_PDEATHSIG of prctl


class Launcher:
  """Trains by launch/train.py, in a process of its own.

  What a training holds, such as a GPU's memory, is gone with it, and what kills
  it leaves the search alone.
  """

  def __init__(self, script: Path, training: Sequence[str]):
    """Takes the script and the flags that all trainings have."""
    self._command = [sys.executable, str(script), *training]

  def __call__(
    self,
    workdir: Path,
    weights: Mapping[str, float],
    beat: Callable[[], None],
  ) -> None:
    """Trains in `workdir`; see `search.Train`."""
    workdir.mkdir(parents=True, exist_ok=True)
    command = [
      *self._command,
      f"--workdir={workdir}",
      *(f"--config.loss.{name}={value}" for name, value in weights.items()),
    ]
    log = workdir / "train.log"
    with log.open("ab") as output:
      process = subprocess.Popen(  # noqa: S603 - what the user asked to train
        command, stdout=output, stderr=output, preexec_fn=_end_with_parent
      )
    before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    try:
      while True:
        try:
          code = process.wait(search.LEASE / 10)
          break
        except subprocess.TimeoutExpired:
          beat()
    finally:
      # If another worker has it now, it must not save.
      process.kill()
      process.wait()
      signal.signal(signal.SIGTERM, before)
    if code == _PREEMPTED:
      sys.exit(_PREEMPTED)
    if code:
      raise search.TrainingError(f"it ended with {code}, see {log}")


def _end_with_parent() -> None:
  """Sends the training a SIGTERM when the search is killed, where known."""
  if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PARENT_DEATH, signal.SIGTERM)


def training_flags(arguments: Sequence[str]) -> list[str]:
  """Returns what goes on to launch/train.py, of arguments not known here.

  Raises:
    ValueError: if one is neither that nor known.
  """
  for argument in arguments:
    if not re.match(r"--?(no)?config[.=]", argument):
      raise ValueError(f"{argument!r} is unknown, expected --config...=VALUE")
    match = _WEIGHT.match(argument)
    if match and match[1] in search.NAMES:
      raise ValueError(f"{argument!r} sets what is searched")
  if not any(re.match("--?config=", argument) for argument in arguments):
    raise ValueError("--config is missing, expected --config=FILE")
  return list(arguments)
