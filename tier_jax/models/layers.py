"""What every tower shares."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp

ACTIVATIONS = ("gelu", "gelu_tanh", "relu")
DTYPES = ("float32", "bfloat16")

# What a block keeps for its backward pass; the rest is computed again.
REMAT_POLICIES = {
  "none": jax.checkpoint_policies.everything_saveable,
  # The products with parameters, but none of the attention's (T, T).
  "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
  "full": jax.checkpoint_policies.nothing_saveable,
}


@flax.struct.dataclass
class ImageFeatures:
  """What an image tower returns, before projection.

  Attributes:
    patches: (B, P, W), row-major over the tower's grid.
    pooled: (B, W), the tower's own vector of the whole image, or None where
      the dual encoder takes the mean of the projected patches.
  """

  patches: jax.Array
  pooled: jax.Array | None = None


def activate(x: jax.Array, name: str) -> jax.Array:
  """Returns an activation of x.

  Args:
    x: any shape.
    name: "gelu" is the exact (erf) form of BERT and ViT weights, "gelu_tanh"
      the approximation that SigLIP's were trained with, "relu" the cheap one.
  """
  if name == "relu":
    return nn.relu(x)
  return nn.gelu(x, approximate=name == "gelu_tanh")


def normalise(
  image: jax.Array,
  mean: tuple[float, float, float],
  std: tuple[float, float, float],
) -> jax.Array:
  """Returns pixels (B, H, W, 3) float32 of grey images (B, H, W) uint8."""
  grey = image.astype(jnp.float32)[..., None] / 255
  return (grey - jnp.array(mean)) / jnp.array(std)


class Dense(nn.Module):
  """Returns x W + b over the last axis, as `nn.Dense` and with its parameters.

  The product is 2-D: XLA's CPU backend runs its gradient much faster.
  """

  features: int
  dtype: jnp.dtype
  use_bias: bool = True

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    kernel = self.param(
      "kernel",
      nn.initializers.lecun_normal(),
      (x.shape[-1], self.features),
      jnp.float32,
    )
    x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
    y = x.reshape(-1, x.shape[-1]) @ kernel
    y = y.reshape(*x.shape[:-1], self.features)
    if not self.use_bias:
      return y
    bias = self.param(
      "bias", nn.initializers.zeros, (self.features,), jnp.float32
    )
    if self.dtype == jnp.bfloat16:
      return _add_bias(y, bias)
    return y + bias.astype(self.dtype)


@jax.custom_vjp
def _add_bias(y, bias):
  """Returns y + bias, whose gradient the bias sums as a product with ones.

  The products' unit sums bfloat16 in float32, and on a TPU in a seventh of the
  (estimated) time of a reduction.
  """
  return y + bias.astype(y.dtype)


def _add_bias_backward(_, gradient):
  flat = gradient.reshape(-1, gradient.shape[-1])
  ones = jnp.ones((8, len(flat)), flat.dtype)  # fewer rows would be padded
  sums = jnp.matmul(ones, flat, preferred_element_type=jnp.float32)
  return gradient, sums[0]


_add_bias.defvjp(lambda y, bias: (_add_bias(y, bias), None), _add_bias_backward)


def unit(x: jax.Array, eps: float = 1e-12) -> jax.Array:
  """Returns x / |x| over the last axis, in float32.

  A zero vector stays zero and its gradient finite: the norm's square is held
  at or above `eps` before the root.
  """
  x = x.astype(jnp.float32)
  square = jnp.sum(x * x, axis=-1, keepdims=True)
  return x * jax.lax.rsqrt(jnp.maximum(square, eps))


class ProjectionHead(nn.Module):
  """Dense, gelu, layer norm, dense: the head of CXR-BERT, for either tower.

  One head serves the global vector and every patch or token, so that they
  lie in one space.
  """

  dim: int
  dtype: str

  @nn.compact
  def __call__(self, x: jax.Array, *, deterministic: bool = True) -> jax.Array:
    del deterministic  # BioViL's projector differs while training
    dtype = jnp.dtype(self.dtype)
    x = Dense(self.dim, dtype, name="dense")(x)
    x = activate(x, "gelu")
    x = nn.LayerNorm(1e-12, dtype=dtype, name="norm")(x)
    return Dense(self.dim, dtype, name="out")(x)


def run_blocks(
  tower: nn.Module,
  make_block: Callable[..., nn.Module],
  names: list[str],
  x: Any,
  *shared: Any,
  rngs: jax.Array | None = None,
  remat: str = "none",
  scan: bool = False,
) -> jax.Array:
  """Returns x after a row of equal blocks, called as block(x, rng, *shared).

  Parameters, values and dropout are the same in every setting; scanned, they
  are stacked for the length of the pass.

  Args:
    tower: whose submodules the blocks are.
    make_block: the module of one, with its `name` or `parent` as argument.
    names: of the blocks, in order.
    x: (B, T, W).
    shared: arrays that every block gets.
    rngs: (len(names),) random keys, or None.
    remat: a key of `REMAT_POLICIES`.
    scan: compile one block, and run it in a loop.
  """
  policy = REMAT_POLICIES[remat]
  if not scan or tower.is_initializing():
    for i, name in enumerate(names):
      block = make_block(name=name)
      rng = None if rngs is None else rngs[i]
      if remat == "none" or tower.is_initializing():
        x = block(x, rng, *shared)
      else:
        x = nn.remat(type(block).__call__, policy=policy)(
          block, x, rng, *shared
        )
    return x

  block = make_block(parent=None)

  def body(x, layer):
    params, rng = layer
    return block.apply({"params": params}, x, rng, *shared), None

  if remat != "none":
    # A loop needs no guard against merging the two computations.
    body = jax.checkpoint(body, policy=policy, prevent_cse=False)
  params = [tower.variables["params"][name] for name in names]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
  x, _ = jax.lax.scan(body, x, (stacked, rngs))
  return x


def check_activation(tower: str, value: str) -> None:
  """Raises ValueError unless `value` is one of `ACTIVATIONS`."""
  if value not in ACTIVATIONS:
    raise ValueError(
      f"{tower}.activation is {value!r}, expected one of {ACTIVATIONS}"
    )


def check_dtype(tower: str, value: str) -> None:
  """Raises ValueError unless `value` is one of `DTYPES`."""
  if value not in DTYPES:
    raise ValueError(f"{tower}.dtype is {value!r}, expected one of {DTYPES}")


def check_remat(tower: str, value: str) -> None:
  """Raises ValueError unless `value` is a key of `REMAT_POLICIES`."""
  if value not in REMAT_POLICIES:
    raise ValueError(
      f"{tower}.remat is {value!r}, expected one of {tuple(REMAT_POLICIES)}"
    )
