"""All terms of the loss, put together."""

import functools
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tier_jax.losses import contrastive, entropy, statistics


def compute_losses(
  output: Any,
  batch: Mapping[str, jax.Array],
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
