"""How the terms add up: which are computed, on what mask, with whom."""

import dataclasses
import functools
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.losses import contrastive, entropy, local, objective

PLAIN = {"token_entropy_weight": 0.0, "patch_entropy_weight": 0.0}
MIX = {"infonce_weight": 0.5, "siglip_weight": 2.0, "local_weight": 0.25}
SIZE, TOKENS = 8, 6


def unit(x):
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_output(seed=0, second=False):
  rng = np.random.default_rng(seed)
  return {
    "image_embeds": unit(rng.normal(size=(SIZE, 7))),
    "text_embeds": unit(rng.normal(size=(SIZE, 7))),
    "patch_embeds": unit(rng.normal(size=(SIZE, 9, 7))),
    "token_embeds": unit(rng.normal(size=(SIZE, TOKENS, 7))),
    "first_pieces": np.ones((SIZE, TOKENS), bool),
    "logit_scale": np.float32(1.5),
    "logit_bias": np.float32(-3.0),
    "second_image_embeds": (
      unit(rng.normal(size=(SIZE, 7))) if second else None
    ),
  }


def make_batch():
  lengths = np.array([6, 3, 4, 2, 5, 6, 3, 5])[:, None]
  position = np.arange(TOKENS)[None]
  # Two studies of two images; the third text is the first's.
  return {
    "attention_mask": (position < lengths).astype(np.int32),
    "token_mask": (position > 0) & (position < lengths - 1),
    "study_hash": np.array([[i // 2, 0] for i in range(SIZE)], np.uint32),
    "text_hash": np.array(
      [[i if i != 2 else 0, 1] for i in range(SIZE)], np.uint32
    ),
  }


@functools.partial(jax.jit, static_argnames="config")
def losses(output, batch, config):
  return objective.compute_losses(
    types.SimpleNamespace(**output), batch, config
  )


def compute(output=None, batch=None, **options):
  return losses(
    output or make_output(),
    batch or make_batch(),
    objective.LossConfig(**options),
  )


def test_each_weight_multiplies_the_term_that_it_names():
  total, metrics = compute(
    make_output(second=True),
    **MIX,
    image_image_weight=0.75,
    token_entropy_weight=0.3,
    patch_entropy_weight=0.1,
  )
  want = (
    0.5 * metrics["infonce_loss"]
    + 2 * metrics["siglip_loss"]
    + 0.25 * metrics["local_loss"]
    + 0.75 * metrics["image_image_loss"]
  )
  np.testing.assert_allclose(metrics["contrastive_loss"], want, rtol=1e-6)
  want += 0.3 * metrics["token_entropy"] + 0.1 * metrics["patch_entropy"]
  np.testing.assert_allclose(total, want, rtol=1e-6)
  assert metrics["loss"] == total
  assert metrics["logit_bias"] == -3


def test_terms_are_what_their_functions_say():
  output, batch = make_output(second=True), make_batch()
  _, metrics = compute(output, batch, **MIX, image_image_weight=1.0)
  pair = output["image_embeds"], output["text_embeds"], output["logit_scale"]
  for name, want in {
    "infonce": contrastive.infonce(*pair),
    "siglip": contrastive.siglip(*pair, output["logit_bias"]),
    "local": local.local_contrastive(
      output["patch_embeds"], output["token_embeds"], batch["token_mask"]
    ),
    "image_image": contrastive.image_image(
      output["image_embeds"],
      output["second_image_embeds"],
      output["logit_scale"],
    ),
  }.items():
    np.testing.assert_allclose(metrics[f"{name}_loss"], want, rtol=1e-6)


def test_terms_of_weight_zero_are_not_computed():
  output = make_output() | {"text_embeds": None, "image_embeds": None}
  total, metrics = compute(
    output, infonce_weight=0.0, local_weight=1.0, image_image_weight=1.0
  )
  assert np.isfinite(total)
  assert {name for name in metrics if name.endswith("_loss")} == {
    "contrastive_loss",
    "local_loss",
  }
  assert "logit_bias" not in metrics


@pytest.mark.parametrize("terms", [{}, MIX], ids=["infonce", "mix"])
def test_idle_penalties_change_no_bit_of_the_total(terms):
  total, metrics = compute(**terms, **PLAIN)
  assert total == metrics["contrastive_loss"]
  assert metrics["token_entropy"] > 1
  assert metrics["patch_entropy"] > 0.1
  if not terms:
    assert total == metrics["infonce_loss"]


def test_idle_penalties_enter_no_gradient():
  def total(embeds, config):
    output = make_output() | {"patch_embeds": embeds}
    return losses(output, make_batch(), config)[0]

  embeds = jnp.asarray(make_output()["patch_embeds"])
  for weights, some in ((PLAIN, False), ({"patch_entropy_weight": 0.0}, True)):
    grad = jax.grad(total)(embeds, objective.LossConfig(**weights))
    assert np.any(grad) == some


def test_shuffled_second_views_cost_more():
  output = make_output(second=True)
  output["second_image_embeds"] = output["image_embeds"]
  right, _ = compute(output, image_image_weight=1.0)
  output["second_image_embeds"] = np.roll(output["image_embeds"], 1, axis=0)
  wrong, metrics = compute(output, image_image_weight=1.0)
  assert wrong > right + 0.5
  # And the released code's mistake would not have seen it.
  assert metrics["infonce_loss"] == compute(output)[1]["infonce_loss"]


@pytest.mark.parametrize("kind", objective.POSITIVES)
def test_positives(kind):
  output, batch = make_output(second=True), make_batch()
  study = np.arange(SIZE) // 2
  positives = {
    "pair": np.eye(SIZE, dtype=bool),
    "study": study[:, None] == study,
    "text": np.eye(SIZE, dtype=bool),
  }[kind]
  if kind == "text":
    positives[0, 2] = positives[2, 0] = True
  _, metrics = compute(
    output, batch, **MIX, image_image_weight=1.0, positives=kind
  )
  pair = output["image_embeds"], output["text_embeds"], output["logit_scale"]
  for name, want in {
    "infonce": contrastive.infonce(*pair, positives),
    "siglip": contrastive.siglip(*pair, output["logit_bias"], positives),
    "local": local.local_contrastive(
      output["patch_embeds"],
      output["token_embeds"],
      batch["token_mask"],
      positives=jnp.asarray(positives),
    ),
    "image_image": contrastive.image_image(
      output["image_embeds"],
      output["second_image_embeds"],
      output["logit_scale"],
      positives,
    ),
  }.items():
    np.testing.assert_allclose(metrics[f"{name}_loss"], want, rtol=1e-6)


def test_the_ring_needs_a_mesh():
  with pytest.raises(ValueError, match="loss.ring is True, expected a mesh"):
    compute(ring=True)


def test_later_pieces_of_merged_words_do_not_count():
  output, batch = make_output(), make_batch()
  output["first_pieces"][:, 2] = False
  counted = batch["token_mask"] & output["first_pieces"]
  assert (counted.sum(axis=1) < batch["token_mask"].sum(axis=1)).any()
  _, metrics = compute(output, batch, local_weight=1.0)
  sims = np.einsum(
    "btd,bpd->btp", output["token_embeds"], output["patch_embeds"]
  )
  token, patch = entropy.similarity_entropies(sims, counted)
  np.testing.assert_allclose(metrics["token_entropy"], token, rtol=1e-6)
  np.testing.assert_allclose(metrics["patch_entropy"], patch, rtol=1e-6)
  want = local.local_contrastive(
    output["patch_embeds"], output["token_embeds"], counted
  )
  np.testing.assert_allclose(metrics["local_loss"], want, rtol=1e-6)


def test_the_authors_preset_sets_what_the_released_code_does():
  config = objective.LossConfig(compat="authors")
  assert config.reduction == "per_token"
  assert config.eps_after_softmax == 1e-7
  assert not config.mask_special_tokens
  assert not config.mask_padding
  assert dataclasses.replace(config) == config


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"siglip_weight": -0.1}, "loss.siglip_weight is -0.1, expected >= 0"),
    ({"token_entropy_weight": -0.1}, "loss.token_entropy_weight is -0.1"),
    ({"penalty_temperature": 0.0}, "loss.penalty_temperature is 0.0, expected"),
    ({"local_token_temperature": -1.0}, "loss.local_token_temperature is -1.0"),
    (
      {"ring": True, "local_weight": 0.5},
      "loss.ring is True and loss.local_weight 0.5, expected 0",
    ),
    ({"local_chunk_size": 0}, "loss.local_chunk_size is 0, expected > 0"),
    ({"reduction": "sum"}, "loss.reduction is 'sum', expected one of"),
    ({"positives": "patient"}, "loss.positives is 'patient', expected one of"),
    ({"compat": "paper"}, "loss.compat is 'paper'"),
    ({"eps_after_softmax": -1.0}, "loss.eps_after_softmax is -1.0"),
    (
      {"infonce_weight": 0.0, "image_image_weight": 1.0},
      "loss.infonce_weight, loss.siglip_weight and loss.local_weight are all 0",
    ),
  ],
)
def test_bad_config(options, words):
  with pytest.raises(ValueError, match=words):
    objective.LossConfig(**options)


def test_idle_penalties_reach_neither_loss_nor_gradient():
  def total(token_embeds):
    output = make_output() | {"token_embeds": token_embeds}
    return losses(output, make_batch(), objective.LossConfig(**PLAIN))[0]

  # Whatever is multiplied by 0 would still be NaN.
  value, grad = jax.value_and_grad(total)(jnp.full((SIZE, TOKENS, 7), jnp.nan))
  assert jnp.isfinite(value)
  np.testing.assert_array_equal(grad, 0)
