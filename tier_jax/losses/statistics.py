"""What the penalties do to the similarities: quantities to watch, no losses."""

import jax
import jax.numpy as jnp


def similarity_statistics(
  token_patch_sims: jax.Array, token_mask: jax.Array
) -> dict[str, jax.Array]:
  """Returns scalars that show sparsity and collapse of the similarities.

  Args:
    token_patch_sims: (B, T, P) cosine similarities.
    token_mask: (B, T) bool, True where a token counts.

  Returns:
    share_near_zero: share of |S| < 0.1 over counted tokens.
    mean_max_similarity: mean over counted tokens of the largest S.
    row_cosine: mean cosine between two tokens' rows of S in one report; near
      1 when all tokens look at the same patches, which is collapse however
      low the entropy.
    mean_log_tokens: mean over reports with two or more counted tokens of the
      log of their number: the ceiling of the patch entropy.
    excluded_reports: share of reports that are too short for the penalties.
  """
  sims = token_patch_sims.astype(jnp.float32)
  mask = token_mask[:, :, None]
  num_tokens = jnp.sum(token_mask, axis=1).astype(jnp.float32)  # (B,)
  valid = num_tokens >= 2
  total = jnp.maximum(jnp.sum(num_tokens), 1)
  num_valid = jnp.maximum(jnp.sum(valid), 1)

  norms = jnp.sqrt(jnp.sum(sims * sims, axis=2, keepdims=True))
  rows = jnp.where(mask, sims / jnp.maximum(norms, 1e-6), 0)
  # The sum over pairs of unit rows is |sum of rows|^2 less the diagonal.
  together = jnp.sum(jnp.sum(rows, axis=1) ** 2, axis=1)
  own = jnp.sum(rows * rows, axis=(1, 2))
  pairs = jnp.maximum(num_tokens * (num_tokens - 1), 1)
  row_cosine = jnp.where(valid, (together - own) / pairs, 0)

  near_zero = (jnp.abs(sims) < 0.1) & mask
  largest = jnp.where(token_mask, jnp.max(sims, axis=2), 0)
  return {
    "share_near_zero": jnp.sum(near_zero) / (total * sims.shape[2]),
    "mean_max_similarity": jnp.sum(largest) / total,
    "row_cosine": jnp.sum(row_cosine) / num_valid,
    "mean_log_tokens": (
      jnp.sum(jnp.where(valid, jnp.log(jnp.maximum(num_tokens, 1)), 0))
      / num_valid
    ),
    "excluded_reports": 1 - jnp.mean(valid.astype(jnp.float32)),
  }
