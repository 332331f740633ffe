"""One update, and what is measured on the way."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from tier_jax.losses import contrastive, entropy, statistics
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState

MAX_LOGIT_SCALE = math.log(100)  # as CLIP; unclamped it can blow up

Batch = Mapping[str, jax.Array]
TERMS = ("contrastive_loss", "token_entropy", "patch_entropy")


def compute_losses(
  output: dual_encoder.DualEncoderOutput,
  batch: Batch,
  config: entropy.EntropyConfig,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the total loss and its parts, all () float32 in nats.

  With both weights 0 the total is the contrastive loss, bit for bit; the
  entropies are then computed for the log only.
  """
  mask = entropy.counted_tokens(
    batch["attention_mask"],
    batch["token_mask"],
    mask_special_tokens=config.mask_special_tokens,
    mask_padding=config.mask_padding,
  )
  sims = jnp.einsum(
    "btd,bpd->btp",
    output.token_embeds,
    output.patch_embeds,
    preferred_element_type=jnp.float32,
  )  # (B, T, P)
  # Recomputed in the backward pass: cheap, and saves several (B, T, P).
  penalties = jax.checkpoint(
    functools.partial(
      entropy.similarity_entropies,
      temperature=config.penalty_temperature,
      reduction=config.reduction,
      eps=config.eps_after_softmax,
      normalize=config.normalize_entropy,
    )
  )
  token_entropy, patch_entropy = penalties(sims, mask)
  contrastive_loss = contrastive.infonce(
    output.image_embeds, output.text_embeds, output.logit_scale
  )
  total = (
    contrastive_loss
    + config.token_entropy_weight * token_entropy
    + config.patch_entropy_weight * patch_entropy
  )
  measured = statistics.similarity_statistics(jax.lax.stop_gradient(sims), mask)
  # What uniform similarities would give: the ceilings of the entropies.
  log_patches = math.log(max(sims.shape[2], 2))
  log_tokens = measured.pop("mean_log_tokens")
  token_ceiling, patch_ceiling, nats = log_patches, log_tokens, 1.0
  if config.normalize_entropy:
    token_ceiling, patch_ceiling, nats = 1.0, 1.0, log_patches
  return total, {
    "loss": total,
    "contrastive_loss": contrastive_loss,
    "token_entropy": token_entropy,
    "patch_entropy": patch_entropy,
    "token_entropy_gap": token_ceiling - token_entropy,
    "patch_entropy_gap": patch_ceiling - patch_entropy,
    "effective_patches": jnp.exp(token_entropy * nats),
    "logit_scale": output.logit_scale,
    **measured,
  }


def loss_fn(
  params: Any,
  batch: Batch,
  key: jax.Array | None,
  model: dual_encoder.DualEncoder,
  config: entropy.EntropyConfig,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns `compute_losses` of the model; with a key, dropout is on."""
  output: Any = model.apply(
    {"params": params},
    batch["image"],
    batch["input_ids"],
    batch["attention_mask"],
    deterministic=key is None,
    rngs=None if key is None else {"dropout": key},
  )
  return compute_losses(output, batch, config)


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
    grads, metrics = jax.grad(loss_fn, has_aux=True)(
      state.params, batch, key, model, config
    )
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    params["logit_scale"] = jnp.minimum(params["logit_scale"], MAX_LOGIT_SCALE)
    metrics["grad_norm"] = optax.tree.norm(grads)
    return TrainState(state.step + 1, params, opt_state), metrics

  return train_step


def make_diagnose(
  model: dual_encoder.DualEncoder, config: entropy.EntropyConfig
) -> Callable[[Any, Batch], dict[str, jax.Array]]:
  """Returns diagnose(params, batch): gradient norm by loss term and tower.

  Three backward passes: for now and then, not for every step. The norms are
  of the terms themselves, before their weights.
  """

  def diagnose(params, batch):
    def terms(params):
      metrics = loss_fn(params, batch, None, model, config)[1]
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
