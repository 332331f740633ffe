"""Optimiser and learning-rate schedule."""

import dataclasses

import jax
import optax


@dataclasses.dataclass(frozen=True)
class OptimConfig:
  """AdamW with linear warm-up and cosine decay to zero.

  Attributes:
    learning_rate: peak.
    warmup_steps: steps of linear rise from zero.
    weight_decay: decoupled; spares norms, biases and scalars.
    b1, b2, eps: of Adam.
    clip_norm: largest global norm of the gradient; 0 turns clipping off.
  """

  learning_rate: float = 1e-4
  warmup_steps: int = 0
  weight_decay: float = 1e-2
  b1: float = 0.9
  b2: float = 0.999
  eps: float = 1e-8
  clip_norm: float = 1.0

  def __post_init__(self):
    if not self.learning_rate > 0:
      raise ValueError(
        f"optim.learning_rate is {self.learning_rate}, expected > 0"
      )
    for field in ("b1", "b2"):
      if not 0 <= getattr(self, field) < 1:
        raise ValueError(
          f"optim.{field} is {getattr(self, field)}, expected 0 <= {field} < 1"
        )
    for field in ("eps", "warmup_steps", "weight_decay", "clip_norm"):
      if getattr(self, field) < 0:
        raise ValueError(
          f"optim.{field} is {getattr(self, field)}, expected >= 0"
        )


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
  return optax.warmup_cosine_decay_schedule(
    0.0, config.learning_rate, config.warmup_steps, num_steps
  )


def make_optimizer(
  config: OptimConfig, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """Returns AdamW after clipping by the global norm."""
  adamw = optax.adamw(
    schedule,
    config.b1,
    config.b2,
    config.eps,
    weight_decay=config.weight_decay,
    mask=_decayed,
  )
  if not config.clip_norm:
    return adamw
  return optax.chain(optax.clip_by_global_norm(config.clip_norm), adamw)


def _decayed(params):
  """True on matrices: norms, biases and the logit scale are not decayed."""
  return jax.tree.map(lambda x: x.ndim >= 2, params)
