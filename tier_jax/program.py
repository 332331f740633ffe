"""What a training runs, known before it runs: shapes, placement, the step.

Training and `compilation.py` share it, so that what was compiled ahead of time
is what runs later.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from jax.sharding import NamedSharding, PartitionSpec

from tier_jax import config as config_lib
from tier_jax import optim, sharding, train_step
from tier_jax.models import attention, dual_encoder
from tier_jax.train_state import TrainState


@dataclasses.dataclass(frozen=True)
class Program:
  """The training step of a config on a mesh, not compiled yet.

  Attributes:
    config, mesh: what it was made of.
    model: the dual encoder.
    schedule: learning rate by update.
    init: jitted, (seed key) -> a random `TrainState` in its place.
    step: jitted, (state, batch, seed key) -> (state, metrics); donates the
      state.
    state, batch, key: what `step` takes, as jax.ShapeDtypeStruct with
      shardings; the batch is the global one.
  """

  config: config_lib.Config
  mesh: jax.sharding.Mesh
  model: dual_encoder.DualEncoder
  schedule: optax.Schedule
  init: Callable[[jax.Array], TrainState]
  step: jax.stages.Wrapped
  state: TrainState
  batch: dict[str, jax.ShapeDtypeStruct]
  key: jax.ShapeDtypeStruct

  def trace(self) -> jax.stages.Traced:
    """Returns `step` traced for what it takes, to be lowered and compiled."""
    with attention.kernels_on(self.mesh):
      return self.step.trace(self.state, self.batch, self.key)


def make(config: config_lib.Config, mesh: jax.sharding.Mesh) -> Program:
  """Returns the program of a config whose sizes are filled in.

  Nothing is allocated or compiled, and the devices of `mesh` need not exist.

  Raises:
    ValueError: if the config does not fit the mesh or its own parameters.
  """
  sharding.check_batch_size(
    config.train.batch_size, mesh, config.train.accumulate
  )
  model = dual_encoder.DualEncoder(config.model)
  init_variables = functools.partial(
    dual_encoder.init_variables, model, max_length=config.data.max_length
  )
  schedule = optim.make_schedule(config.optim, config.train.num_steps)
  key = jax.eval_shape(lambda: jax.random.key(config.seed))
  variables = jax.eval_shape(init_variables, key)
  _check_statistics(config, variables)
  optimizer = optim.make_optimizer(config.optim, schedule, variables["params"])
  init = functools.partial(_init_state, init_variables, optimizer, config.optim)
  abstract = jax.eval_shape(init, key)
  shardings = sharding.state_sharding(abstract, mesh)
  step = train_step.make_train_step(
    model,
    optimizer,
    config.loss,
    frozen=config.optim.frozen,
    ema_decay=config.optim.ema_decay,
    accumulate=config.train.accumulate,
    mesh=mesh,
  )
  return Program(
    config=config,
    mesh=mesh,
    model=model,
    schedule=schedule,
    init=jax.jit(init, out_shardings=shardings),
    step=jax.jit(step, out_shardings=(shardings, None), donate_argnums=0),
    state=jax.tree.map(_placed, abstract, shardings),
    batch={
      name: _placed(shape, sharding.batch_sharding(mesh))
      for name, shape in batch_shapes(config).items()
    },
    key=_placed(key, NamedSharding(mesh, PartitionSpec())),
  )


def plain(config: config_lib.Config) -> config_lib.Config:
  """Returns the config whose step does nothing twice to save memory.

  Its numbers are the same but for rounding.
  """
  settings = {"remat": "none", "ring": False, "accumulate": 1}
  settings["attention"] = "xla"  # the kernel's gradient computes scores again

  def reset(part):
    known = {f.name for f in dataclasses.fields(part)} & settings.keys()
    return dataclasses.replace(part, **{name: settings[name] for name in known})

  image, text = reset(config.model.image), reset(config.model.text)
  return dataclasses.replace(
    config,
    model=dataclasses.replace(config.model, image=image, text=text),
    loss=reset(config.loss),
    train=reset(config.train),
  )


def batch_shapes(
  config: config_lib.Config,
) -> dict[str, jax.ShapeDtypeStruct]:
  """Returns shapes and types of a global batch of `loader.train_iterator`."""
  size, length = config.train.batch_size, config.data.max_length
  side = config.model.image.image_size
  image = jax.ShapeDtypeStruct((size, side, side), np.uint8)
  if config.data.feature_cache:
    rows, columns = config.model.image.grid
    shape = size, rows * columns, config.model.image.width
    image = jax.ShapeDtypeStruct(shape, np.float16)
  tokens = jax.ShapeDtypeStruct((size, length), np.int32)
  hashes = jax.ShapeDtypeStruct((size, 2), np.uint32)
  shapes = {
    "image": image,
    "input_ids": tokens,
    "attention_mask": tokens,
    "token_mask": jax.ShapeDtypeStruct((size, length), bool),
    "word_starts": tokens,
    "study_hash": hashes,
    "text_hash": hashes,
    "record": jax.ShapeDtypeStruct((size,), np.int32),
  }
  if config.loss.image_image_weight > 0:
    shapes["second_image"] = image
  return shapes


def _placed(leaf, where) -> jax.ShapeDtypeStruct:
  return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)


def _check_statistics(config, variables) -> None:
  """Raises ValueError if running statistics do not go with the parameters."""
  statistics = traverse_util.flatten_dict(variables["batch_stats"])
  if not statistics:
    return
  if config.optim.ema_decay:
    raise ValueError(
      f"optim.ema_decay is {config.optim.ema_decay}, expected 0: the running "
      "statistics of batch norms are those of the parameters, not of their "
      "average"
    )
  _, fixed = optim.partition(variables["params"], config.optim.frozen)
  fixed = {path[:-1] for path in traverse_util.flatten_dict(fixed)}
  frozen = sorted({path[:-1] for path in statistics} & fixed)
  for norm in frozen:
    name = "/".join(norm)
    if norm[0] != "image_tower":
      raise ValueError(
        f"optim.frozen holds {name}, but its batch statistics "
        "move, expected it to train"
      )
    if not config.model.image.freeze_batch_stats:
      raise ValueError(
        f"optim.frozen holds {name}, but its batch statistics "
        "would move: expected model.image.freeze_batch_stats True"
      )


def _init_state(init_variables, optimizer, config, key) -> TrainState:
  variables: Any = init_variables(key=key)
  trainable, _ = optim.partition(variables["params"], config.frozen)
  return TrainState(
    step=jnp.zeros((), jnp.int32),
    opt_state=optimizer.init(trainable),
    ema_params=variables["params"] if config.ema_decay else None,
    **variables,
  )
