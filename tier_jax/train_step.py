"""One update, and what is measured on the way."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tier_jax.losses import entropy, objective
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
  config: entropy.EntropyConfig,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
  """Returns the total loss, and its parts with the new `batch_stats`.

  With a key the model trains: dropout is on, and batch norms take the
  statistics of the batch.
  """
  training = key is not None
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
  config: entropy.EntropyConfig,
) -> Callable[
  [TrainState, Batch, jax.Array], tuple[TrainState, dict[str, jax.Array]]
]:
  """Returns step(state, batch, seed_key) -> (state, metrics), to be jitted.

  Metrics belong to the state before the update.
  """

  def train_step(state, batch, seed_key):
    # Folded from the step, so that resuming needs no saved key.
    key = jax.random.fold_in(seed_key, state.step)
    grads, (metrics, batch_stats) = jax.grad(loss_fn, has_aux=True)(
      state.params, state.batch_stats, batch, key, model, config
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    params["logit_scale"] = jnp.minimum(params["logit_scale"], MAX_LOGIT_SCALE)
    metrics["grad_norm"] = optax.tree.norm(grads)
    state = TrainState(state.step + 1, params, batch_stats, opt_state)
    return state, metrics

  return train_step


def make_diagnose(
  model: dual_encoder.DualEncoder, config: entropy.EntropyConfig
) -> Callable[[Any, Any, Batch], dict[str, jax.Array]]:
  """Returns diagnose(params, batch_stats, batch): gradient norms, by name.

  By loss term and tower: three backward passes, for now and then and not for
  every step. The norms are of the terms themselves, before their weights.
  """

  def diagnose(params, batch_stats, batch):
    def terms(params):
      _, (metrics, _) = loss_fn(params, batch_stats, batch, None, model, config)
      return jnp.stack([metrics[name] for name in TERMS])

    _, pull_back = jax.vjp(terms, params)
    norms = {}
    for i, term in enumerate(TERMS):
      (grads,) = pull_back(jnp.zeros(len(TERMS)).at[i].set(1))
      for tower in ("image", "text"):
        part = [grads[f"{tower}_tower"], grads[f"{tower}_head"]]
        norms[f"grad_norm/{term}/{tower}"] = optax.tree.norm(part)
    return norms

  return diagnose
