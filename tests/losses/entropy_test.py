"""The penalties against golden values, float64 loops and their properties."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.losses import entropy, objective
from tier_jax.models import layers

# Compiled whole: op by op, every new shape would compile every op.
entropies = jax.jit(
  entropy.similarity_entropies,
  static_argnames=("temperature", "reduction", "eps", "normalize"),
)


def reference(
  sims, mask, tau=1.0, reduction="per_report", eps=0.0, normalize=False
):
  """The definition again: float64, loops, no trick."""
  reports, patches = [], []
  for s, m in zip(np.asarray(sims, np.float64), mask, strict=True):
    kept = s[np.asarray(m, bool)] / tau
    if len(kept) < 2:
      continue

    def row_entropy(z):
      p = np.exp(z) / np.exp(z).sum() + eps
      return -(p * np.log(p)).sum()

    over_patches = np.log(kept.shape[1]) if normalize else 1
    over_tokens = np.log(len(kept)) if normalize else 1
    reports.append([row_entropy(row) / over_patches for row in kept])
    patches.append(
      np.mean([row_entropy(column) / over_tokens for column in kept.T])
    )
  if not reports:
    return 0.0, 0.0
  if reduction == "per_report":
    token = np.mean([np.mean(rows) for rows in reports])
  else:
    token = np.mean(list(itertools.chain(*reports)))
  return token, np.mean(patches)


def golden_sims():
  n, t, p = np.meshgrid(range(2), range(3), range(4), indexing="ij")
  return jnp.asarray(np.cos(0.7 * n + 1.3 * t - 0.9 * p), jnp.float32)


def random_case(seed=0, shape=(5, 7, 6), lengths=(7, 3, 2, 1, 0)):
  rng = np.random.default_rng(seed)
  sims = jnp.asarray(rng.uniform(-1, 1, shape), jnp.float32)
  mask = jnp.arange(shape[1])[None] < jnp.array(lengths)[:, None]
  return sims, mask


ALL = np.ones((2, 3), bool)
RAGGED = np.array([[1, 1, 1], [1, 1, 0]], bool)


# The golden values of the method's specification, section 10.8.
@pytest.mark.parametrize(
  ("mask", "options", "token", "patch"),
  [
    (ALL, {"eps": 1e-7, "reduction": "per_token"}, 1.2364889407, 0.9458399166),
    (ALL, {}, 1.2364887173, 0.9458398337),
    (RAGGED, {}, 1.2605378567, 0.7743495125),
    (RAGGED, {"reduction": "per_token"}, 1.2553628868, 0.7743495125),
  ],
)
def test_golden_values(mask, options, token, patch):
  got = entropies(golden_sims(), jnp.array(mask), **options)
  np.testing.assert_allclose(got, (token, patch), atol=1e-6, rtol=0)


@pytest.mark.parametrize("reduction", entropy.REDUCTIONS)
@pytest.mark.parametrize("tau", [1.0, 0.07])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
@pytest.mark.parametrize("normalize", [False, True])
def test_equals_float64_loops(reduction, tau, eps, normalize):
  sims, mask = random_case()
  got = entropies(
    sims,
    mask,
    temperature=tau,
    reduction=reduction,
    eps=eps,
    normalize=normalize,
  )
  want = reference(sims, mask, tau, reduction, eps, normalize)
  np.testing.assert_allclose(got, want, rtol=1e-5)


@pytest.mark.parametrize("num_patches", [1, 4, 49, 196, 1369])
@pytest.mark.parametrize("value", [-1.0, 0.0, 0.3])
def test_uniform_similarity_gives_the_logs(num_patches, value):
  sims = jnp.full((2, 5, num_patches), value)
  token, patch = entropies(sims, jnp.ones((2, 5), bool))
  np.testing.assert_allclose(token, math.log(num_patches), atol=2e-6)
  np.testing.assert_allclose(patch, math.log(5), atol=1e-6)


@pytest.mark.parametrize("num_patches", [49, 196, 1369])
def test_temperature_one_leaves_little_room(num_patches):
  # The lowest entropy that cosines allow: a fifth at +1, the rest at -1.
  k = round(0.2046 * num_patches)
  row = jnp.where(jnp.arange(num_patches) < k, 1.0, -1.0)
  extreme = jnp.tile(row, (1, 2, 1))
  both = jnp.ones((1, 2), bool)
  low, _ = entropies(extreme, both)
  assert math.log(num_patches) - 0.4746 <= low
  assert low <= math.log(num_patches) - 0.474 + 2e-3
  rng = np.random.default_rng(num_patches)
  for _ in range(20):
    signs = rng.choice([-1.0, 1.0], (1, 2, num_patches))
    sims = jnp.asarray(signs * rng.uniform(0, 1, signs.shape) ** 0.2)
    token, _ = entropies(sims, both)
    assert math.log(num_patches) - 0.4746 <= token
    assert token <= math.log(num_patches) + 2e-6


def test_padding_patch_order_and_batch_order_change_nothing():
  sims, mask = random_case()
  want = entropies(sims, mask)
  rng = np.random.default_rng(1)
  longer = jnp.concatenate([sims, jnp.full((5, 9, 6), 0.77)], axis=1)
  longer_mask = jnp.concatenate([mask, jnp.zeros((5, 9), bool)], axis=1)
  patches, reports = rng.permutation(6), rng.permutation(5)
  for got in (
    entropies(longer, longer_mask),
    entropies(sims[:, :, patches], mask),
    entropies(sims[reports], mask[reports]),
  ):
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_adding_a_constant_to_a_row_keeps_its_entropy():
  sims, mask = random_case()
  shifts = jnp.asarray(np.random.default_rng(2).uniform(-3, 3, (5, 7, 1)))
  got, _ = entropies(sims + shifts, mask)
  want, _ = entropies(sims, mask)
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
  "case", ["plus_minus_one", "equal", "empty_report", "all_empty", "one_token"]
)
@pytest.mark.parametrize("tau", [1.0, 0.01])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
def test_gradients_are_finite(case, tau, eps):
  sims, mask = random_case()
  if case == "plus_minus_one":
    sims = jnp.sign(sims)
  elif case == "equal":
    sims = jnp.full_like(sims, 0.5)
  elif case == "all_empty":
    mask = jnp.zeros_like(mask)
  elif case == "one_token":
    mask = jnp.zeros_like(mask).at[:, 0].set(True)

  def total(sims):
    return sum(entropies(sims, mask, temperature=tau, eps=eps))

  value, grad = jax.jit(jax.value_and_grad(total))(sims)
  assert np.isfinite(value)
  assert np.isfinite(grad).all()
  if case in ("all_empty", "one_token"):
    assert value == 0
    assert not np.any(grad)


@pytest.mark.parametrize("place", ["token", "patch", "both"])
def test_gradients_are_finite_through_zero_vectors(place):
  rng = np.random.default_rng(3)
  tokens = jnp.asarray(rng.normal(size=(2, 4, 8)), jnp.float32)
  patches = jnp.asarray(rng.normal(size=(2, 5, 8)), jnp.float32)
  if place in ("token", "both"):
    tokens = tokens.at[0, 1].set(0)
  if place in ("patch", "both"):
    patches = patches.at[1, 2].set(0)

  def total(tokens, patches):
    sims = jnp.einsum("btd,bpd->btp", layers.unit(tokens), layers.unit(patches))
    return sum(entropies(sims, jnp.ones((2, 4), bool)))

  value, grads = jax.jit(jax.value_and_grad(total, (0, 1)))(tokens, patches)
  assert np.isfinite(value)
  assert all(np.isfinite(grad).all() for grad in grads)
  assert any(np.any(grad) for grad in grads)


@pytest.mark.parametrize("reduction", entropy.REDUCTIONS)
@pytest.mark.parametrize("tau", [1.0, 0.1])
@pytest.mark.parametrize("eps", [0.0, 1e-7])
@pytest.mark.parametrize("which", [0, 1], ids=["token", "patch"])
def test_gradients_equal_finite_differences(which, reduction, tau, eps):
  sims, mask = random_case(shape=(3, 4, 3), lengths=(4, 2, 1))
  options = {"reduction": reduction, "eps": eps}
  grad = jax.grad(
    lambda s: entropies(s, mask, temperature=tau, **options)[which]
  )
  h = 1e-5
  slopes = np.zeros(sims.shape)
  for index in np.ndindex(slopes.shape):
    ends = []
    for sign in (1, -1):
      moved = np.array(sims, np.float64)
      moved[index] += sign * h
      ends.append(reference(moved, mask, tau, **options)[which])
    slopes[index] = (ends[0] - ends[1]) / (2 * h)
  assert np.abs(slopes).max() > 0.005
  np.testing.assert_allclose(grad(sims), slopes, atol=1e-6)


def test_normalised_entropies_are_shares_of_their_ceilings():
  sims = jnp.zeros((3, 6, 9))
  mask = jnp.arange(6)[None] < jnp.array([6, 4, 2])[:, None]
  got = entropies(sims, mask, normalize=True)
  np.testing.assert_allclose(got, (1.0, 1.0), rtol=1e-6)


def test_counted_tokens():
  attention = jnp.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]])
  content = jnp.array([[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]], bool)

  def counted(**switches):
    got = entropy.counted_tokens(attention, content, **switches)
    return np.asarray(got, int).tolist()

  assert counted() == [[0, 1, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0]]
  assert counted(mask_special_tokens=False) == attention.tolist()
  assert counted(mask_padding=False) == [[0, 1, 1, 0, 0, 0], [0, 1, 0, 1, 0, 0]]
  # The released code: everything up to the batch's longest report.
  assert counted(mask_special_tokens=False, mask_padding=False) == [
    [1, 1, 1, 1, 0, 0],
    [1, 1, 1, 1, 0, 0],
  ]


def test_authors_preset_is_the_released_formula():
  config = objective.LossConfig(compat="authors")
  sims, _ = random_case()
  attention = jnp.arange(7)[None] < jnp.array([6, 3, 4, 2, 6])[:, None]
  mask = entropy.counted_tokens(
    attention,
    attention & (jnp.arange(7)[None] > 0),
    mask_special_tokens=config.mask_special_tokens,
    mask_padding=config.mask_padding,
  )
  got = entropies(
    sims, mask, reduction=config.reduction, eps=config.eps_after_softmax
  )
  s = np.asarray(sims, np.float64)[:, :6]  # the longest has six positions
  a = np.exp(s) / np.exp(s).sum(2, keepdims=True) + 1e-7
  b = np.exp(s) / np.exp(s).sum(1, keepdims=True) + 1e-7
  want = (-(a * np.log(a)).sum(2).mean(), -(b * np.log(b)).sum(1).mean())
  np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"temperature": 0.0}, "temperature is 0.0, expected > 0"),
    ({"reduction": "sum"}, "'sum', expected one of"),
    ({"eps": -1.0}, "eps is -1.0"),
  ],
)
def test_bad_options(options, words):
  with pytest.raises(ValueError, match=words):
    entropies(golden_sims(), jnp.ones((2, 3), bool), **options)


def test_bad_shapes_name_both():
  with pytest.raises(ValueError, match=r"\(2, 3, 4\).*\(2, 4\)"):
    entropies(golden_sims(), jnp.ones((2, 4), bool))
