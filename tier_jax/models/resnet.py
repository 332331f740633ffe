"""ResNet-50 image tower and BioViL's projector, the paper's own.

Source: He et al., "Deep residual learning", 2016, in the form of torchvision
and of hi-ml's BioViL: the stride of a bottleneck is in its 3x3 convolution.
The last stage's feature map is the patches; its own pooling is left out.

In training a batch norm takes the statistics of the global batch, however it
is sharded, and moves its running ones a tenth of the way towards them, as in
PyTorch. PyTorch's running variance is the unbiased estimate, n / (n - 1) of
ours.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from tier_jax.models import layers

_STRIDE = 32  # of the last stage's feature map


@dataclasses.dataclass(frozen=True)
class ResNetConfig:
  """The image tower's shape.

  Attributes:
    tower: tells the towers' configs apart; "resnet50" here.
    image_size: side of the square input, in pixels; a multiple of 32.
    width: channels of the stem; the patches have 32 times as many.
    stage_sizes: bottlenecks in each of the four stages.
    freeze_batch_stats: use the running statistics in training too and leave
      them alone, for a frozen tower.
    mean, std: of the pixels in [0, 1]; BioViL took the pixels as they are.
    dtype: of the activations; parameters and statistics stay float32.
  """

  tower: str = "resnet50"
  image_size: int = 224
  width: int = 64
  stage_sizes: tuple[int, int, int, int] = (3, 4, 6, 3)
  freeze_batch_stats: bool = False
  mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
  std: tuple[float, float, float] = (1.0, 1.0, 1.0)
  dtype: str = "float32"

  def __post_init__(self):
    if self.tower != "resnet50":
      raise ValueError(f"image.tower is {self.tower!r}, expected 'resnet50'")
    if self.image_size < 1 or self.image_size % _STRIDE:
      raise ValueError(
        f"image.image_size is {self.image_size}, expected a multiple of "
        f"{_STRIDE}"
      )
    if self.width < 1:
      raise ValueError(f"image.width is {self.width}, expected >= 1")
    object.__setattr__(self, "stage_sizes", tuple(self.stage_sizes))
    if len(self.stage_sizes) != 4 or min(self.stage_sizes) < 1:
      raise ValueError(
        f"image.stage_sizes is {self.stage_sizes}, expected four numbers >= 1"
      )
    if not all(value > 0 for value in self.std):
      raise ValueError(f"image.std is {self.std}, expected all > 0")
    layers.check_dtype("image", self.dtype)
    object.__setattr__(self, "mean", tuple(self.mean))
    object.__setattr__(self, "std", tuple(self.std))

  @property
  def grid(self) -> tuple[int, int]:
    """Rows and columns of patches."""
    side = self.image_size // _STRIDE
    return side, side


class ResNet(nn.Module):
  """Returns `ImageFeatures` of images (B, H, W) uint8, patches row-major."""

  config: ResNetConfig

  @nn.compact
  def __call__(
    self, image: jax.Array, *, deterministic: bool = True
  ) -> layers.ImageFeatures:
    config = self.config
    if image.shape[1:] != (config.image_size, config.image_size):
      raise ValueError(
        f"image {image.shape}, expected (B, {config.image_size}, "
        f"{config.image_size})"
      )
    running = deterministic or config.freeze_batch_stats
    pixels = layers.normalise(image, config.mean, config.std)
    x = _conv(config.width, 7, 2, config.dtype, "stem")(pixels)
    x = nn.relu(_norm(running, config.dtype, "norm_stem")(x))
    pad: Any = ((1, 1), (1, 1))  # its annotation forgets numbers
    x = nn.max_pool(x, (3, 3), (2, 2), pad)  # (B, H / 4, W / 4, width)
    for i, size in enumerate(config.stage_sizes):
      x = Stage(
        config.width * 2**i,
        size,
        1 if i == 0 else 2,
        config.dtype,
        name=f"stage_{i}",
      )(x, running)
    return layers.ImageFeatures(x.reshape(x.shape[0], -1, x.shape[-1]))


class Stage(nn.Module):
  """Bottlenecks at one resolution; the first has the stride."""

  width: int
  size: int
  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, running: bool) -> jax.Array:
    for i in range(self.size):
      x = Bottleneck(
        self.width,
        self.stride if i == 0 else 1,
        self.dtype,
        name=f"bottleneck_{i}",
      )(x, running)
    return x


class Bottleneck(nn.Module):
  """1x1, 3x3 and 1x1 convolutions beside a shortcut; (B, H, W, C)."""

  width: int
  stride: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, running: bool) -> jax.Array:
    def conv_norm(x, features, size, stride, name):
      x = _conv(features, size, stride, self.dtype, f"conv_{name}")(x)
      return _norm(running, self.dtype, f"norm_{name}")(x)

    y = nn.relu(conv_norm(x, self.width, 1, 1, "1"))
    y = nn.relu(conv_norm(y, self.width, 3, self.stride, "2"))
    y = conv_norm(y, 4 * self.width, 1, 1, "3")
    if x.shape != y.shape:
      x = conv_norm(x, 4 * self.width, 1, self.stride, "shortcut")
    return nn.relu(x + y)


class Projector(nn.Module):
  """Dense, batch norm, relu, dense: BioViL's head, (..., W) -> (..., D).

  The norm's statistics are over all leading axes: images and patches.
  """

  dim: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    def dense(name, use_bias):
      dtype = jnp.dtype(self.dtype)
      return layers.Dense(self.dim, dtype, use_bias, name=name)

    x = _norm(deterministic, self.dtype, "norm")(dense("dense", False)(x))
    return dense("out", True)(nn.relu(x))


def _conv(features, size, stride, dtype, name):
  # "SAME" would pad an even input with stride 2 on one side only.
  return nn.Conv(
    features,
    (size, size),
    stride,
    padding=size // 2,
    use_bias=False,
    dtype=jnp.dtype(dtype),
    kernel_init=nn.initializers.variance_scaling(2.0, "fan_out", "normal"),
    name=name,
  )


def _norm(running, dtype, name):
  return nn.BatchNorm(
    running,
    momentum=0.9,
    epsilon=1e-5,
    dtype=jnp.dtype(dtype),
    # The fast form, mean of squares less square of mean, loses a digit in
    # float32 on pixels that are all positive.
    use_fast_variance=False,
    name=name,
  )
