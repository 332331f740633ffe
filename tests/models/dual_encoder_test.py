"""The joint space: what is pooled, what is unit, what is shared."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax.models import bert, dual_encoder, vit

pytestmark = pytest.mark.usefixtures("unoptimized")

CONFIG = dual_encoder.DualEncoderConfig(
  vit.ViTConfig(8, 4, width=8, depth=1, num_heads=2, mlp_dim=16),
  bert.BertConfig(20, 8, 1, 2, 16, 6),
  embed_dim=4,
)


def run():
  rng = np.random.default_rng(0)
  batch = (
    rng.integers(0, 256, (3, 8, 8), np.uint8),
    rng.integers(0, 20, (3, 6)),
    np.array([[1] * 6, [1] * 4 + [0] * 2, [1] * 2 + [0] * 4]),
    np.array([[0, 1, 1, 3, 4, 5]] * 3),
  )
  model = dual_encoder.DualEncoder(CONFIG)
  variables = dual_encoder.init_variables(model, jax.random.key(0), 6)
  return model, variables["params"], batch, model.apply(variables, *batch)


def test_every_vector_is_unit_and_float32():
  _, _, _, output = run()
  for name, shape in {
    "image_embeds": (3, 4),
    "text_embeds": (3, 4),
    "patch_embeds": (3, 4, 4),
    "token_embeds": (3, 6, 4),
  }.items():
    value = getattr(output, name)
    assert value.shape == shape
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(np.linalg.norm(value, axis=-1), 1.0, rtol=1e-5)


def test_image_vector_is_the_mean_of_projected_patches():
  model, params, batch, output = run()

  def projected(module, image):
    return module.image_head(module.image_tower(image).patches)

  patches = model.apply({"params": params}, batch[0], method=projected)
  mean = np.asarray(patches).mean(1)
  want = mean / np.linalg.norm(mean, axis=1, keepdims=True)
  np.testing.assert_allclose(output.image_embeds, want, rtol=1e-5)
  # Not the mean of the unit patches, which weighs them otherwise.
  other = np.asarray(output.patch_embeds).mean(1)
  other /= np.linalg.norm(other, axis=1, keepdims=True)
  assert not np.allclose(output.image_embeds, other, rtol=1e-3)


def test_each_patch_adds_its_product_with_a_text_to_the_images():
  model, params, batch, output = run()
  patches = model.apply({"params": params}, batch[0], method="encode_patches")
  mean = np.mean(patches, axis=1)
  added = np.einsum("bpd,bd->bp", patches, output.text_embeds).mean(axis=1)
  want = np.sum(output.image_embeds * output.text_embeds, axis=1)
  np.testing.assert_allclose(
    added / np.linalg.norm(mean, axis=1), want, rtol=1e-5
  )


def test_text_vector_is_the_first_token():
  _, _, _, output = run()
  np.testing.assert_array_equal(output.text_embeds, output.token_embeds[:, 0])


def test_logit_scale_starts_at_the_papers_and_is_strongly_typed():
  _, params, _, output = run()
  np.testing.assert_allclose(output.logit_scale, np.log(1 / 0.07), rtol=1e-6)
  assert not params["logit_scale"].weak_type


def test_merged_words_share_the_mean_of_their_pieces_and_count_once():
  _, params, batch, apart = run()
  config = dataclasses.replace(CONFIG, merge_wordpieces=True)
  model = dual_encoder.DualEncoder(config)
  output = model.apply({"params": params}, *batch)
  tokens = np.asarray(output.token_embeds)
  np.testing.assert_array_equal(tokens[:, 1], tokens[:, 2])
  np.testing.assert_allclose(
    tokens[:, [0, 3, 4, 5]], apart.token_embeds[:, [0, 3, 4, 5]], atol=1e-6
  )
  np.testing.assert_array_equal(
    output.first_pieces, [[True, True, False, True, True, True]] * 3
  )
  assert np.asarray(apart.first_pieces).all()


def test_average_of_words():
  features = jnp.array([[[1.0], [2.0], [6.0], [5.0]]])
  got = dual_encoder.average_words(features, jnp.array([[0, 1, 1, 3]]))
  np.testing.assert_allclose(got[0, :, 0], [1, 4, 4, 5])


def test_average_of_words_is_rounded_once():
  rng = np.random.default_rng(0)
  features = jnp.asarray(rng.normal(size=(1, 8, 16)), jnp.bfloat16)
  starts = np.array([[0, 1, 1, 1, 4, 4, 4, 4]])
  same = starts[:, :, None] == starts[:, None, :]
  share = same / same.sum(2, keepdims=True)
  want = share @ np.asarray(features, np.float64)
  got = dual_encoder.average_words(features, jnp.asarray(starts))
  assert got.dtype == jnp.bfloat16
  np.testing.assert_array_equal(got, jnp.asarray(want, jnp.bfloat16))


def test_a_second_view_is_embedded_like_the_first():
  model, params, batch, first = run()
  output = model.apply({"params": params}, *batch, batch[0][::-1])
  np.testing.assert_allclose(
    output.second_image_embeds, first.image_embeds[::-1], atol=1e-6
  )


def test_a_tower_that_pools_gives_the_image_vector():
  _, _, batch, _ = run()
  image = dataclasses.replace(CONFIG.image, pooling="map")
  model = dual_encoder.DualEncoder(dataclasses.replace(CONFIG, image=image))
  variables = dual_encoder.init_variables(model, jax.random.key(0), 6)
  output = model.apply(variables, *batch)

  def projected(module, image):
    return module.image_head(module.image_tower(image).pooled)

  pooled = model.apply(variables, batch[0], method=projected)
  want = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
  np.testing.assert_allclose(output.image_embeds, want, rtol=1e-5)


def test_a_training_step_leaves_patches_out_and_evaluation_none():
  _, params, batch, whole = run()
  config = dataclasses.replace(CONFIG, patch_dropout=0.5)
  model = dual_encoder.DualEncoder(config)
  np.testing.assert_array_equal(
    model.apply({"params": params}, *batch).patch_embeds, whole.patch_embeds
  )
  patches = model.apply({"params": params}, batch[0], method="encode_patches")

  def train(seed):
    return model.apply(
      {"params": params},
      *batch,
      deterministic=False,
      rngs={"dropout": jax.random.key(seed)},
    )

  drawn = set()
  for seed in range(8):
    output = train(seed)
    assert output.patch_embeds.shape == (3, 2, 4)
    for i, row in enumerate(output.patch_embeds):
      gaps = np.abs(row[:, None] - whole.patch_embeds[i][None]).max(axis=2)
      kept = gaps.argmin(axis=1)
      assert gaps.min(axis=1).max() < 1e-5 and len(set(kept.tolist())) == 2
      mean = np.asarray(patches)[i, kept].mean(axis=0)
      np.testing.assert_allclose(
        output.image_embeds[i], mean / np.linalg.norm(mean), rtol=1e-4
      )
      drawn.add((i, *sorted(kept.tolist())))
  assert len(drawn) > 9  # of 3 images times 6 pairs
  np.testing.assert_array_equal(train(3).image_embeds, train(3).image_embeds)


@pytest.mark.parametrize(
  ("rate", "pooling", "words"),
  [
    (1.0, "mean", "model.patch_dropout is 1.0, expected >= 0 and < 1"),
    (-0.1, "mean", "model.patch_dropout is -0.1, expected >= 0 and < 1"),
    (0.5, "map", "expected 0 with model.image.pooling 'map'"),
  ],
)
def test_a_share_of_patches_that_cannot_be_left_out(rate, pooling, words):
  image = dataclasses.replace(CONFIG.image, pooling=pooling)
  with pytest.raises(ValueError, match=words):
    dataclasses.replace(CONFIG, image=image, patch_dropout=rate)
