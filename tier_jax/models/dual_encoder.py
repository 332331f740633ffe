"""The dual encoder: two towers, a projection head each, one joint space."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tier_jax.models import bert, layers, vit


@dataclasses.dataclass(frozen=True)
class DualEncoderConfig:
  """Both towers and the space they meet in.

  Attributes:
    image: the image tower.
    text: the text tower.
    embed_dim: D, dimension of the joint space; 128 is the paper's.
    init_logit_scale: start of the logarithm of the factor on the cosines;
      ln(1 / 0.07) is the paper's.
  """

  image: vit.ViTConfig
  text: bert.BertConfig
  embed_dim: int = 128
  init_logit_scale: float = math.log(1 / 0.07)

  def __post_init__(self):
    if self.embed_dim < 1:
      raise ValueError(f"model.embed_dim is {self.embed_dim}, expected >= 1")


@flax.struct.dataclass
class DualEncoderOutput:
  """What a batch of pairs looks like in the joint space, all float32.

  Attributes:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows.
    patch_embeds: (B, P, D), unit over D, patches row-major.
    token_embeds: (B, T, D), unit over D, at every position.
    logit_scale: () log of the factor on the cosines.
  """

  image_embeds: jax.Array
  text_embeds: jax.Array
  patch_embeds: jax.Array
  token_embeds: jax.Array
  logit_scale: jax.Array


class DualEncoder(nn.Module):
  """Image and text towers with projection heads; see `DualEncoderOutput`."""

  config: DualEncoderConfig

  def setup(self):
    config = self.config
    self.image_tower = vit.ViT(config.image)
    self.text_tower = bert.Bert(config.text)
    self.image_head = layers.ProjectionHead(
      config.embed_dim, config.image.dtype
    )
    self.text_head = layers.ProjectionHead(config.embed_dim, config.text.dtype)
    # The dtype is given: a weak-typed scalar would compile step 2 again.
    self.logit_scale = self.param(
      "logit_scale",
      nn.initializers.constant(config.init_logit_scale),
      (),
      jnp.float32,
    )

  def __call__(
    self,
    image: jax.Array,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    *,
    deterministic: bool = True,
  ) -> DualEncoderOutput:
    """Returns the embeddings of B pairs.

    Args:
      image: (B, H, W) uint8.
      input_ids, attention_mask: (B, T) int32.
      deterministic: no dropout; otherwise the "dropout" rng is needed.
    """
    image_embeds, patch_embeds = self.encode_image(image)
    text_embeds, token_embeds = self.encode_text(
      input_ids, attention_mask, deterministic=deterministic
    )
    return DualEncoderOutput(
      image_embeds=image_embeds,
      text_embeds=text_embeds,
      patch_embeds=patch_embeds,
      token_embeds=token_embeds,
      logit_scale=self.logit_scale,
    )

  def encode_image(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Returns image_embeds (B, D) and patch_embeds (B, P, D).

    The image's vector is the mean of its projected patches, taken before
    they are normalised.
    """
    projected = self.image_head(self.image_tower(image)).astype(jnp.float32)
    return layers.unit(jnp.mean(projected, axis=1)), layers.unit(projected)

  def encode_text(
    self,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    *,
    deterministic: bool = True,
  ) -> tuple[jax.Array, jax.Array]:
    """Returns text_embeds (B, D), of [CLS], and token_embeds (B, T, D).

    One pass gives both, unlike the released code, whose two passes drop out
    different units.
    """
    features = self.text_tower(
      input_ids, attention_mask, deterministic=deterministic
    )
    token_embeds = layers.unit(self.text_head(features))
    return token_embeds[:, 0], token_embeds


def init_params(
  model: DualEncoder, key: jax.Array, max_length: int
) -> dict[str, Any]:
  """Returns random parameters of the model for texts of `max_length`."""
  size = model.config.image.image_size
  variables: Any = model.init(
    key,
    np.zeros((1, size, size), np.uint8),
    np.zeros((1, max_length), np.int32),
    np.ones((1, max_length), np.int32),
  )
  return variables["params"]
