"""Checkpoints: state, input position and configuration in one step.

The only file that knows Orbax. A step also carries the resolved config and
the whole tokenizer, so that evaluation needs nothing but the directory.

Orbax keeps no checksums: a flipped bit would come back as another weight. So a
step is finished only once the checksums of its files lie beside them.
"""

import asyncio
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils
from orbax.checkpoint import checkpoint_managers

from tier_jax import checksums
from tier_jax.train_state import TrainState

_TEMPORARY = ".orbax-checkpoint-tmp"
_NEWEST = 2  # steps kept, and the best one


def _is_news(record: Any) -> bool:
  """False of Orbax's warning, at each opening, that we only mean to read."""
  return not str(record.msg).startswith("Given directory is read only")


class Checkpointer:
  """Saves and restores steps under `workdir/checkpoints`."""

  def __init__(self, workdir: str | Path, *, read_only: bool = False):
    """Opens the directory; unless `read_only`, makes it and tidies it.

    What an interrupted save left is removed: it never was a step.

    Raises:
      ValueError: if `read_only` and there is no such directory, or if not and
        it cannot be written.
    """
    workdir = Path(workdir).absolute()
    self.directory = workdir / "checkpoints"
    self._damaged = workdir / "damaged"
    self._read_only = read_only
    self._preserve = _NewestAndBest()
    self._saving: int | None = None
    self._sound: int | None = None
    if not read_only:
      _prepare(workdir, self.directory)
    elif not self.directory.is_dir():
      raise ValueError(
        f"{workdir} holds no checkpoints, expected the workdir of a training"
      )
    self._manager = self._open()

  def _open(self) -> ocp.CheckpointManager:
    logger = logging.get_absl_logger()
    logger.addFilter(_is_news)
    try:
      return ocp.CheckpointManager(
        self.directory,
        item_names=("state", "input", "progress", "meta"),
        item_handlers={
          "state": ocp.StandardCheckpointHandler(),
          "input": ocp.JsonCheckpointHandler(),
          "progress": ocp.JsonCheckpointHandler(),
          "meta": ocp.JsonCheckpointHandler(),
        },
        # Not `best_fn` with `max_to_keep`: that deletes the newest step, the
        # one to resume from, whenever it is not among the best.
        options=ocp.CheckpointManagerOptions(
          create=not self._read_only,
          read_only=self._read_only,
          save_interval_steps=0 if self._read_only else 1,  # or it warns
          preservation_policy=self._preserve,
          temporary_path_class=_SummedPath,
          lightweight_initialize=True,  # a damaged step must not stop it
        ),
      )
    finally:
      logger.removeFilter(_is_news)

  def all_steps(self) -> list[int]:
    """Returns the steps on the disk, sound or not, oldest first."""
    return sorted(
      int(path.name)
      for path in self.directory.iterdir()
      if re.fullmatch("0|[1-9][0-9]*", path.name)
    )

  def verify(self, step: int) -> None:
    """Compares every file of a step with its checksum.

    Raises:
      ValueError: names the step and the file that is damaged.
      OSError: if a file may not be read.
    """
    try:
      checksums.verify(self.directory / str(step))
    except ValueError as error:
      raise ValueError(
        f"step {step} in {self.directory} is damaged: {error}"
      ) from error

  def latest_sound(self) -> int | None:
    """Returns the newest step whose files agree with their checksums, if any.

    Newer ones are passed over with a warning and, unless read-only, moved to
    `workdir/damaged`, so that their numbers can be saved again. The answer is
    the same on all processes, which must all ask.
    """
    self.wait()
    sound, moved = None, False
    if jax.process_index() == 0:
      for step in reversed(self.all_steps()):
        try:
          self.verify(step)
          sound = step
          break
        except ValueError as error:
          if self._read_only:
            logging.warning("%s; passed over", error)
          else:
            logging.warning("%s; moved to %s", error, self._set_aside(step))
            moved = True
    answer = np.array([-1 if sound is None else sound, moved], np.int32)
    number, moved = map(int, multihost_utils.broadcast_one_to_all(answer))
    if moved:  # Orbax saves nothing below a step that it remembers
      self._manager.close()
      self._manager = self._open()
    self._sound = None if number < 0 else number
    return self._sound

  def _set_aside(self, step: int) -> Path:
    self._damaged.mkdir(exist_ok=True)
    target, copies = self._damaged / str(step), 0
    while target.exists():
      copies += 1
      target = self._damaged / f"{step}.{copies}"
    shutil.move(self.directory / str(step), target)
    return target

  def save(
    self,
    step: int,
    state: TrainState,
    position: Any,
    progress: dict[str, Any],
    meta: dict[str, Any],
    *,
    best: int | None = None,
  ) -> None:
    """Starts to save a step; the writing goes on in the background.

    The newest two steps and `best` are kept, others deleted once this one and
    its checksums are written.

    Args:
      step: number of updates made.
      state: the training state.
      position: JSON-like state of the input iterator after `step` batches.
      progress: JSON-like counters of the loop. Its "best", if any, is a dict
        of "step" (int), "metric" (its name) and "value".
      meta: JSON-like: what evaluation needs beside the parameters.
      best: the best step so far.

    Raises:
      RuntimeError: if nothing was saved, as there is that step or a later one.
      OSError: if this save or the one before could not be written.
    """
    self.wait()
    self._preserve.best = best
    self._saving = step
    try:
      saved = self._manager.save(
        step,
        args=ocp.args.Composite(
          state=ocp.args.StandardSave(state),
          input=ocp.args.JsonSave(position),
          progress=ocp.args.JsonSave(progress),
          meta=ocp.args.JsonSave(meta),
        ),
      )
    except Exception as error:  # of many kinds, from files to the array store
      raise self._failure(error) from error
    if not saved:
      self._saving = None
      raise RuntimeError(
        f"step {step} was not saved in {self.directory}, which has "
        f"{self.all_steps()}, expected a later one"
      )

  def delete(self, step: int) -> None:
    """Deletes a step, so that it may be saved anew."""
    self.wait()
    self._manager.delete(step)

  def wait(self) -> None:
    """Waits until everything is written.

    Raises:
      OSError: if it could not be written; says which step is still sound.
    """
    try:
      self._manager.wait_until_finished()
    except Exception as error:
      raise self._failure(error) from error
    if self._saving is not None:
      self._sound, self._saving = self._saving, None

  def _failure(self, error: Exception) -> OSError:
    step, self._saving = self._saving, None
    sound = "none" if self._sound is None else f"step {self._sound}"
    return OSError(
      f"step {step} could not be written to {self.directory} (the last one "
      f"known to be sound: {sound}): {error}"
    )

  def restore(
    self, step: int, abstract: TrainState
  ) -> tuple[TrainState, Any, dict[str, Any]]:
    """Returns the state, the input position and the progress of a step.

    Args:
      step: a finished step.
      abstract: `jax.ShapeDtypeStruct` with a sharding in place of each leaf.

    Raises:
      ValueError: if the saved tree, shapes or types differ from `abstract`.
    """
    restored = self._manager.restore(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardRestore(abstract),
        input=ocp.args.JsonRestore(),
        progress=ocp.args.JsonRestore(),
      ),
    )
    return restored["state"], restored["input"], restored["progress"]

  def restore_progress(self, step: int) -> dict[str, Any]:
    """Returns what was saved as `progress`."""
    return self._restore_json(step, "progress")

  def restore_meta(self, step: int) -> dict[str, Any]:
    """Returns what was saved as `meta`."""
    return self._restore_json(step, "meta")

  def _restore_json(self, step, name):
    args = ocp.args.Composite(**{name: ocp.args.JsonRestore()})
    return self._manager.restore(step, args=args)[name]

  def close(self) -> None:
    """Waits until everything is written, and lets go.

    Raises:
      OSError: as `wait` does.
    """
    self.wait()
    self._manager.close()


def restore_variables(
  workdir: str | Path, step: int, abstract: Any, *, averaged: bool = False
) -> dict[str, Any]:
  """Returns the parameters and batch statistics alone of a step.

  Args:
    workdir: of the training.
    step: a finished step.
    abstract: "params" and "batch_stats", trees of `jax.ShapeDtypeStruct`, each
      with a sharding.
    averaged: return the moving average of the parameters as "params".

  Raises:
    ValueError: if the saved tree or shapes differ from `abstract`.
  """
  directory = Path(workdir).absolute() / "checkpoints" / str(step) / "state"
  saved_as = "ema_params" if averaged else "params"
  item = {
    saved_as: abstract["params"],
    "batch_stats": abstract["batch_stats"],
  }
  with ocp.PyTreeCheckpointer() as checkpointer:
    restored = checkpointer.restore(
      directory,
      args=ocp.args.PyTreeRestore(
        item=item,
        restore_args=ocp.checkpoint_utils.construct_restore_args(item),
        partial_restore=True,
      ),
    )
  return {
    "params": restored[saved_as],
    "batch_stats": restored["batch_stats"],
  }


class _NewestAndBest(checkpoint_managers.PreservationPolicy):
  """Keeps the newest steps and the best one.

  Attributes:
    best: its number, if any.
  """

  best: int | None = None

  def should_preserve(self, checkpoints, *, context) -> Sequence[bool]:
    del context
    newest = checkpoints[-_NEWEST:]
    return [info in newest or info.step == self.best for info in checkpoints]


class _SummedPath(ocp.path.atomicity.AtomicRenameTemporaryPath):
  """A step gets its checksums when it gets its name.

  Orbax calls this on process 0, in the background, and deletes older steps
  after it. Its `post_finalization_callback` comes too early: files follow.
  """

  async def finalize(self) -> None:
    await super().finalize()
    path = Path(self.get_final())
    if (
      path.name.isdecimal()
    ):  # not the parts of a step, which come this way too
      await asyncio.to_thread(checksums.write, path)


def _prepare(workdir: Path, directory: Path) -> None:
  """Makes the directories and tidies them.

  Raises:
    ValueError: if one cannot be written.
  """
  try:
    directory.mkdir(parents=True, exist_ok=True)
    if jax.process_index() == 0:  # first, as it makes room
      _remove_unfinished(directory)
    for path in (workdir, directory):
      with tempfile.TemporaryFile(dir=path) as file:
        file.write(b"0")
  except OSError as error:
    raise ValueError(f"workdir {workdir} cannot be written: {error}") from error


def _remove_unfinished(directory: Path) -> None:
  """Removes what an interrupted save left; Orbax ignores but keeps it."""
  for path in directory.iterdir():
    if _TEMPORARY in path.name:
      logging.info("removing the unfinished checkpoint %s", path.name)
      shutil.rmtree(path)
