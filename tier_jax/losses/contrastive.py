"""Contrastive losses between image and text embeddings.

The arrays are global: under `jit` with a sharded batch every pair of the whole
batch is a negative of every other, and the compiler adds the collectives.

`positives` (B, B) bool says which of them are none: True at (i, j) where j fits
i as well as its own partner does, and on the diagonal; None is the diagonal.
"""

import jax
import jax.numpy as jnp
import optax

# Stands in for -inf under a mask; finite, so that 0 * it is 0 and not NaN.
_MASKED = -1e30


def infonce(
  image_embeds: jax.Array,
  text_embeds: jax.Array,
  logit_scale: jax.Array,
  positives: jax.Array | None = None,
) -> jax.Array:
  """Returns the symmetric InfoNCE loss over the batch, in nats.

  With several positives the target is uniform over them, so that a batch of B
  duplicates gives log B.

  Args:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows; row i belongs to image i.
    logit_scale: () log of the factor on the cosines.
    positives: (B, B) bool, see above.

  Raises:
    ValueError: if the shapes do not fit.

  Source: Radford et al., "Learning transferable visual models from natural
    language supervision", 2021, figure 3; several positives as in Yang et al.,
    "Unified contrastive learning in image-text-label space" (UniCL), 2022.
  """
  cosines = _cosines(image_embeds, text_embeds, "text_embeds")
  return symmetric_cross_entropy(jnp.exp(logit_scale) * cosines, positives)


def image_image(
  image_embeds: jax.Array,
  second_image_embeds: jax.Array,
  logit_scale: jax.Array,
  positives: jax.Array | None = None,
) -> jax.Array:
  """Returns InfoNCE from one view of each image to another, in nats.

  One direction and the scale of the image-text logits, as Palepu and Beam
  meant it; their code contrasts images with texts here.

  Args:
    image_embeds: (B, D) unit rows.
    second_image_embeds: (B, D) unit rows, of another view of each image.
    logit_scale: () log of the factor on the cosines.
    positives: (B, B) bool, see above.

  Raises:
    ValueError: if the shapes do not fit.
  """
  cosines = _cosines(image_embeds, second_image_embeds, "second_image_embeds")
  logits = jnp.exp(logit_scale) * cosines
  return jnp.mean(_cross_entropy(logits, positives))


def siglip(
  image_embeds: jax.Array,
  text_embeds: jax.Array,
  logit_scale: jax.Array,
  logit_bias: jax.Array,
  positives: jax.Array | None = None,
) -> jax.Array:
  """Returns the pairwise sigmoid loss, in nats an image.

  Every image and text is a question of its own, fitting or not: the sum over
  texts of -log sigmoid of the signed logit, then the mean over images.

  Args:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows; row i belongs to image i.
    logit_scale: () log of the factor on the cosines; starts at ln 10 there.
    logit_bias: () added to the scaled cosines; starts at -10 there.
    positives: (B, B) bool, see above.

  Raises:
    ValueError: if the shapes do not fit.

  Source: Zhai et al., "Sigmoid loss for language image pre-training", 2023,
    algorithm 1.
  """
  cosines = _cosines(image_embeds, text_embeds, "text_embeds")
  logits = jnp.exp(logit_scale) * cosines + logit_bias
  if positives is None:
    positives = jnp.eye(len(logits), dtype=bool)
  _check_positives(logits, positives)
  fits = jax.nn.log_sigmoid(jnp.where(positives, logits, -logits))
  return -jnp.mean(jnp.sum(fits, axis=1))


def same_group(row_groups: jax.Array, column_groups: jax.Array) -> jax.Array:
  """Returns (B, C) bool: where rows of (B, k) and (C, k) integers are equal."""
  return jnp.all(row_groups[:, None] == column_groups[None], axis=-1)


def symmetric_cross_entropy(
  logits_per_image: jax.Array,
  positives: jax.Array | None = None,
  valid: jax.Array | None = None,
) -> jax.Array:
  """Returns the mean of both directions' cross entropies, in nats.

  Args:
    logits_per_image: (B, B), rows are images.
    positives: (B, B) bool, see above.
    valid: (B,) bool, False where a text says nothing: that text is no
      candidate for an image, and its pair is in no mean. None is all; no
      valid text gives 0.
  """
  per_image = _cross_entropy(logits_per_image, positives, valid)
  turned = None if positives is None else positives.T
  per_text = _cross_entropy(logits_per_image.T, turned)
  if valid is None:
    return 0.5 * (jnp.mean(per_image) + jnp.mean(per_text))
  both = jnp.where(valid, per_image + per_text, 0)
  return 0.5 * jnp.sum(both) / jnp.maximum(jnp.sum(valid), 1)


def _cross_entropy(logits, positives, valid=None):
  """(B,) cross entropies of rows, over the valid columns."""
  if positives is None and valid is None:
    return optax.softmax_cross_entropy_with_integer_labels(
      logits, jnp.arange(len(logits))
    )
  if positives is None:
    positives = jnp.eye(len(logits), dtype=bool)
  _check_positives(logits, positives)
  if valid is not None:
    logits = jnp.where(valid, logits, _MASKED)
    positives &= valid
  count = jnp.maximum(jnp.sum(positives, axis=1), 1)
  fitting = jnp.sum(jnp.where(positives, logits, 0), axis=1) / count
  return jax.nn.logsumexp(logits, axis=1) - fitting


def check_embeds(left: jax.Array, right: jax.Array, right_name: str) -> None:
  """Raises ValueError unless both are (B, D); `left` is image_embeds."""
  if left.ndim != 2 or left.shape != right.shape:
    raise ValueError(
      f"image_embeds {left.shape} and {right_name} {right.shape}: expected two "
      "equal (B, D)"
    )


def _cosines(left, right, right_name):
  """(B, B) float32, rows are `left`."""
  check_embeds(left, right, right_name)
  return jnp.matmul(left, right.T, preferred_element_type=jnp.float32)


def _check_positives(logits, positives):
  if positives.shape != logits.shape:
    raise ValueError(f"positives {positives.shape}: expected {logits.shape}")
