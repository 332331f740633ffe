"""One update, and what is measured on the way."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tier_jax import optim
from tier_jax.losses import objective
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState

MAX_LOGIT_SCALE = math.log(100)  # as CLIP; unclamped it can blow up

Batch = Mapping[str, jax.Array]
TERMS = ("contrastive_loss", "token_entropy", "patch_entropy")


def loss_fn(
  params: Any,
  batch_stats: Any,
  batch: Batch,
  key: jax.Array | None,
  model: dual_encoder.DualEncoder,
  config: objective.LossConfig,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
  """Returns the total loss, and its parts with the new `batch_stats`.

  With a key the model trains: dropout is on, and batch norms take the
  statistics of the batch.

  Raises:
    ValueError: if it trains on an image-image loss without a second view.
  """
  training = key is not None
  if training and config.image_image_weight and "second_image" not in batch:
    raise ValueError(
      f"loss.image_image_weight is {config.image_image_weight}, but the batch "
      "has no second_image, expected train_iterator(second_view=True)"
    )
  output, changed = model.apply(
    {"params": params, "batch_stats": batch_stats},
    batch["image"],
    batch["input_ids"],
    batch["attention_mask"],
    batch["word_starts"],
    batch.get("second_image"),
    deterministic=not training,
    rngs={"dropout": key} if training else None,
    mutable=["batch_stats"] if training else [],
  )
  total, metrics = objective.compute_losses(output, batch, config)
  return total, (metrics, changed.get("batch_stats", batch_stats))


def make_train_step(
  model: dual_encoder.DualEncoder,
  optimizer: optax.GradientTransformation,
  config: objective.LossConfig,
  *,
  frozen: tuple[str, ...] = (),
  ema_decay: float = 0.0,
) -> Callable[
  [TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]:
  """Returns step(state, batch, seed_key) -> (state, metrics), to be jitted.

  Metrics belong to the state before the update.

  Args:
    model: to be trained.
    optimizer: of the trainable part of the parameters.
    config: of the loss.
    frozen, ema_decay: as in `optim.OptimConfig`.
  """

  def train_step(state, batch, seed_key):
    # Folded from the step, so that resuming needs no saved key.
    key = jax.random.fold_in(seed_key, state.step)
    trainable, fixed = optim.partition(state.params, frozen)

    # Only what trains is differentiated: no backward pass goes further down.
    def loss(trainable):
      params = optim.merge(trainable, fixed)
      return loss_fn(params, state.batch_stats, batch, key, model, config)

    grads, (metrics, batch_stats) = jax.grad(loss, has_aux=True)(trainable)
    metrics["grad_norm"] = optax.tree.norm(grads)
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
    trainable: Any = optax.apply_updates(trainable, updates)
    if "logit_scale" in trainable:
      trainable["logit_scale"] = jnp.minimum(
        trainable["logit_scale"], MAX_LOGIT_SCALE
      )
    params = optim.merge(trainable, fixed)
    step = state.step + 1
    ema_params = None
    if ema_decay:
      ema_params = optim.update_ema(state.ema_params, params, step, ema_decay)
    state = TrainState(step, params, batch_stats, opt_state, ema_params)
    return state, metrics

  return train_step


def make_diagnose(
  model: dual_encoder.DualEncoder,
  config: objective.LossConfig,
  *,
  frozen: tuple[str, ...] = (),
) -> Callable[[Any, Any, Batch], dict[str, jax.Array]]:
  """Returns diagnose(params, batch_stats, batch): gradient norms, by name.

  By loss term and tower: three backward passes, for now and then and not for
  every step. The norms are of the terms themselves, before their weights, and
  of what trains: 0 where nothing of a tower and its head does.
  """

  def diagnose(params, batch_stats, batch):
    trainable, fixed = optim.partition(params, frozen)

    def terms(trainable):
      params = optim.merge(trainable, fixed)
      _, (metrics, _) = loss_fn(params, batch_stats, batch, None, model, config)
      return jnp.stack([metrics[name] for name in TERMS])

    _, pull_back = jax.vjp(terms, trainable)
    norms = {}
    for i, term in enumerate(TERMS):
      (grads,) = pull_back(jnp.zeros(len(TERMS)).at[i].set(1))
      for tower in ("image", "text"):
        names = (f"{tower}_tower", f"{tower}_head")
        part = [grads[name] for name in names if name in grads]
        norms[f"grad_norm/{term}/{tower}"] = optax.tree.norm(part)
    return norms

  return diagnose
