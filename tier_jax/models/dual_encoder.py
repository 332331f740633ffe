"""The dual encoder: two towers, a projection head each, one joint space."""

import dataclasses
import math
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from tier_jax.models import bert, layers, resnet, vit


@dataclasses.dataclass(frozen=True)
class DualEncoderConfig:
  """Both towers and the space they meet in.

  Attributes:
    image: the image tower; with a ResNet goes BioViL's projector as its head.
    text: the text tower.
    embed_dim: D, dimension of the joint space; 128 is the paper's.
    init_logit_scale: start of the logarithm of the factor on the cosines;
      ln(1 / 0.07) is the paper's, ln 10 SigLIP's.
    init_logit_bias: start of what is added to the logits; SigLIP's is -10,
      and InfoNCE does not change with it.
    patch_dropout: share of an image's patches that a training step leaves out
      behind the tower: of mean, penalties and local loss. Drawn anew for every
      image and step. PatchDropout (Liu et al., 2023) leaves them out before it.
    merge_wordpieces: give every piece of a word the mean of their features
      before projection, and count the first alone.
  """

  image: vit.ViTConfig | resnet.ResNetConfig
  text: bert.BertConfig
  embed_dim: int = 128
  init_logit_scale: float = math.log(1 / 0.07)
  init_logit_bias: float = 0.0
  patch_dropout: float = 0.0
  merge_wordpieces: bool = False

  def __post_init__(self):
    if self.embed_dim < 1:
      raise ValueError(f"model.embed_dim is {self.embed_dim}, expected >= 1")
    if not 0 <= self.patch_dropout < 1:
      raise ValueError(
        f"model.patch_dropout is {self.patch_dropout}, expected >= 0 and < 1"
      )
    pooling = getattr(self.image, "pooling", "mean")
    if self.patch_dropout and pooling != "mean":
      raise ValueError(
        f"model.patch_dropout is {self.patch_dropout}, expected 0 with "
        f"model.image.pooling {pooling!r}, which has seen all patches"
      )


@flax.struct.dataclass
class DualEncoderOutput:
  """What a batch of pairs looks like in the joint space, all float32.

  Attributes:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows.
    patch_embeds: (B, P, D), unit over D, patches row-major.
    token_embeds: (B, T, D), unit over D, at every position.
    first_pieces: (B, T) bool, True where a position counts; False on a word's
      later pieces where words are merged.
    logit_scale: () log of the factor on the cosines.
    logit_bias: () added to the scaled cosines.
    second_image_embeds: (B, D) unit rows, of another view of each image; None
      where there is none.
  """

  image_embeds: jax.Array
  text_embeds: jax.Array
  patch_embeds: jax.Array
  token_embeds: jax.Array
  first_pieces: jax.Array
  logit_scale: jax.Array
  logit_bias: jax.Array
  second_image_embeds: jax.Array | None = None


class DualEncoder(nn.Module):
  """Image and text towers with projection heads; see `DualEncoderOutput`."""

  config: DualEncoderConfig

  def setup(self):
    config = self.config
    if isinstance(config.image, resnet.ResNetConfig):
      self.image_tower = resnet.ResNet(config.image)
      image_head = resnet.Projector
    else:
      self.image_tower = vit.ViT(config.image)
      image_head = layers.ProjectionHead
    self.text_tower = bert.Bert(config.text)
    self.image_head = image_head(config.embed_dim, config.image.dtype)
    self.text_head = layers.ProjectionHead(config.embed_dim, config.text.dtype)
    # The dtype is given: a weak-typed scalar would compile step 2 again.
    self.logit_scale = self.param(
      "logit_scale",
      nn.initializers.constant(config.init_logit_scale),
      (),
      jnp.float32,
    )
    self.logit_bias = self.param(
      "logit_bias",
      nn.initializers.constant(config.init_logit_bias),
      (),
      jnp.float32,
    )

  def __call__(
    self,
    image: jax.Array,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    word_starts: jax.Array,
    second_image: jax.Array | None = None,
    *,
    deterministic: bool = True,
  ) -> DualEncoderOutput:
    """Returns the embeddings of B pairs.

    Args:
      image: (B, H, W) uint8, or what `encode_image` takes for it.
      input_ids, attention_mask, word_starts: (B, T) int32, as
        `Tokenizer.__call__` gives them.
      second_image: (B, H, W) uint8, another view of each image.
      deterministic: no dropout, and batch norms that use their running
        statistics; otherwise the "dropout" rng is needed, and the collection
        "batch_stats" changes.
    """
    image_embeds, patch_embeds = self.encode_image(
      image, deterministic=deterministic
    )
    second_image_embeds = None
    if second_image is not None:
      second_image_embeds, _ = self.encode_image(
        second_image, deterministic=deterministic
      )
    text_embeds, token_embeds = self.encode_text(
      input_ids, attention_mask, word_starts, deterministic=deterministic
    )
    first_pieces = jnp.ones(input_ids.shape, bool)
    if self.config.merge_wordpieces:
      first_pieces = word_starts == jnp.arange(word_starts.shape[1])
    return DualEncoderOutput(
      image_embeds=image_embeds,
      text_embeds=text_embeds,
      patch_embeds=patch_embeds,
      token_embeds=token_embeds,
      first_pieces=first_pieces,
      logit_scale=self.logit_scale,
      logit_bias=self.logit_bias,
      second_image_embeds=second_image_embeds,
    )

  def encode_image(
    self, image: jax.Array, *, deterministic: bool = True
  ) -> tuple[jax.Array, jax.Array]:
    """Returns image_embeds (B, D) and patch_embeds (B, P, D).

    The image's vector is the tower's own, projected by the same head, or the
    mean of the projected patches, taken before they are normalised.

    Args:
      image: (B, H, W) uint8; or (B, P, W) float16, what the image tower gave
        for its patches before.
      deterministic: see `__call__`.
    """
    features, patches = self._project(image, deterministic)
    if features.pooled is None:
      pooled = jnp.mean(patches, axis=1)
    else:
      pooled = self.image_head(features.pooled, deterministic=deterministic)
    return layers.unit(pooled), layers.unit(patches)

  def encode_patches(self, image: jax.Array) -> jax.Array:
    """Returns the patches in the joint space as they are, (B, P, D) float32.

    Where the image's vector is their mean, the product of a patch with a text
    is what it adds to the image's, but for one factor.
    """
    return self._project(image, True)[1]

  def _project(self, image, deterministic):
    """The tower's features, and its patches in the joint space, float32."""
    if image.dtype == jnp.float16:
      features = layers.ImageFeatures(image.astype(self.config.image.dtype))
    else:
      features = self.image_tower(image, deterministic=deterministic)
    if self.config.patch_dropout and not deterministic:
      features = dataclasses.replace(
        features, patches=self._drop(features.patches)
      )
    patches = self.image_head(features.patches, deterministic=deterministic)
    return features, patches.astype(jnp.float32)

  def _drop(self, patches):
    """Some patches of each image, (B, P, W) -> (B, kept, W), shuffled."""
    kept = max(1, round((1 - self.config.patch_dropout) * patches.shape[1]))
    noise = jax.random.uniform(self.make_rng("dropout"), patches.shape[:2])
    places = jnp.argsort(noise, axis=1)[:, :kept, None]
    return jnp.take_along_axis(patches, places, axis=1)

  def encode_text(
    self,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    word_starts: jax.Array,
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
    if self.config.merge_wordpieces:
      features = average_words(features, word_starts)
    token_embeds = layers.unit(self.text_head(features))
    return token_embeds[:, 0], token_embeds


def average_words(features: jax.Array, word_starts: jax.Array) -> jax.Array:
  """Returns (B, T, W): at each position the mean over its word's pieces.

  Args:
    features: (B, T, W) of tokens.
    word_starts: (B, T) int32, equal on the pieces of one word.
  """
  same = word_starts[:, :, None] == word_starts[:, None, :]  # (B, T, T)
  share = same / jnp.sum(same, axis=2, keepdims=True, dtype=jnp.float32)
  # In float32: thirds and fifths are no bfloat16.
  return jnp.einsum("bts,bsw->btw", share, features).astype(features.dtype)


def init_variables(
  model: DualEncoder, key: jax.Array, max_length: int
) -> dict[str, Any]:
  """Returns random "params", and "batch_stats" (empty without batch norms).

  Args:
    model: whose variables they are.
    key: of the randomness.
    max_length: T of the texts.
  """
  size = model.config.image.image_size
  variables: Any = model.init(
    key,
    np.zeros((1, size, size), np.uint8),
    np.zeros((1, max_length), np.int32),
    np.ones((1, max_length), np.int32),
    np.zeros((1, max_length), np.int32),
  )
  return {
    "params": variables["params"],
    "batch_stats": variables.get("batch_stats", {}),
  }
