"""Contrastive losses against closed forms and float64 loops."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.losses import contrastive

# Pairs 0 and 3 say the same, and so do 1, 4 and 5.
GROUPS = np.array([0, 1, 2, 0, 1, 1])


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def case(seed=0, size=6, dim=5):
  return unit(np.random.default_rng(seed).normal(size=(2, size, dim)))


def cross_entropy(logits, positives):
  """Mean over rows of -log p, itself a mean over the row's positives."""
  rows = []
  for row, fits in zip(logits, positives, strict=True):
    log_p = row - np.log(np.sum(np.exp(row)))
    rows.append(
      -np.mean([x for x, fit in zip(log_p, fits, strict=True) if fit])
    )
  return np.mean(rows)


def infonce(images, texts, scale, positives):
  logits = np.exp(scale) * images @ texts.T
  return (
    cross_entropy(logits, positives) + cross_entropy(logits.T, positives.T)
  ) / 2


def image_image(images, others, scale, positives):
  return cross_entropy(np.exp(scale) * images @ others.T, positives)


def siglip(images, texts, scale, bias, positives):
  total = 0.0
  for i, image in enumerate(images):
    for j, text in enumerate(texts):
      z = 1 if positives[i, j] else -1
      logit = np.exp(scale) * image @ text + bias
      total += np.log(1 + np.exp(-z * logit))
  return total / len(images)


LOSSES = {
  "infonce": (contrastive.infonce, infonce, (2.0,)),
  "image_image": (contrastive.image_image, image_image, (2.0,)),
  "siglip": (contrastive.siglip, siglip, (1.5, -4.0)),
}


@pytest.mark.parametrize("several", [False, True], ids=["pair", "several"])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_equal_float64(name, several):
  ours, reference, numbers = LOSSES[name]
  inputs = [*case(), *map(np.float64, numbers)]
  positives = (GROUPS[:, None] == GROUPS) if several else np.eye(6, dtype=bool)
  given = jnp.asarray(positives) if several else None
  value, grads = jax.jit(
    jax.value_and_grad(
      lambda *args: ours(*args, positives=given), tuple(range(len(inputs)))
    )
  )(*(jnp.asarray(x, jnp.float32) for x in inputs))
  want = reference(*inputs, positives)
  np.testing.assert_allclose(value, want, rtol=1e-6)
  h = 1e-5
  for k, (x, grad) in enumerate(zip(inputs, grads, strict=True)):
    slopes = np.zeros(np.shape(x))
    for index in np.ndindex(slopes.shape):
      ends = []
      for sign in (1, -1):
        moved = [np.array(y) for y in inputs]
        moved[k][index] += sign * h
        ends.append(reference(*moved, positives))
      slopes[index] = (ends[0] - ends[1]) / (2 * h)
    np.testing.assert_allclose(grad, slopes, atol=2e-6, rtol=1e-5)


def test_orthogonal_pairs_have_the_closed_form():
  eye = jnp.eye(4)
  scale = jnp.log(jnp.array(3.0))
  want = np.log(np.exp(3) + 3) - 3
  np.testing.assert_allclose(
    contrastive.infonce(eye, eye, scale), want, rtol=1e-5
  )


@pytest.mark.parametrize("scale", [0.0, 3.0])
def test_a_batch_of_duplicates_has_the_closed_form(scale):
  size, bias = 7, -2.0
  rows = jnp.tile(jnp.asarray(case()[0, :1], jnp.float32), (size, 1))
  everything = jnp.ones((size, size), bool)
  for loss in (contrastive.infonce, contrastive.image_image):
    value, grad = jax.value_and_grad(loss)(
      rows, rows, jnp.array(scale), everything
    )
    np.testing.assert_allclose(value, np.log(size), rtol=1e-6)
    np.testing.assert_allclose(grad, 0, atol=1e-6)  # none is pushed away
  got = contrastive.siglip(
    rows, rows, jnp.array(scale), jnp.array(bias), everything
  )
  want = size * np.log1p(np.exp(-(np.exp(scale) + bias)))
  np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("name", LOSSES)
def test_the_diagonal_is_what_no_positives_mean(name):
  ours, _, numbers = LOSSES[name]
  images, texts = jnp.asarray(case(), jnp.float32)
  want = ours(images, texts, *map(jnp.float32, numbers))
  got = ours(
    images, texts, *map(jnp.float32, numbers), positives=jnp.eye(6, dtype=bool)
  )
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_shuffled_partners_cost_more(name):
  ours, _, numbers = LOSSES[name]
  eye = jnp.eye(4)
  right = ours(eye, eye, *map(jnp.float32, numbers))
  assert ours(eye, eye[::-1], *map(jnp.float32, numbers)) > right + 0.1


def test_same_group():
  hashes = jnp.array([[1, 2], [1, 3], [2, 2], [1, 2]], jnp.uint32)
  assert np.asarray(contrastive.same_group(hashes, hashes), int).tolist() == [
    [1, 0, 0, 1],
    [0, 1, 0, 0],
    [0, 0, 1, 0],
    [1, 0, 0, 1],
  ]


def test_bad_shapes_name_both():
  scale = jnp.array(0.0)
  with pytest.raises(ValueError, match=r"\(4, 4\) and text_embeds \(3, 4\)"):
    contrastive.infonce(jnp.eye(4), jnp.eye(4)[:3], scale)
  with pytest.raises(ValueError, match=r"second_image_embeds \(3, 4\)"):
    contrastive.image_image(jnp.eye(4), jnp.eye(4)[:3], scale)
  for loss, more in ((contrastive.infonce, ()), (contrastive.siglip, (scale,))):
    with pytest.raises(ValueError, match=r"positives \(3, 3\).*\(4, 4\)"):
      loss(jnp.eye(4), jnp.eye(4), scale, *more, jnp.eye(3, dtype=bool))
