"""The TIER penalties: how spread out token-to-patch similarity is.

Source: Palepu and Beam, "TIER: Text-Image Entropy Regularization for Medical
CLIP-style models", MLHC 2023 (PMLR 219:548-564).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

# Stands in for -inf under a mask; finite, so that 0 * it is 0 and not NaN.
_MASKED = -1e30

REDUCTIONS = ("per_report", "per_token")


def similarity_entropies(
  token_patch_sims: jax.Array,
  token_mask: jax.Array,
  *,
  temperature: float = 1.0,
  reduction: str = "per_report",
  eps: float = 0.0,
  normalize: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Returns how spread out token-to-patch similarity is, both ways, in nats.

  Reports with fewer than two counted tokens are left out of both means; if
  none is left, both entropies are 0 with zero gradient.

  Args:
    token_patch_sims: (B, T, P) cosine similarities, of any float dtype; the
      arithmetic is float32.
    token_mask: (B, T) bool, True where a token counts.
    temperature: > 0, divides the similarities; 1.0 is the paper's.
    reduction: "per_report" averages within a report first, so that long
      reports weigh no more than short ones; "per_token" is a flat mean.
      Changes the token entropy only.
    eps: >= 0, added to each probability after the softmax; the released code
      adds 1e-7, which biases the entropy upwards.
    normalize: divide by log P and by the log of the report's token count.

  Returns:
    token_entropy: () mean over counted tokens of the entropy over P patches,
      in [0, log P].
    patch_entropy: () mean over patches of the entropy over counted tokens,
      in [0, log T].

  Raises:
    ValueError: if B or T differ between the inputs, or on a bad option.

  Source: Palepu and Beam, TIER; differs from the released code in masking
    what is no token and in averaging per report, unless told otherwise.
  """
  if (
    token_patch_sims.ndim != 3 or token_mask.shape != token_patch_sims.shape[:2]
  ):
    raise ValueError(
      f"token_patch_sims {token_patch_sims.shape} and token_mask "
      f"{token_mask.shape}: expected (B, T, P) and (B, T)"
    )
  _check(temperature, reduction, eps)
  sims = token_patch_sims.astype(jnp.float32) / temperature
  mask = token_mask[:, :, None]  # (B, T, 1)
  over_patches = _entropy(sims, jnp.ones_like(mask), axis=2, eps=eps)  # (B, T)
  over_tokens = _entropy(sims, mask, axis=1, eps=eps)  # (B, P)

  num_tokens = jnp.sum(token_mask, axis=1).astype(jnp.float32)  # (B,)
  valid = num_tokens >= 2
  if normalize:
    num_patches = max(sims.shape[2], 2)  # one patch: entropy 0 stays 0
    over_patches /= jnp.log(num_patches)
    over_tokens /= jnp.log(jnp.maximum(num_tokens, 2))[:, None]

  counted = token_mask & valid[:, None]
  token_sums = jnp.sum(jnp.where(counted, over_patches, 0), axis=1)  # (B,)
  if reduction == "per_report":
    token_sums /= jnp.maximum(num_tokens, 1)
    token_count = jnp.sum(valid)
  else:
    token_count = jnp.sum(counted)
  token_entropy = jnp.sum(token_sums) / jnp.maximum(token_count, 1)

  patch_means = jnp.where(valid, jnp.mean(over_tokens, axis=1), 0)  # (B,)
  patch_entropy = jnp.sum(patch_means) / jnp.maximum(jnp.sum(valid), 1)
  return token_entropy, patch_entropy


def counted_tokens(
  attention_mask: jax.Array,
  token_mask: jax.Array,
  *,
  mask_special_tokens: bool = True,
  mask_padding: bool = True,
) -> jax.Array:
  """Returns (B, T) bool: the positions that the penalties count.

  Args:
    attention_mask: (B, T) 1 on everything that is not padding.
    token_mask: (B, T) bool, True on content: no special token, no padding.
    mask_special_tokens: leave [CLS] and [SEP] out.
    mask_padding: leave padding out. If not, padding counts up to the longest
      report of the global batch, as in the released code, which pads to it.
  """
  present = attention_mask.astype(bool)
  counted = token_mask if mask_special_tokens else present
  if not mask_padding:
    longest = jnp.max(jnp.sum(present, axis=1))
    in_reach = jnp.arange(present.shape[1])[None] < longest
    counted = counted | (~present & in_reach)
  return counted


def _entropy(z, mask, *, axis, eps) -> jax.Array:
  """Entropy of softmax(z) over the unmasked entries of an axis; 0 if none."""
  any_valid = jnp.any(mask, axis=axis, keepdims=True)
  # Rows without a valid entry see a harmless softmax and are zeroed at the
  # end: the gradient of the branch not taken must be finite too.
  z = jnp.where(mask | ~any_valid, z, _MASKED)
  if eps:
    p = jnp.where(mask, jax.nn.softmax(z, axis=axis), 0) + eps
    entropy = -jnp.sum(jnp.where(mask, p * jnp.log(p), 0), axis=axis)
  else:
    entropy: Any = _softmax_entropy(z, axis)
  return jnp.where(jnp.squeeze(any_valid, axis), entropy, 0)


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _softmax_entropy(z, axis) -> Any:
  """Entropy of softmax(z): log sum exp(z) - E[z], safe where p is 0."""
  return _softmax_entropy_forward(z, axis)[0]


def _softmax_entropy_forward(z, axis):
  top = jnp.max(z, axis=axis, keepdims=True)
  weights = jnp.exp(z - top)
  total = jnp.sum(weights, axis=axis, keepdims=True)
  mean = jnp.sum(weights * (z - top), axis=axis, keepdims=True) / total
  log_total = jnp.log(total)
  return jnp.squeeze(log_total - mean, axis), (z, top + log_total, top + mean)


def _softmax_entropy_backward(axis, residuals, gradient):
  # Written out, dH/dz = -p (z - E[z]) sums up nothing: both ways together are
  # one pass over the similarities, and only what is small is kept for it.
  z, log_total, mean = residuals
  p = jnp.exp(z - log_total)
  return (-jnp.expand_dims(gradient, axis) * p * (z - mean),)


_softmax_entropy.defvjp(_softmax_entropy_forward, _softmax_entropy_backward)


def _check(temperature, reduction, eps):
  if not temperature > 0:
    raise ValueError(f"penalty temperature is {temperature}, expected > 0")
  if reduction not in REDUCTIONS:
    raise ValueError(
      f"entropy reduction is {reduction!r}, expected one of {REDUCTIONS}"
    )
  if eps < 0:
    raise ValueError(f"entropy eps is {eps}, expected >= 0")
