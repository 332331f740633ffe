"""InfoNCE against closed forms and numpy."""

import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.losses import contrastive


def test_orthogonal_pairs_have_the_closed_form():
  eye = jnp.eye(4)
  scale = jnp.log(jnp.array(3.0))
  want = np.log(np.exp(3) + 3) - 3
  np.testing.assert_allclose(
    contrastive.infonce(eye, eye, scale), want, rtol=1e-5
  )


def test_equals_numpy():
  rng = np.random.default_rng(0)
  u, g = rng.normal(size=(2, 6, 5))
  u /= np.linalg.norm(u, axis=1, keepdims=True)
  g /= np.linalg.norm(g, axis=1, keepdims=True)
  z = np.exp(2.0) * u @ g.T
  rows = np.log(np.exp(z).sum(1)) - np.diag(z)
  columns = np.log(np.exp(z).sum(0)) - np.diag(z)
  got = contrastive.infonce(
    jnp.asarray(u, jnp.float32), jnp.asarray(g, jnp.float32), jnp.array(2.0)
  )
  np.testing.assert_allclose(got, (rows.mean() + columns.mean()) / 2, rtol=1e-5)


def test_shuffled_texts_cost_more():
  eye = jnp.eye(4)
  right = contrastive.infonce(eye, eye, jnp.array(1.0))
  wrong = contrastive.infonce(eye, eye[::-1], jnp.array(1.0))
  assert wrong > right


def test_bad_shapes_name_both():
  with pytest.raises(ValueError, match=r"\(4, 4\).*\(3, 4\)"):
    contrastive.infonce(jnp.eye(4), jnp.eye(4)[:3], jnp.array(0.0))
