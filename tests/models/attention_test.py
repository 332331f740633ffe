"""The attention kernel, run step by step, against XLA's attention."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax import sharding
from tier_jax.models import attention

LENGTH, WIDTH, NUM_HEADS = 13, 16, 2


def inputs(dtype):
  """Returns query, key, value, a gradient, and a mask (2, T)."""
  rng = np.random.default_rng(0)
  arrays = rng.normal(size=(4, 2, LENGTH, WIDTH))
  mask = np.arange(LENGTH) < np.array([[9], [1]])
  return [jnp.asarray(x, dtype) for x in arrays], jnp.asarray(mask)


@pytest.mark.parametrize(
  ("dtype", "atol"),
  # Probabilities are rounded at another place; 2 ** -7 is one unit at 1 to 2.
  [("float32", 2e-6), ("bfloat16", 2**-6)],
)
def test_kernel_equals_xla_with_gradients(dtype, atol):
  (*qkv, gradient), mask = inputs(dtype)

  def kernel(*qkv):
    rows = mask.astype(jnp.float32)[:, None]
    return attention.fused(*qkv, rows, NUM_HEADS, interpret=True)

  def plain(*qkv):
    return attention.attend(*qkv, NUM_HEADS, mask=mask)

  got, got_pull = jax.vjp(kernel, *qkv)
  want, want_pull = jax.vjp(plain, *(x.astype(jnp.float32) for x in qkv))
  assert got.dtype == dtype
  gradients = zip(
    got_pull(gradient), want_pull(gradient.astype(jnp.float32)), strict=True
  )
  for left, right in [(got, want), *gradients]:
    np.testing.assert_allclose(
      left.astype(jnp.float32), right, atol=atol, rtol=atol
    )


def test_kernel_leaves_masked_keys_out():
  (query, key, value, _), _ = inputs("float32")
  mask = jnp.zeros((2, 1, LENGTH)).at[:, :, 3].set(1)
  got = attention.fused(query, key, value, mask, NUM_HEADS, interpret=True)
  want = jnp.broadcast_to(value[:, 3:4], value.shape)
  np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize(
  ("kind", "dtype", "backend", "asked"),
  [
    ("fused", "bfloat16", "gpu", "cudnn"),
    ("fused", "float32", "gpu", None),  # cuDNN takes 16 bits
    ("fused", "bfloat16", "cpu", None),
    ("xla", "bfloat16", "gpu", None),
  ],
)
def test_on_gpus_fused_is_cudnn(monkeypatch, kind, dtype, backend, asked):
  (*qkv, _), _ = inputs(dtype)
  monkeypatch.setattr(jax, "default_backend", lambda: backend)
  seen = []

  def attend(query, key, value, mask, implementation):
    del key, value, mask
    seen.append(implementation)
    return query

  monkeypatch.setattr(jax.nn, "dot_product_attention", attend)
  attention.attend(*qkv, NUM_HEADS, kind=kind)
  assert seen == [asked]


def test_on_cpus_it_is_xla():
  (*qkv, _), mask = inputs("float32")

  def program(kind):
    with attention.kernels_on(sharding.make_mesh(sharding.MeshConfig())):
      return str(
        jax.make_jaxpr(
          lambda *qkv: attention.attend(*qkv, NUM_HEADS, mask=mask, kind=kind)
        )(*qkv)
      )

  assert program("fused") == program("xla")


def test_bad_kind():
  with pytest.raises(ValueError, match="text.attention is 'flash', expected"):
    attention.check_kind("text", "flash")
