"""Checkpoints: state, input position and configuration in one step.

The only file that knows Orbax. A step also carries the resolved config and
the whole tokenizer, so that evaluation needs nothing but the directory.
"""

import shutil
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from orbax.checkpoint import checkpoint_managers

from tier_jax.train_state import TrainState

_TEMPORARY = ".orbax-checkpoint-tmp"


class Checkpointer:
  """Saves and restores steps under `workdir/checkpoints`."""

  def __init__(self, workdir: str | Path, *, read_only: bool = False):
    """Opens the directory, and makes it unless `read_only`.

    Raises:
      ValueError: if `read_only` and there is no such directory.
    """
    self.directory = Path(workdir).absolute() / "checkpoints"
    if read_only and not self.directory.is_dir():
      raise ValueError(
        f"{workdir} holds no checkpoints, expected the workdir of a training"
      )
    self._manager = ocp.CheckpointManager(
      self.directory,
      item_names=("state", "input", "meta"),
      item_handlers={
        "state": ocp.StandardCheckpointHandler(),
        "input": ocp.JsonCheckpointHandler(),
        "meta": ocp.JsonCheckpointHandler(),
      },
      # Not `best_fn` with `max_to_keep`: that deletes the newest step, the
      # one to resume from, whenever it is not among the best.
      options=ocp.CheckpointManagerOptions(
        create=not read_only,
        read_only=read_only,
        preservation_policy=checkpoint_managers.LatestN(2),
      ),
    )

  def all_steps(self) -> list[int]:
    """Returns the finished steps, oldest first."""
    return sorted(self._manager.all_steps())

  def save(
    self, step: int, state: TrainState, position: Any, meta: dict[str, Any]
  ) -> None:
    """Starts to save a step; the writing goes on in the background.

    Args:
      step: number of updates made.
      state: the training state.
      position: JSON-like state of the input iterator after `step` batches.
      meta: JSON-like: what evaluation needs beside the parameters.

    Raises:
      RuntimeError: if nothing was saved.
    """
    saved = self._manager.save(
      step,
      args=ocp.args.Composite(
        state=ocp.args.StandardSave(state),
        input=ocp.args.JsonSave(position),
        meta=ocp.args.JsonSave(meta),
      ),
    )
    if not saved:
      raise RuntimeError(f"step {step} was not saved in {self.directory}")

  def restore(self, step: int, abstract: TrainState) -> tuple[TrainState, Any]:
    """Returns the state and the input position of a step.

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
      ),
    )
    return restored["state"], restored["input"]

  def restore_meta(self, step: int) -> dict[str, Any]:
    """Returns what was saved as `meta`."""
    return self._manager.restore(
      step, args=ocp.args.Composite(meta=ocp.args.JsonRestore())
    )["meta"]

  def close(self) -> None:
    """Waits until everything is written."""
    self._manager.wait_until_finished()
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


def remove_unfinished(workdir: str | Path) -> None:
  """Removes what an interrupted save left; Orbax ignores but keeps it."""
  directory = Path(workdir) / "checkpoints"
  if jax.process_index() == 0 and directory.is_dir():
    for path in directory.iterdir():
      if _TEMPORARY in path.name:
        logging.info("removing the unfinished checkpoint %s", path.name)
        shutil.rmtree(path)
