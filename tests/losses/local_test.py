"""The local loss against float64 loops, and its independence of layout."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.losses import local

TEMPERATURES = {
  "attention_temperature": 0.25,
  "token_temperature": 0.2,
  "logit_temperature": 0.1,
}
# Empty reports and single tokens on purpose.
LENGTHS = (5, 0, 3, 1, 5, 2, 0, 4)


def unit(x):
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def case(seed=0, size=8, patches=6, tokens=5, dim=7):
  rng = np.random.default_rng(seed)
  return (
    unit(rng.normal(size=(size, patches, dim))),
    unit(rng.normal(size=(size, tokens, dim))),
    np.arange(tokens)[None] < np.array(LENGTHS)[:size, None],
  )


def reference_logits(patches, tokens, mask):
  """The definition again: float64, loops. nan for reports without a token."""
  logits = np.full((len(patches), len(tokens)), np.nan)
  for i, image in enumerate(patches):
    for j, (report, counted) in enumerate(zip(tokens, mask, strict=True)):
      total = 0.0
      for token in report[counted]:
        weight = np.exp(image @ token / 0.25)
        context = (weight / weight.sum()) @ image
        total += np.exp(context @ token / np.linalg.norm(context) / 0.2)
      if total:
        logits[i, j] = np.log(total) / 0.1
  return logits


def reference_loss(patches, tokens, mask, positives):
  """Empty reports are no candidates and in no mean; their images are."""
  kept = mask.any(axis=1)
  logits = reference_logits(patches, tokens, mask)
  losses = []
  for i in np.flatnonzero(kept):
    row, fits = logits[i, kept], positives[i, kept]
    losses.append(np.log(np.exp(row).sum()) - row[fits].mean())
    column, fits = logits[:, i], positives[:, i]
    losses.append(np.log(np.exp(column).sum()) - column[fits].mean())
  return np.mean(losses)


@functools.partial(jax.jit, static_argnames="chunk_size")
def loss_and_grads(patches, tokens, mask, positives=None, chunk_size=3):
  return jax.value_and_grad(local.local_contrastive, (0, 1))(
    patches, tokens, mask, chunk_size=chunk_size, positives=positives
  )


def single(arrays):
  return [
    jnp.asarray(x, np.bool_ if x.dtype == bool else np.float32) for x in arrays
  ]


def relative(got, want):
  """Norm of the difference over the norm, of all arrays together."""
  difference = [
    np.float64(x) - np.float64(y) for x, y in zip(got, want, strict=True)
  ]
  return np.sqrt(sum(np.sum(x**2) for x in difference)) / np.sqrt(
    sum(np.sum(np.float64(y) ** 2) for y in want)
  )


def test_logits_equal_float64_loops():
  arrays = case()
  got = np.asarray(
    local.local_logits(*single(arrays), **TEMPERATURES, chunk_size=3)
  )
  want = reference_logits(*arrays)
  assert np.isfinite(got).all()
  kept = np.isfinite(want)
  assert kept.any(axis=0).tolist() == [length > 0 for length in LENGTHS]
  # Logits reach 60; the two temperatures multiply rounding by 50.
  np.testing.assert_allclose(got[kept], want[kept], rtol=2e-6)


@pytest.mark.parametrize("several", [False, True], ids=["pair", "several"])
def test_loss_and_gradients_equal_float64(several):
  arrays = case()
  positives = np.eye(8, dtype=bool)
  if several:
    groups = np.array([0, 1, 2, 0, 1, 1, 3, 4])
    positives = groups[:, None] == groups
  value, grads = loss_and_grads(*single(arrays), positives if several else None)
  want = reference_loss(*arrays, positives)
  np.testing.assert_allclose(value, want, rtol=1e-5)
  h = 1e-6
  rng = np.random.default_rng(1)
  for _ in range(6):
    direction = [rng.normal(size=x.shape) for x in arrays[:2]]
    ends = [
      reference_loss(
        *(x + sign * h * d for x, d in zip(arrays[:2], direction, strict=True)),
        arrays[2],
        positives,
      )
      for sign in (1, -1)
    ]
    slope = (ends[0] - ends[1]) / (2 * h)
    got = sum(
      np.sum(np.float64(g) * d) for g, d in zip(grads, direction, strict=True)
    )
    # The gradient has a norm of tens, and sums hundreds of float32 products.
    np.testing.assert_allclose(got, slope, atol=3e-5, rtol=1e-6)


@pytest.mark.parametrize("chunk_size", [1, 2, 8, 100])
def test_the_chunk_size_changes_nothing(chunk_size):
  want, want_grads = loss_and_grads(*single(case()))
  got, grads = loss_and_grads(*single(case()), chunk_size=chunk_size)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert relative(grads, want_grads) < 1e-6


@pytest.mark.parametrize("devices", [2, 4, 8])
def test_equal_on_any_number_of_devices(devices):
  want, want_grads = loss_and_grads(*single(case()))
  mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("data",))
  rows = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("data"))
  got, grads = loss_and_grads(*jax.device_put(single(case()), rows))
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert relative(jax.device_get(grads), want_grads) < 1e-6


def test_memory_grows_with_the_chunk_and_not_with_the_batch_squared():
  size, patches, tokens, dim = 64, 32, 16, 8
  shapes = [
    jax.ShapeDtypeStruct((size, patches, dim), np.float32),
    jax.ShapeDtypeStruct((size, tokens, dim), np.float32),
    jax.ShapeDtypeStruct((size, tokens), np.bool_),
  ]
  bytes_used = {
    chunk: loss_and_grads.lower(*shapes, chunk_size=chunk)
    .compile()
    .memory_analysis()
    .temp_size_in_bytes
    for chunk in (4, 64)
  }
  assert bytes_used[4] < 8 * 4 * (size * 4 * tokens * patches)
  assert bytes_used[64] > 4 * bytes_used[4]


def test_what_does_not_count_changes_nothing():
  patches, tokens, mask = single(case())
  want, _ = loss_and_grads(patches, tokens, mask)
  other = jnp.where(mask[:, :, None], tokens, tokens[::-1])
  got, grads = loss_and_grads(patches, other, mask)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  assert not np.any(np.asarray(grads[1])[~np.asarray(mask)])
  # The image of an empty report is still a negative for the others.
  assert np.any(grads[0][1])


@pytest.mark.parametrize("tokens", ["none", "equal", "zero"])
def test_degenerate_reports_are_finite(tokens):
  patches, words, mask = single(case())
  if tokens == "none":
    mask = jnp.zeros_like(mask)
  elif tokens == "equal":
    patches, words = jnp.ones_like(patches), jnp.ones_like(words)
  else:
    patches, words = jnp.zeros_like(patches), jnp.zeros_like(words)
  value, grads = loss_and_grads(patches, words, mask)
  assert np.isfinite(value)
  assert all(np.isfinite(grad).all() for grad in grads)
  if tokens == "none":
    assert value == 0
    assert not any(np.any(grad) for grad in grads)


def test_bad_shapes_name_all():
  patches, tokens, mask = single(case())
  with pytest.raises(
    ValueError, match=r"patch_embeds \(7, 6, 7\).*\(8, 5, 7\)"
  ):
    local.local_contrastive(patches[:7], tokens, mask)
  with pytest.raises(ValueError, match=r"token_mask \(8, 4\)"):
    local.local_contrastive(patches, tokens, mask[:, 1:])
