"""One training on other devices, in other parts: the numbers are the same.

  python -m tests.scale

prints a table of every setting against one device and ends with an error if
one is off. `scale_test.py` runs a few of them.
"""

import dataclasses
import functools
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from tests import train_step_test
from tier_jax import sharding, train_step
from tier_jax.losses import objective
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState

STEPS = 10
# Losses and SGD's parameters are as exact as float32 sums in another order.
# AdamW amplifies gradients that are zero but for rounding, as those of
# attention key biases are.
TOLERANCES = {
  "sgd": {"losses": 1e-6, "gradients": 1e-6, "params": 1e-6},
  "adamw": {"losses": 1e-6, "params": 1e-4},
}
OPTIMIZERS = {
  # The trace is the gradient itself, kept where it can be looked at.
  "sgd": optax.chain(optax.trace(0.0), optax.scale(-0.1)),
  "adamw": optax.adamw(1e-3),
}
LOSSES = {
  "infonce": train_step_test.PENALTIES,
  "siglip": objective.LossConfig(
    infonce_weight=0.0, siglip_weight=1.0, positives="text"
  ),
}


@dataclasses.dataclass(frozen=True)
class Setting:
  """What the numbers do not depend on."""

  data: int = 1
  fsdp: int = 1
  accumulate: int = 1
  ring: bool = False
  remat: str = "none"
  scan_layers: bool = False


REFERENCE = Setting()
SETTINGS = (
  *(Setting(data) for data in (2, 4, 8)),
  *(Setting(8 // fsdp, fsdp) for fsdp in (2, 4, 8)),
  *(Setting(accumulate=parts) for parts in (2, 4)),
  *(Setting(data, 1, ring=True) for data in (1, 2, 4, 8)),
  *(Setting(8 // fsdp, fsdp, 4, ring=True) for fsdp in (1, 2, 4, 8)),
  *(
    Setting(remat=remat, scan_layers=scan)
    for remat in ("none", "dots", "full")
    for scan in (False, True)
    if (remat, scan) != ("none", False)
  ),
  Setting(2, 4, 2, ring=True, remat="full", scan_layers=True),
)


def make_batch(step: int) -> dict[str, np.ndarray]:
  """Returns the 32 pairs of a step."""
  halves = [train_step_test.make_batch(seed=2 * step + i) for i in (0, 1)]
  return {
    name: np.concatenate([half[name] for half in halves]) for name in halves[0]
  }


@functools.cache
def make_params() -> dict[str, Any]:
  """Returns parameters drawn by numpy, which takes no compilation.

  Small biases and positions keep embeddings apart: where they nearly agree,
  gradients are small differences, and float32 leaves less than six digits.
  """
  shapes = jax.eval_shape(
    lambda key: dual_encoder.init_variables(train_step_test.MODEL, key, 12),
    jax.random.key(0),
  )["params"]
  rng = np.random.default_rng(0)

  def draw(path, leaf):
    name = "/".join(key.key for key in path)
    if name.endswith("scale"):
      return np.ones(leaf.shape, np.float32)
    small = leaf.ndim < 2 or "position" in name or "type" in name
    return np.float32((0.02 if small else 0.1) * rng.normal(size=leaf.shape))

  return jax.tree_util.tree_map_with_path(draw, shapes)


class Training:
  """A compiled step of a setting, and its start."""

  def __init__(self, setting: Setting, optimizer: str, loss: str):
    self.mesh = sharding.make_mesh(
      sharding.MeshConfig(setting.data, setting.fsdp),
      jax.devices()[: setting.data * setting.fsdp],
    )
    transform = OPTIMIZERS[optimizer]
    blocks = {"remat": setting.remat, "scan_layers": setting.scan_layers}
    params = make_params()
    start = TrainState(
      np.zeros((), np.int32), params, {}, transform.init(params)
    )
    self._start = jax.device_get(start)
    where = sharding.state_sharding(start, self.mesh)
    self.abstract = jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      start,
      where,
    )
    self._step = jax.jit(
      train_step.make_train_step(
        dual_encoder.DualEncoder(
          dataclasses.replace(
            train_step_test.CONFIG,
            image=dataclasses.replace(train_step_test.CONFIG.image, **blocks),
            text=dataclasses.replace(train_step_test.CONFIG.text, **blocks),
          )
        ),
        transform,
        dataclasses.replace(LOSSES[loss], ring=setting.ring),
        accumulate=setting.accumulate,
        mesh=self.mesh,
      ),
      out_shardings=(where, None),
    )

  def start(self) -> TrainState:
    """Returns the same state for every setting, placed."""
    return jax.tree.map(
      lambda x, like: jax.make_array_from_callback(
        like.shape, like.sharding, lambda index: np.asarray(x)[index]
      ),
      self._start,
      self.abstract,
    )

  def run(
    self, state: TrainState, steps: range
  ) -> tuple[TrainState, list[float]]:
    """Returns the state after some steps, and the loss of each."""
    losses = []
    rows = len(make_batch(0)["image"]) // jax.process_count()
    first = rows * jax.process_index()
    for step in steps:
      batch = {
        name: value[first : first + rows]
        for name, value in make_batch(step).items()
      }
      state, metrics = self._step(
        state, sharding.put_batch(batch, self.mesh), jax.random.key(0)
      )
      losses.append(float(metrics["loss"]))
    return state, losses


@functools.cache
def results(setting: Setting, optimizer: str, loss: str) -> dict:
  """Returns the losses, first gradients (SGD) and last parameters."""
  training = Training(setting, optimizer, loss)
  state, first = training.run(training.start(), range(1))
  found = {}
  if optimizer == "sgd":
    found["gradients"] = jax.device_get(state.opt_state[0].trace)
  state, others = training.run(state, range(1, STEPS))
  return found | {
    "losses": np.array(first + others),
    "params": jax.device_get(state.params),
  }


def differences(setting: Setting, optimizer: str, loss: str) -> dict:
  """Returns how far a setting is from one device: the largest relative
  difference of a loss, and those of whole trees in norm."""
  got = results(setting, optimizer, loss)
  want = results(REFERENCE, optimizer, loss)
  found = {"losses": float(np.max(np.abs(got["losses"] / want["losses"] - 1)))}
  for name in got.keys() - {"losses"}:
    found[name] = train_step_test.relative(got[name], want[name])
  return found


def main() -> None:
  wrong = 0
  for loss in LOSSES:
    for optimizer, tolerances in TOLERANCES.items():
      for setting in SETTINGS:
        found = differences(setting, optimizer, loss)
        bad = [name for name in tolerances if found[name] > tolerances[name]]
        wrong += len(bad)
        print(
          f"{loss:8} {optimizer:6} ({setting.data}, {setting.fsdp}) "
          f"accumulate {setting.accumulate} "
          f"{'ring ' if setting.ring else 'plain'} "
          f"remat {setting.remat} {'scan' if setting.scan_layers else ''}: "
          + ", ".join(f"{name} {found[name]:.1e}" for name in tolerances),
          *(f"{name} is above {tolerances[name]}" for name in bad),
          flush=True,
        )
  # Imported here, as it imports this module.
  from tests import multiprocess_test

  for name in multiprocess_test.SETTINGS:
    with tempfile.TemporaryDirectory() as directory:
      multiprocess_test.compare(name, Path(directory))
    print(f"two processes of four devices, {name}: as one of eight")
  if wrong:
    sys.exit(f"{wrong} figures are off")


if __name__ == "__main__":
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax.config.update("jax_num_cpu_devices", 8)
  main()
