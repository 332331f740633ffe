"""FLOPs of products, against counting by hand."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import pallas as pl

from tier_jax import flops, sharding


def traced(f, *shapes):
  args = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
  return jax.jit(f).trace(*args).jaxpr


def test_products_count_two_a_multiplication_and_nothing_else_counts():
  def f(a, b):
    return jnp.sum(jnp.tanh(jnp.einsum("bij,bjk->bik", a, b)) + 1)

  assert flops.count(traced(f, (5, 2, 3), (5, 3, 4))) == 2 * 5 * 2 * 3 * 4


def test_a_scan_counts_each_turn_and_its_gradient_twice_as_much_again():
  def f(x, w):
    return jnp.sum(jax.lax.scan(lambda x, w: (x @ w, None), x, w)[0])

  once = 2 * 3 * 8 * 8
  assert flops.count(traced(f, (3, 8), (7, 8, 8))) == 7 * once
  both = jax.grad(f, argnums=(0, 1))
  assert flops.count(traced(both, (3, 8), (7, 8, 8))) == 3 * 7 * once


def test_what_is_done_again_counts_again():
  @jax.checkpoint
  def layer(x, w):
    return jnp.sin(jnp.sin(x @ w) @ w)

  def f(x, w):
    return jnp.sum(layer(x, w))

  once = 2 * 3 * 8 * 8
  count = flops.count(traced(jax.grad(f), (3, 8), (8, 8)))
  assert count == (2 + 2 + 2) * once  # forward, again, input gradients


@pytest.mark.parametrize("stride", [1, 2])
def test_a_convolution_and_its_gradients(stride):
  convolve = functools.partial(
    jax.lax.conv_general_dilated,
    window_strides=(stride, stride),
    padding="SAME",
    dimension_numbers=("NHWC", "HWIO", "NHWC"),
  )

  def f(x, w):
    return jnp.sum(convolve(x, w) ** 2)

  side = 8 // stride
  once = 2 * 4 * side * side * 3 * 3 * 5 * 6
  shapes = (4, 8, 8, 5), (3, 3, 5, 6)
  assert flops.count(traced(f, *shapes)) == once
  both = jax.grad(f, argnums=(0, 1))
  assert flops.count(traced(both, *shapes)) == 3 * once


def test_inside_shard_map_all_devices_count():
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:4])
  f = jax.shard_map(
    lambda x, w: x @ w,
    mesh=mesh,
    in_specs=(jax.P("data"), jax.P()),
    out_specs=jax.P("data"),
  )
  assert flops.count(traced(f, (8, 3), (3, 5))) == 2 * 8 * 3 * 5


def test_a_kernel_counts_at_each_point_of_its_grid():
  def kernel(x, w, out):
    out[0] = x[0] @ w[...]

  def f(x, w):
    return pl.pallas_call(
      kernel,
      grid=(6,),
      in_specs=[
        pl.BlockSpec((1, 8, 16), lambda i: (i, 0, 0)),
        pl.BlockSpec((16, 4), lambda i: (0, 0)),
      ],
      out_specs=pl.BlockSpec((1, 8, 4), lambda i: (i, 0, 0)),
      out_shape=jax.ShapeDtypeStruct((6, 8, 4), "float32"),
    )(x, w)

  assert flops.count(traced(f, (6, 8, 16), (16, 4))) == 6 * 2 * 8 * 16 * 4


@pytest.mark.parametrize(
  ("kind", "peak"),
  [
    ("NVIDIA H100 80GB HBM3", 989e12),
    ("NVIDIA A100-SXM4-80GB", 312e12),
    ("TPU v4", 275e12),
    ("TPU v5 lite", 197e12),
    ("TPU v5p", 459e12),
    ("TPU v6e", 918e12),
    ("TPU v4 lite", None),  # another chip
    ("cpu", None),
  ],
)
def test_a_peak_is_that_of_the_very_device(kind, peak):
  assert flops.peak(kind) == peak
