"""A batch encoded in parts: the same dropout in both passes, no residuals."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import train_step_test
from tier_jax import sharding, train_step
from tier_jax.losses import objective
from tier_jax.models import dual_encoder, layers

pytestmark = pytest.mark.usefixtures("unoptimized")

PARTS = 2
LOSS = objective.LossConfig(
  image_image_weight=0.3,
  reduction="per_token",
  mask_padding=False,
)


class Stub(nn.Module):
  """A dual encoder that compiles at once, with dropout on both sides."""

  wide: int = 8

  @nn.compact
  def __call__(
    self,
    image,
    input_ids,
    attention_mask,
    word_starts,
    second_image=None,
    *,
    deterministic,
  ):
    drop = nn.Dropout(0.5, deterministic=deterministic)
    project = nn.Dense(8)

    wide = nn.Dense(self.wide)

    def encode(x):
      return project(drop(jax.nn.relu(wide(x))))  # (B, P, 8)

    def patches(image):
      return encode(image.reshape(len(image), -1, 16) / 255.0)

    tokens = nn.Dense(8)(drop(nn.Embed(256, 8)(input_ids)))
    tokens *= attention_mask[..., None]
    first, second = patches(image), None
    if second_image is not None:
      second = layers.unit(jnp.mean(patches(second_image), axis=1))
    return dual_encoder.DualEncoderOutput(
      image_embeds=layers.unit(jnp.mean(first, axis=1)),
      text_embeds=layers.unit(jnp.mean(tokens, axis=1)),
      patch_embeds=layers.unit(first),
      token_embeds=layers.unit(tokens),
      first_pieces=word_starts == jnp.arange(word_starts.shape[1]),
      logit_scale=self.param("logit_scale", nn.initializers.ones, ()),
      logit_bias=self.param("logit_bias", nn.initializers.ones, ()),
      second_image_embeds=second,
    )


def make_batch():
  batch = train_step_test.make_batch()
  return batch | {"second_image": train_step_test.make_batch(seed=1)["image"]}


def arguments(batch):
  names = "image", "input_ids", "attention_mask", "word_starts", "second_image"
  return [batch[name] for name in names]


def make_params(model):
  shapes = jax.eval_shape(
    lambda key: model.init(key, *arguments(make_batch()), deterministic=True),
    jax.random.key(0),
  )["params"]
  rng = np.random.default_rng(0)  # compiles nothing
  return jax.tree.map(
    lambda x: np.float32(0.3 * rng.normal(size=x.shape)), shapes
  )


def in_parts(params, key, model):
  return train_step.loss_fn(
    params, {}, make_batch(), key, model, LOSS, accumulate=PARTS
  )


def test_the_loss_with_dropout_equals_the_parts_written_out():
  model = Stub()
  params = make_params(model)

  def written_out(params, key):
    batch = make_batch()
    outputs = [
      model.apply(
        {"params": params},
        *arguments({name: x[k::PARTS] for name, x in batch.items()}),
        deterministic=False,
        rngs={"dropout": jax.random.fold_in(key, k)},
      )
      for k in range(PARTS)
    ]
    # Part k holds pairs k, k + PARTS, ...
    order = np.argsort([i for k in range(PARTS) for i in range(k, 16, PARTS)])
    whole = jax.tree.map(
      lambda *x: x[0] if x[0].ndim == 0 else jnp.concatenate(x)[order], *outputs
    )
    return objective.compute_losses(whole, batch, LOSS)

  key = jax.random.key(7, impl="unsafe_rbg")  # compiles faster
  (_, want), want_grads = jax.jit(
    jax.value_and_grad(written_out, has_aux=True)
  )(params, key)
  step = jax.jit(
    jax.value_and_grad(lambda p, k: in_parts(p, k, model), has_aux=True)
  )
  (_, (got, _)), grads = step(params, key)
  assert got.keys() == want.keys()
  for name in want:
    np.testing.assert_allclose(got[name], want[name], rtol=1e-5, err_msg=name)
  assert train_step_test.relative(grads, want_grads) < 1e-6
  # Other units dropped out make another loss.
  other, _ = step(params, jax.random.key(8, impl="unsafe_rbg"))[0]
  assert abs(other - want["loss"]) > 1e-3


def test_activations_of_one_part_are_held_at_a_time():
  model = Stub(wide=4096)  # activations are all that counts
  params = make_params(model)

  def temporary_bytes(accumulate):
    compiled = (
      jax.jit(
        jax.grad(
          lambda p: train_step.loss_fn(
            p,
            {},
            make_batch(),
            None,
            model,
            LOSS,
            accumulate=accumulate,
          )[0]
        )
      )
      .lower(params)
      .compile()
    )
    return compiled.memory_analysis().temp_size_in_bytes

  assert temporary_bytes(PARTS) < 1.3 * temporary_bytes(1) / PARTS


def test_each_device_keeps_its_pairs():
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:4])
  batch = sharding.put_batch(make_batch(), mesh)
  model = Stub()
  text = (
    jax.jit(
      jax.grad(
        lambda p, b: train_step.loss_fn(
          p,
          {},
          b,
          None,
          model,
          objective.LossConfig(),
          accumulate=PARTS,
          mesh=mesh,
        )[0]
      )
    )
    .lower(make_params(model), batch)
    .compile()
    .as_text()
  )
  assert text is not None
  assert "all-reduce" in text
  assert "all-to-all" not in text
  assert "collective-permute" not in text
  # Of images, ids or patches nothing is gathered: only (B, 8) embeddings.
  gathered = [line for line in text.splitlines() if " all-gather(" in line]
  assert gathered
  for line in gathered:
    assert "f32[16,8]" in line or "f32[8,16]" in line, line
