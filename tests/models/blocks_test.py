"""Scanned and rematerialised towers against the plain ones."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.models import bert, vit

pytestmark = pytest.mark.usefixtures("unoptimized")

CONFIGS = {
  "image": vit.ViTConfig(
    12, 4, width=16, depth=2, num_heads=2, mlp_dim=24, layer_scale=True
  ),
  "text": bert.BertConfig(
    20, 16, 2, 2, 32, 12, dropout_rate=0.3, attention_dropout_rate=0.2
  ),
}


def make(tower, remat="none", scan=False):
  """Returns parameters, and features with gradients as a function of them."""
  config = dataclasses.replace(CONFIGS[tower], remat=remat, scan_layers=scan)
  if tower == "image":
    model = vit.ViT(config)
    args = (np.random.default_rng(0).integers(0, 256, (2, 12, 12), np.uint8),)
  else:
    model = bert.Bert(config)
    ids = jnp.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])
    args = (ids, ids > 0)

  def loss(params):
    features = model.apply(
      params,
      *args,
      deterministic=False,
      rngs={"dropout": jax.random.key(1)},
    )
    features = getattr(features, "patches", features)
    return jnp.mean(features * jnp.cos(jnp.arange(16.0))), features

  run = jax.jit(jax.grad(loss, has_aux=True))
  return model.init(jax.random.key(0), *args), run


@functools.cache
def plain(tower):
  params, run = make(tower)
  return params, run(params)


@pytest.mark.parametrize(
  ("remat", "scan"),
  [("dots", False), ("none", True), ("full", True)],
)
@pytest.mark.parametrize("tower", CONFIGS)
def test_remat_and_scan_change_nothing(tower, remat, scan):
  """Names, first values, dropout, features and gradients stay."""
  want_params, want = plain(tower)
  params, run = make(tower, remat, scan)
  jax.tree.map(np.testing.assert_array_equal, params, want_params)
  jax.tree.map(
    functools.partial(np.testing.assert_allclose, atol=1e-6),
    run(params),
    want,
  )


def test_remat_needs_less_memory():
  sizes = []
  for remat in ("none", "full"):
    params, run = make("image", remat, scan=True)
    memory = run.lower(params).compile().memory_analysis()
    sizes.append(memory.temp_size_in_bytes)
  assert sizes[0] > sizes[1]


@pytest.mark.parametrize("tower", CONFIGS)
def test_bad_policy(tower):
  with pytest.raises(ValueError, match=f"{tower}.remat is 'some', expected"):
    dataclasses.replace(CONFIGS[tower], remat="some")
