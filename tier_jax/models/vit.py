"""Vision Transformer image tower: plain, DINOv2's or SigLIP's.

Source: Dosovitskiy et al., "An image is worth 16x16 words", 2021 (pre-norm
blocks, learned positions); sizes Ti and S from Touvron et al., DeiT, 2021,
So400m from Alabdulmohsin et al., "Getting ViT in shape", 2023. LayerScale:
Touvron et al., CaiT, 2021. Registers: Darcet et al., 2024. Attention pooling:
Zhai et al., "Scaling vision transformers", 2022, as SigLIP has it.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tier_jax.models import attention, layers

# variant: width, depth, num_heads, mlp_dim
VARIANTS = {
  "Ti": (192, 12, 3, 768),
  "S": (384, 12, 6, 1536),
  "B": (768, 12, 12, 3072),
  "L": (1024, 24, 16, 4096),
  "So400m": (1152, 27, 16, 4304),
}
POOLINGS = ("mean", "class", "map")


@dataclasses.dataclass(frozen=True)
class ViTConfig:
  """The image tower's shape.

  Attributes:
    image_size: side of the square input, in pixels.
    patch_size: side of a patch; must divide `image_size`.
    variant: "Ti", "S", "B", "L" or "So400m" fills in the four sizes that are
      left at 0.
    width, depth, num_heads, mlp_dim: sizes of the Transformer.
    class_token: one more token, in front, with a position of its own.
    num_registers: further tokens after that one, without positions.
    layer_scale: a learned factor on each channel of every branch.
    pooling: what stands for the whole image. "mean": nothing here, the dual
      encoder takes the mean of the projected patches; "class": the class
      token; "map": attention from a learned query over the patches.
    activation: "gelu" is the exact (erf) form, which ViT and DINOv2 weights
      need, "gelu_tanh" SigLIP's; "relu" is faster on CPUs, for towers trained
      from scratch.
    layer_norm_eps: 1e-6 as in the paper's code; Hugging Face ViT has 1e-12.
    mean, std: of the pixels in [0, 1]; what the weights were trained with.
    dtype: of the activations; parameters and norms stay float32.
    attention: of the blocks, see `attention.attend`.
    remat: what a block computes again in the backward pass: "none" nothing,
      "dots" all but its products with parameters, "full" everything.
    scan_layers: compile one block and loop over it; with `remat` it takes the
      least memory, and compiles fastest.
    tower: tells the towers' configs apart; "vit" here.
  """

  image_size: int = 224
  patch_size: int = 16
  variant: str = ""
  width: int = 0
  depth: int = 0
  num_heads: int = 0
  mlp_dim: int = 0
  class_token: bool = False
  num_registers: int = 0
  layer_scale: bool = False
  pooling: str = "mean"
  activation: str = "gelu"
  layer_norm_eps: float = 1e-6
  mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
  std: tuple[float, float, float] = (0.229, 0.224, 0.225)
  dtype: str = "float32"
  attention: str = "xla"
  remat: str = "none"
  scan_layers: bool = False
  tower: str = "vit"

  def __post_init__(self):
    if self.tower != "vit":
      raise ValueError(f"image.tower is {self.tower!r}, expected 'vit'")
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
    if self.num_registers < 0:
      raise ValueError(
        f"image.num_registers is {self.num_registers}, expected >= 0"
      )
    if self.pooling not in POOLINGS:
      raise ValueError(
        f"image.pooling is {self.pooling!r}, expected one of {POOLINGS}"
      )
    if self.pooling == "class" and not self.class_token:
      raise ValueError(
        "image.pooling is 'class', expected image.class_token True or another"
      )
    if not all(value > 0 for value in self.std):
      raise ValueError(f"image.std is {self.std}, expected all > 0")
    if self.image_size % self.patch_size:
      # so400m-patch14-384 is such a name: its weights are of 378 pixels.
      low = self.image_size // self.patch_size * self.patch_size
      sizes = f"{low} or {low + self.patch_size}" if low else self.patch_size
      raise ValueError(
        f"image.image_size {self.image_size} is not a multiple of "
        f"image.patch_size {self.patch_size}, expected {sizes}"
      )
    if self.width % self.num_heads:
      raise ValueError(
        f"image.width {self.width} is not a multiple of image.num_heads "
        f"{self.num_heads}"
      )
    layers.check_activation("image", self.activation)
    layers.check_dtype("image", self.dtype)
    layers.check_remat("image", self.remat)
    attention.check_kind("image", self.attention)
    object.__setattr__(self, "mean", tuple(self.mean))
    object.__setattr__(self, "std", tuple(self.std))

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    side = self.image_size // self.patch_size
    return side, side


class ViT(nn.Module):
  """Returns `ImageFeatures` of images (B, H, W) uint8.

  Patches are row-major over the grid; the final norm applies to each. Class
  token and registers are none of them.
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
    pixels = layers.normalise(image, config.mean, config.std)
    patches = patchify(pixels, config.patch_size)  # (B, P, 3 * patch ** 2)
    x = layers.Dense(config.width, dtype, name="patch_embed")(patches)
    num_patches = x.shape[1]
    if config.class_token:
      x = jnp.concatenate([self._tokens("class_token", 1, x), x], axis=1)
    # As large as the patches' own embeddings, like the sine-cosine form of
    # Beyer et al., 2022: from scratch, small ones are learnt much more slowly.
    x += self.param(
      "position_embed",
      nn.initializers.normal(0.5),
      (1, x.shape[1], config.width),
    ).astype(dtype)
    if config.num_registers:
      registers = self._tokens("registers", config.num_registers, x)
      x = jnp.concatenate(
        [x[:, :-num_patches], registers, x[:, -num_patches:]], axis=1
      )
    x = layers.run_blocks(
      self,
      functools.partial(Block, config),
      [f"block_{i}" for i in range(config.depth)],
      x,
      remat=config.remat,
      scan=config.scan_layers,
    )
    x = nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name="norm")(x)
    patches = x[:, -num_patches:]
    if config.pooling == "mean":
      return layers.ImageFeatures(patches)
    if config.pooling == "class":
      return layers.ImageFeatures(patches, x[:, 0])
    return layers.ImageFeatures(
      patches, AttentionPool(config, name="pool")(patches)
    )

  def _tokens(self, name, count, x):
    """Learned tokens (B, count, W), the same for every image."""
    tokens = self.param(
      name, nn.initializers.normal(0.02), (1, count, x.shape[2])
    )
    return jnp.broadcast_to(tokens, (x.shape[0], *tokens.shape[1:])).astype(
      x.dtype
    )


class Block(nn.Module):
  """Pre-norm Transformer block."""

  config: ViTConfig

  @nn.compact
  def __call__(self, x: jax.Array, rng: None = None) -> jax.Array:
    del rng  # nothing here is random
    config = self.config
    dtype = jnp.dtype(config.dtype)

    def dense(features, name):
      return layers.Dense(features, dtype, name=name)

    def norm(name):
      return nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name=name)

    def scale(name, y):
      if not config.layer_scale:
        return y
      # DINOv2 and CaiT start so small, and each block near the identity.
      start = nn.initializers.constant(1e-5)
      return y * self.param(name, start, (config.width,)).astype(dtype)

    y = norm("norm_attention")(x)
    y = attention.attend(
      *(dense(config.width, name)(y) for name in ("query", "key", "value")),
      num_heads=config.num_heads,
      kind=config.attention,
    )
    y = dense(config.width, "attention_out")(y)
    x += scale("scale_attention", y)

    y = norm("norm_mlp")(x)
    y = layers.activate(dense(config.mlp_dim, "mlp_in")(y), config.activation)
    return x + scale("scale_mlp", dense(config.width, "mlp_out")(y))


class AttentionPool(nn.Module):
  """Returns (B, W) of features (B, P, W): a learned query's look at them."""

  config: ViTConfig

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    config = self.config
    dtype = jnp.dtype(config.dtype)

    def dense(features, name):
      return layers.Dense(features, dtype, name=name)

    def heads(y):
      return y.reshape(*y.shape[:2], config.num_heads, -1)

    probe = self.param(
      "probe", nn.initializers.xavier_uniform(), (1, 1, config.width)
    )
    probe = jnp.broadcast_to(probe, (x.shape[0], 1, config.width))
    y = jax.nn.dot_product_attention(
      heads(dense(config.width, "query")(probe)),
      heads(dense(config.width, "key")(x)),
      heads(dense(config.width, "value")(x)),
    )
    x = dense(config.width, "attention_out")(y.reshape(probe.shape))[:, 0]
    y = nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name="norm_mlp")(x)
    y = layers.activate(dense(config.mlp_dim, "mlp_in")(y), config.activation)
    return x + dense(config.width, "mlp_out")(y)


def patchify(pixels: jax.Array, patch_size: int) -> jax.Array:
  """Returns (B, P, patch_size ** 2 * C): non-overlapping patches, flattened."""
  b, h, w, c = pixels.shape
  p = patch_size
  x = pixels.reshape(b, h // p, p, w // p, p, c).transpose(0, 1, 3, 2, 4, 5)
  return x.reshape(b, (h // p) * (w // p), p * p * c)
