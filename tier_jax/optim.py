"""What is trained and how: optimiser, schedule, freezing, moving average.

Parameters are named by their path, "image_tower/block_3/query/kernel".
"""

import dataclasses
import difflib
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from tier_jax import durations

OPTIMIZERS = ("adamw", "adam_l2")
SCHEDULES = ("cosine", "constant")

# Kernels and embedding tables decay, as in BERT; vectors and scalars (norms,
# biases, LayerScale, logit scale) do not. Nor do these of a ViT, as in MAE and
# timm, or the learnt query of an attention pool, as in big_vision.
_NOT_DECAYED = ("position_embed", "class_token", "registers", "probe")

# The bottom of each tower, below its first numbered layer.
_EMBEDDINGS = (
  *("patch_embed", "position_embed", "class_token", "registers"),  # ViT
  *("word_embeddings", "position_embeddings", "token_type_embeddings"),  # BERT
  "norm_embeddings",
  *("stem", "norm_stem"),  # ResNet
)
_LAYER = re.compile(r"(?:block|layer|stage)_(\d+)")


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """How parameters are updated.

  Attributes:
    optimizer: "adamw" (Loshchilov and Hutter, 2019), or "adam_l2", which adds
      the decay to the gradient of every parameter as torch's Adam does; for
      old recipes.
    schedule: of the learning rate after warm-up: "cosine" to zero at the last
      step, or "constant".
    learning_rate: peak.
    warmup_steps: steps of linear rise from zero; see `durations`.
    weight_decay: with "adamw" it spares norms, biases, scalars, LayerScale and
      the ViT's position, class and register embeddings.
    layer_decay: layer k of a tower of n learns at layer_decay ** (n - k) times
      the rate, its embeddings at layer_decay ** (n + 1) times; what follows
      the layers, the heads and the logit scale learn at the rate (Clark et
      al., "ELECTRA", 2020; Bao et al., "BEiT", 2022). 1 turns it off.
    b1, b2, eps: of Adam.
    clip_norm: largest global norm of the gradient of what trains; 0 turns
      clipping off.
    frozen: regular expressions; parameters whose whole name one of them
      matches stay as they are, and cost no gradient and no moments.
    ema_decay: of the moving average of the parameters, which evaluation then
      uses; 0 turns it off.
  """

  optimizer: str = "adamw"
  schedule: str = "cosine"
  learning_rate: float = 1e-4
  warmup_steps: durations.Steps = 0
  weight_decay: float = 1e-2
  layer_decay: float = 1.0
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 1.0
  frozen: tuple[str, ...] = ()
  ema_decay: float = 0.0

  def __post_init__(self):
    for field, known in (("optimizer", OPTIMIZERS), ("schedule", SCHEDULES)):
      if getattr(self, field) not in known:
        raise ValueError(
          f"optim.{field} is {getattr(self, field)!r}, expected one of "
          f"{', '.join(known)}"
        )
    if not self.learning_rate > 0:
      raise ValueError(
        f"optim.learning_rate is {self.learning_rate}, expected > 0"
      )
    if not 0 < self.layer_decay <= 1:
      raise ValueError(
        f"optim.layer_decay is {self.layer_decay}, expected 0 < decay <= 1"
      )
    for field in ("b1", "b2", "ema_decay"):
      if not 0 <= getattr(self, field) < 1:
        raise ValueError(
          f"optim.{field} is {getattr(self, field)}, expected 0 <= {field} < 1"
        )
    durations.check("optim.warmup_steps", self.warmup_steps, least=0)
    for field in ("eps", "weight_decay", "clip_norm"):
      if getattr(self, field) < 0:
        raise ValueError(
          f"optim.{field} is {getattr(self, field)}, expected >= 0"
        )
    for pattern in self.frozen:
      try:
        re.compile(pattern)
      except re.error as error:
        raise ValueError(
          f"optim.frozen has {pattern!r}, expected a regular expression: "
          f"{error}"
        ) from error


def make_schedule(config: OptimConfig, num_steps: int) -> optax.Schedule:
  """Returns the learning rate as a function of the step.

  Raises:
    ValueError: if the warm-up is longer than the training.
  """
  if config.warmup_steps >= num_steps:
    raise ValueError(
      f"optim.warmup_steps {config.warmup_steps} is not below the "
      f"{num_steps} steps of the training"
    )
  if config.schedule == "constant":
    return optax.join_schedules(
      [
        optax.linear_schedule(0.0, config.learning_rate, config.warmup_steps),
        optax.constant_schedule(config.learning_rate),
      ],
      [config.warmup_steps],
    )
  return optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, config.warmup_steps, num_steps
  )


def make_optimizer(
  config: OptimConfig, schedule: optax.Schedule, params: Any
) -> optax.GradientTransformation:
  """Returns the optimiser of the trainable part of `params`.

  Args:
    config: of the optimiser.
    schedule: the learning rate by the step.
    params: the whole tree, or the shapes of it; layers are counted in it,
      frozen ones too.
  """
  parts = []
  if config.clip_norm:
    parts.append(optax.clip_by_global_norm(config.clip_norm))
  if config.optimizer == "adam_l2":
    parts.append(optax.add_decayed_weights(config.weight_decay))
  parts.append(optax.scale_by_adam(config.b1, config.b2, config.eps))
  if config.optimizer == "adamw":
    parts.append(optax.add_decayed_weights(config.weight_decay, _decayed))
  if config.layer_decay != 1:
    # After the decay: a layer decays as slowly as it learns.
    rates = layer_rates(params, config.layer_decay)
    parts.append(optax.stateless(lambda updates, _: _scale(updates, rates)))
  parts.append(optax.scale_by_learning_rate(schedule))
  return optax.chain(*parts)


def _decayed(params):
  """Returns a tree of bools: what AdamW's weight decay is for."""
  return jax.tree_util.tree_map_with_path(
    lambda path, x: x.ndim >= 2 and path[-1].key not in _NOT_DECAYED, params
  )


def layer_rates(params: Any, layer_decay: float) -> dict[str, float]:
  """Returns the factor on the learning rate of each parameter, by name."""
  names = list(traverse_util.flatten_dict(params, sep="/"))
  layers = {}  # name -> (tower, layer); -1 for embeddings
  depths = {}  # tower -> number of layers
  for name in names:
    tower, part, *_ = (*name.split("/"), "")
    match = _LAYER.fullmatch(part)
    if match:
      layers[name] = tower, int(match[1])
      depths[tower] = max(depths.get(tower, 0), int(match[1]) + 1)
    elif part in _EMBEDDINGS:
      layers[name] = tower, -1
  rates = dict.fromkeys(names, 1.0)
  for name, (tower, layer) in layers.items():
    rates[name] = layer_decay ** (depths.get(tower, 0) - layer)
  return rates


def _scale(updates, rates):
  flat = traverse_util.flatten_dict(updates, sep="/")
  return _tree({name: rates[name] * x for name, x in flat.items()})


def partition(params: Any, frozen: tuple[str, ...]) -> tuple[Any, Any]:
  """Returns two trees: the parameters that train, and the frozen ones.

  Args:
    params: the whole tree, or the shapes of it.
    frozen: as `OptimConfig.frozen`.

  Raises:
    ValueError: if a pattern matches nothing, or nothing is left to train.
  """
  flat = traverse_util.flatten_dict(params, sep="/")
  still = set()
  for pattern in frozen:
    matched = {name for name in flat if re.fullmatch(pattern, name)}
    if not matched:
      near = difflib.get_close_matches(pattern, flat, 3, cutoff=0)
      raise ValueError(
        f"optim.frozen has {pattern!r}, which matches no whole name of a "
        f"parameter, expected names such as {', '.join(near)}"
      )
    still |= matched
  if still == set(flat):
    raise ValueError(
      f"optim.frozen {frozen} matches every parameter, expected some to train"
    )
  return (
    _tree({name: x for name, x in flat.items() if name not in still}),
    _tree({name: x for name, x in flat.items() if name in still}),
  )


def merge(trainable: Any, fixed: Any) -> Any:
  """Returns the whole tree of what `partition` gave."""
  flatten = traverse_util.flatten_dict
  return _tree(flatten(trainable, sep="/") | flatten(fixed, sep="/"))


def _tree(flat):
  return traverse_util.unflatten_dict(flat, sep="/")


def update_ema(
  ema_params: Any, params: Any, step: jax.Array, decay: float
) -> Any:
  """Returns the moving average after one more update.

  The decay is min(decay, (1 + step) / (10 + step)), as in TensorFlow's
  ExponentialMovingAverage: early on, the average forgets the start sooner.

  Args:
    ema_params: the average so far, float32.
    params: after the update.
    step: () updates made, this one included.
    decay: in [0, 1).
  """
  kept = jnp.minimum(decay, (1 + step) / (10 + step))
  # In this form the average of what does not change is that, bit for bit.
  return jax.tree.map(
    lambda ema, new: ema + (1 - kept) * (new - ema), ema_params, params
  )
