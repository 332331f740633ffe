"""Vision Transformer image tower.

Source: Dosovitskiy et al., "An image is worth 16x16 words", 2021 (pre-norm
blocks, learned positions); sizes Ti and S from Touvron et al., DeiT, 2021.
There is no class token: the dual encoder pools projected patches.
"""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from tier_jax.models import layers

# variant: width, depth, num_heads, mlp_dim
VARIANTS = {
  "Ti": (192, 12, 3, 768),
  "S": (384, 12, 6, 1536),
  "B": (768, 12, 12, 3072),
}


@dataclasses.dataclass(frozen=True)
class ViTConfig:
  """The image tower's shape.

  Attributes:
    image_size: side of the square input, in pixels.
    patch_size: side of a patch; must divide `image_size`.
    variant: "Ti", "S" or "B" fills in the four sizes that are left at 0.
    width, depth, num_heads, mlp_dim: sizes of the Transformer.
    activation: "gelu" is the exact (erf) form, which pretrained weights need;
      "relu" is faster on CPUs, for towers trained from scratch.
    layer_norm_eps: 1e-6 as in the paper's code; Hugging Face ViT has 1e-12.
    mean, std: of the pixels in [0, 1]; what the weights were trained with.
    dtype: of the activations; parameters and norms stay float32.
  """

  image_size: int = 224
  patch_size: int = 16
  variant: str = ""
  width: int = 0
  depth: int = 0
  num_heads: int = 0
  mlp_dim: int = 0
  activation: str = "gelu"
  layer_norm_eps: float = 1e-6
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  dtype: str = "float32"

  def __post_init__(self):
    if self.variant and self.variant not in VARIANTS:
      raise ValueError(
        f"image.variant is {self.variant!r}, expected one of "
        f"{', '.join(VARIANTS)} or none"
      )
    fields = ("width", "depth", "num_heads", "mlp_dim")
    for field, value in zip(
      fields, VARIANTS.get(self.variant, (0,) * 4), strict=True
    ):
      if not getattr(self, field):
        object.__setattr__(self, field, value)
      if getattr(self, field) < 1:
        raise ValueError(
          f"image.{field} is {getattr(self, field)}, expected >= 1 or a variant"
        )
    for field in ("image_size", "patch_size"):
      if getattr(self, field) < 1:
        raise ValueError(
          f"image.{field} is {getattr(self, field)}, expected >= 1"
        )
    if not all(value > 0 for value in self.std):
      raise ValueError(f"image.std is {self.std}, expected all > 0")
    if self.image_size % self.patch_size:
      raise ValueError(
        f"image.image_size {self.image_size} is not a multiple of "
        f"image.patch_size {self.patch_size}"
      )
    if self.width % self.num_heads:
      raise ValueError(
        f"image.width {self.width} is not a multiple of image.num_heads "
        f"{self.num_heads}"
      )
    layers.check_activation("image", self.activation)
    layers.check_dtype("image", self.dtype)
    object.__setattr__(self, "mean", tuple(self.mean))
    object.__setattr__(self, "std", tuple(self.std))

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    side = self.image_size // self.patch_size
    return side, side


class ViT(nn.Module):
  """Returns `ImageFeatures` of images (B, H, W) uint8.

  Patches are row-major over the grid; the final norm applies to each.
  """

  config: ViTConfig

  @nn.compact
  def __call__(
    self, image: jax.Array, *, deterministic: bool = True
  ) -> layers.ImageFeatures:
    del deterministic  # nothing here differs while training
    config = self.config
    if image.shape[1:] != (config.image_size, config.image_size):
      raise ValueError(
        f"image {image.shape}, expected (B, {config.image_size}, "
        f"{config.image_size})"
      )
    dtype = jnp.dtype(config.dtype)
    pixels = normalise(image, config.mean, config.std)
    patches = patchify(pixels, config.patch_size)  # (B, P, 3 * patch ** 2)
    x = nn.Dense(
      config.width, dtype=dtype, name="patch_embed", dot_general=layers.dot_2d
    )(patches)
    # As large as the patches' own embeddings, like the sine-cosine form of
    # Beyer et al., 2022: from scratch, small ones are learnt much more slowly.
    x += self.param(
      "position_embed",
      nn.initializers.normal(0.5),
      (1, x.shape[1], config.width),
    ).astype(dtype)
    for i in range(config.depth):
      x = Block(config, name=f"block_{i}")(x)
    x = nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name="norm")(x)
    return layers.ImageFeatures(x)


class Block(nn.Module):
  """Pre-norm Transformer block."""

  config: ViTConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config = self.config
    dtype = jnp.dtype(config.dtype)

    def dense(features, name):
      return nn.Dense(
        features, dtype=dtype, name=name, dot_general=layers.dot_2d
      )

    def norm(name):
      return nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name=name)

    def heads(y):
      return y.reshape(*y.shape[:2], config.num_heads, -1)  # (B, P, H, W / H)

    y = norm("norm_attention")(x)
    y = jax.nn.dot_product_attention(
      *(
        heads(dense(config.width, name)(y))
        for name in ("query", "key", "value")
      )
    )
    x += dense(config.width, "attention_out")(y.reshape(x.shape))

    y = norm("norm_mlp")(x)
    y = layers.activate(dense(config.mlp_dim, "mlp_in")(y), config.activation)
    return x + dense(config.width, "mlp_out")(y)


def normalise(image: jax.Array, mean, std) -> jax.Array:
  """Returns pixels (B, H, W, 3) float32 of grey images (B, H, W) uint8."""
  grey = image.astype(jnp.float32)[..., None] / 255
  return (grey - jnp.array(mean)) / jnp.array(std)


def patchify(pixels: jax.Array, patch_size: int) -> jax.Array:
  """Returns (B, P, patch_size ** 2 * C): non-overlapping patches, flattened."""
  b, h, w, c = pixels.shape
  p = patch_size
  x = pixels.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, (h // p) * (w // p), p * p * c)
