"""What is told of a step whose loss or gradients are not finite.

Records go by dataset, shard and place there: no id, text or pixel is told.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging

from tier_jax.data import pair_source

_NAMED = 3  # records, or modules, in a message


class Guard:
  """Looks whether steps were finite, and says what to do when not.

  Attributes:
    count: steps that were skipped or rewound from, in the whole training.
  """

  def __init__(
    self,
    policy: str,
    max_faults: int,
    workdir: str | Path,
    source: pair_source.PairSource,
    count: int,
  ):
    """Starts with no step to look at.

    Args:
      policy: "abort", "skip" or "rewind", see `config.TrainConfig`.
      max_faults: the most that `count` may become.
      workdir: for dumps.
      source: that batches come from.
      count: of earlier starts.
    """
    self._policy, self._max_faults = policy, max_faults
    self._workdir, self._source = workdir, source
    self._waiting: list[tuple[int, Any, Any]] = []
    self.count = count

  def look(
    self, step: int, health: Mapping[str, Any], position: Any, *, now: bool
  ) -> Any:
    """Takes a step, and looks at the one before, or at both.

    To look at a step is to wait for it: the one before has ended long since, or
    soon will, while the devices work on this one.

    Args:
      step: number of the update.
      health: `metrics["health"]`, on the devices.
      position: of the input, after the step's batch.
      now: look at this step too.

    Returns:
      Where to read on, if the policy is to rewind from a step; else None.

    Raises:
      FloatingPointError: if a step is not finite and the policy is to abort, or
        it is once too often.
    """
    self._waiting.append((step, health, position))
    while len(self._waiting) > (0 if now else 1):
      step, health, position = self._waiting.pop(0)
      if jax.device_get(health["finite"]):
        continue
      health = jax.device_get(health)
      dump = write_dump(self._workdir, step, health, self._source)
      text = f"{describe(health, step, self._source)}; see {dump}"
      if self._policy == "abort":
        raise FloatingPointError(f"{text}; the last checkpoint is sound")
      self.count += 1
      if self.count > self._max_faults:
        raise FloatingPointError(
          f"{text}; that is once more than train.max_faults "
          f"{self._max_faults}; the last checkpoint is sound"
        )
      logging.warning("%s (train.on_nonfinite: %s)", text, self._policy)
      if self._policy == "rewind":
        self._waiting.clear()
        return position
    return None


def describe(
  health: Mapping[str, Any], step: int, source: pair_source.PairSource
) -> str:
  """Returns one line on what was not finite at a step.

  Args:
    health: `metrics["health"]` of the step, on the host.
    step: number of the update.
    source: that `records` of `health` are indices into.
  """
  records = np.asarray(health["records"])
  bad = records[~np.asarray(health["examples"])]
  norms = health["grad_norms"]
  modules = [name for name in norms if not math.isfinite(norms[name])]
  blame = []
  if len(bad):
    names = ["{}/{}#{}".format(*source.locate(int(i))) for i in bad]
    blame.append(
      f"embeddings of {len(bad)} of {len(records)} pairs: {_some(names)}"
    )
  if modules:
    blame.append(
      f"gradients of {len(modules)} of {len(norms)} modules: {_some(modules)}"
    )
  return f"step {step} is not finite: " + ("; ".join(blame) or "its loss")


def write_dump(
  workdir: str | Path,
  step: int,
  health: Mapping[str, Any],
  source: pair_source.PairSource,
) -> Path:
  """Writes what is known of a step, and returns where.

  `workdir/faults/step_00000012.json` holds `step`; `finite`; `bad_records`,
  those of `records` whose embeddings are not finite; `records`, the whole batch
  in order, each with `dataset`, `shard` and `index`; and `grad_norms` by
  module, those that are not finite first, as "nan" or "inf", since JSON has
  neither. Process 0 alone writes; once rewound, a step may fail again, by other
  records: that dump goes beside the first, as `step_00000012.1.json`.

  Args:
    workdir: of the training.
    step, health, source: as in `describe`.
  """
  path = Path(workdir) / "faults" / f"step_{step:08d}.json"
  if jax.process_index():
    return path
  places = [
    dict(zip(("dataset", "shard", "index"), source.locate(int(i)), strict=True))
    for i in np.asarray(health["records"])
  ]
  norms = {name: float(norm) for name, norm in health["grad_norms"].items()}
  ordered = sorted(norms, key=lambda name: (math.isfinite(norms[name]), name))
  finite = np.asarray(health["examples"])
  dump = {
    "step": step,
    "finite": bool(health["finite"]),
    "bad_records": [
      place for place, good in zip(places, finite, strict=True) if not good
    ],
    "records": places,
    "grad_norms": {
      name: norms[name] if math.isfinite(norms[name]) else str(norms[name])
      for name in ordered
    },
  }
  path.parent.mkdir(parents=True, exist_ok=True)
  text = json.dumps(dump, indent=2, allow_nan=False) + "\n"
  stem, copies = path.stem, 0
  while path.exists() and path.read_text("utf-8") != text:
    copies += 1
    path = path.with_name(f"{stem}.{copies}.json")
  temporary = path.with_suffix(".tmp")
  temporary.write_text(text, "utf-8")
  os.replace(temporary, path)
  return path


def _some(names: list[str]) -> str:
  more = ", ..." if len(names) > _NAMED else ""
  return ", ".join(names[:_NAMED]) + more
