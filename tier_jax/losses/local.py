"""A loss between words and regions: the baseline that TIER is compared with."""

import jax
import jax.numpy as jnp

from tier_jax.losses import contrastive

# Stands in for -inf under a mask; finite, so that 0 * it is 0 and not NaN.
_MASKED = -1e30


def local_contrastive(
  patch_embeds: jax.Array,
  token_embeds: jax.Array,
  token_mask: jax.Array,
  *,
  attention_temperature: float = 0.25,
  token_temperature: float = 0.2,
  logit_temperature: float = 0.1,
  chunk_size: int = 8,
  positives: jax.Array | None = None,
) -> jax.Array:
  """Returns a GLoRIA-style local contrastive loss over the batch, in nats.

  The cross entropies, both ways, of the logits of `local_logits`. A report
  without a counted token is no candidate for any image, and its pair is in no
  mean; the image stays a candidate for other reports.

  Args:
    patch_embeds, token_embeds, token_mask, attention_temperature,
      token_temperature, logit_temperature, chunk_size: see `local_logits`.
    positives: (B, B) bool, see `contrastive`.

  Raises:
    ValueError: if the shapes do not fit.
  """
  logits = local_logits(
    patch_embeds,
    token_embeds,
    token_mask,
    attention_temperature=attention_temperature,
    token_temperature=token_temperature,
    logit_temperature=logit_temperature,
    chunk_size=chunk_size,
  )
  return contrastive.symmetric_cross_entropy(
    logits, positives, valid=jnp.any(token_mask, axis=1)
  )


def local_logits(
  patch_embeds: jax.Array,
  token_embeds: jax.Array,
  token_mask: jax.Array,
  *,
  attention_temperature: float,
  token_temperature: float,
  logit_temperature: float,
  chunk_size: int,
) -> jax.Array:
  """Returns how well every image's patches explain every report's tokens.

  For an image and a report, each counted token attends to the patches,
  a = softmax over patches of cosine / attention_temperature. Their mean under
  `a` is the token's context, and the logit is
  log sum over tokens of exp(cos(token, context) / token_temperature), divided
  by logit_temperature. A report without a counted token has finite logits
  without a meaning.

  Args:
    patch_embeds: (B, P, D) unit over D.
    token_embeds: (B, T, D) unit over D.
    token_mask: (B, T) bool, True where a token counts.
    attention_temperature, token_temperature, logit_temperature: > 0; the
      defaults of `local_contrastive` are GLoRIA's factors 4, 5 and 10.
    chunk_size: reports at once. Memory is O(B chunk_size T P), and nothing
      else depends on it.

  Returns:
    (B, B) float32, rows are images.

  Raises:
    ValueError: if the shapes do not fit.

  Source: Huang et al., "GLoRIA: A multimodal global-local representation
    learning framework", ICCV 2021, with departures: vectors are of unit
    length before the attention, which GLoRIA's are not; one softmax, over
    patches, where GLoRIA's code takes one over tokens first; `token_mask`
    says what counts.
  """
  if (
    patch_embeds.ndim != 3
    or token_embeds.ndim != 3
    or patch_embeds.shape[::2] != token_embeds.shape[::2]
    or token_mask.shape != token_embeds.shape[:2]
  ):
    raise ValueError(
      f"patch_embeds {patch_embeds.shape}, token_embeds {token_embeds.shape} "
      f"and token_mask {token_mask.shape}: expected (B, P, D), (B, T, D) and "
      "(B, T)"
    )

  # Recomputed in the backward pass: only (B, B) outlives a chunk.
  @jax.checkpoint
  def column(report):
    tokens, mask = report  # (T, D), (T,)
    sims = jnp.einsum(
      "bpd,td->btp", patch_embeds, tokens, preferred_element_type=jnp.float32
    )
    attention = jax.nn.softmax(sims / attention_temperature, axis=-1)
    # cos(token, context) from what is there: the context's dot product with
    # the token is the mean of the similarities under the attention.
    context = jnp.einsum(
      "btp,bpd->btd",
      attention,
      patch_embeds,
      preferred_element_type=jnp.float32,
    )
    square = jnp.maximum(jnp.sum(context * context, axis=-1), 1e-12)
    cosines = jnp.sum(attention * sims, axis=-1) * jax.lax.rsqrt(square)
    scores = jnp.where(mask, cosines / token_temperature, _MASKED)  # (B, T)
    return jax.nn.logsumexp(scores, axis=-1) / logit_temperature  # (B,)

  columns = jax.lax.map(
    column, (token_embeds, token_mask), batch_size=chunk_size
  )
  return columns.T
