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


def dot_2d(
  lhs, rhs, dimension_numbers, precision=None, preferred_element_type=None
):
  """`lax.dot_general` for Dense on (..., W), by way of a 2-D product.

  XLA's CPU backend runs the gradient of the 2-D form much faster; on
  accelerators the reshape costs nothing.
  """
  flat = lhs.reshape(-1, lhs.shape[-1])
  out = jax.lax.dot_general(
    flat,
    rhs,
    (((1,), (0,)), ((), ())),
    precision=precision,
    preferred_element_type=preferred_element_type,
  )
  return out.reshape(*lhs.shape[:-1], rhs.shape[-1])


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
    x = nn.Dense(self.dim, dtype=dtype, name="dense", dot_general=dot_2d)(x)
    x = activate(x, "gelu")
    x = nn.LayerNorm(1e-12, dtype=dtype, name="norm")(x)
    return nn.Dense(self.dim, dtype=dtype, name="out", dot_general=dot_2d)(x)


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
