"""Our dense layer against flax's."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.models import layers


@pytest.mark.parametrize("use_bias", [True, False])
def test_dense_is_that_of_flax(use_bias):
  x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5, 3)), jnp.float32)
  ours = layers.Dense(4, jnp.dtype("float32"), use_bias)
  theirs = nn.Dense(4, use_bias)
  params = ours.init(jax.random.key(0), x)
  jax.tree.map(
    np.testing.assert_array_equal, params, theirs.init(jax.random.key(0), x)
  )
  np.testing.assert_array_equal(ours.apply(params, x), theirs.apply(params, x))


def test_bfloat16_gradient_of_a_bias_is_summed_in_float32():
  # In bfloat16, 256 + 1 is 256: a plain sum of 1000 ones stays there.
  x = jnp.zeros((10, 100, 3), jnp.bfloat16)
  dense = layers.Dense(4, jnp.dtype("bfloat16"))
  params = dense.init(jax.random.key(0), x)

  def total(params):
    return jnp.sum(dense.apply(params, x).astype(jnp.float32))

  bias = jax.grad(total)(params)["params"]["bias"]
  assert bias.dtype == jnp.float32
  np.testing.assert_array_equal(bias, np.full(4, 1000.0))
