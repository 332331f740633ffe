"""Contrastive losses between image and text embeddings."""

import jax
import jax.numpy as jnp
import optax


def infonce(
  image_embeds: jax.Array, text_embeds: jax.Array, logit_scale: jax.Array
) -> jax.Array:
  """Returns the symmetric InfoNCE loss over the batch, in nats.

  The arrays are global: under `jit` with a sharded batch every pair of the
  whole batch is a negative of every other, and the compiler adds the
  collectives.

  Args:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows; row i belongs to image i.
    logit_scale: () log of the factor on the cosines.

  Raises:
    ValueError: if the two shapes differ.

  Source: Radford et al., "Learning transferable visual models from natural
    language supervision", 2021, figure 3.
  """
  if image_embeds.ndim != 2 or image_embeds.shape != text_embeds.shape:
    raise ValueError(
      f"image_embeds {image_embeds.shape} and text_embeds "
      f"{text_embeds.shape}: expected two equal (B, D)"
    )
  logits_per_image = jnp.exp(logit_scale) * jnp.matmul(
    image_embeds, text_embeds.T, preferred_element_type=jnp.float32
  )  # (B, B)
  labels = jnp.arange(logits_per_image.shape[0])
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels
  return 0.5 * (
    jnp.mean(cross_entropy(logits_per_image, labels))
    + jnp.mean(cross_entropy(logits_per_image.T, labels))
  )
