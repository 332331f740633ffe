"""One update: the same on any mesh, the same with or without idle penalties."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from tier_jax import optim, sharding, train_step
from tier_jax.losses import contrastive, objective
from tier_jax.models import bert, dual_encoder, vit
from tier_jax.train_state import TrainState

pytestmark = pytest.mark.usefixtures("unoptimized")
# Wide enough that kernels are split over fsdp, not only replicated.
CONFIG = dual_encoder.DualEncoderConfig(
  vit.ViTConfig(16, 4, width=64, depth=1, num_heads=2, mlp_dim=256),
  bert.BertConfig(256, 64, 1, 2, 256, 12),
  embed_dim=128,
)
MODEL = dual_encoder.DualEncoder(CONFIG)
PENALTIES = objective.LossConfig(
  token_entropy_weight=0.3, patch_entropy_weight=0.2
)


@functools.cache
def params():
  # Drawn once, on one device: the same numbers on every mesh.
  draw = jax.jit(
    lambda key: dual_encoder.init_variables(MODEL, key, 12)["params"]
  )
  return jax.device_get(draw(jax.random.key(0)))


def make_batch(size=16, seed=0):
  rng = np.random.default_rng(seed)
  # Ragged on purpose, with reports too short for the penalties.
  lengths = np.array([12, 3, 5, 2, 9, 4, 12, 3, 7, 6, 2, 10, 8, 3, 11, 5])[
    :size
  ]
  position = np.arange(12)[None]
  attention = position < lengths[:, None]
  content = (position > 0) & (position < lengths[:, None] - 1)
  return {
    "image": rng.integers(0, 256, (size, 16, 16), np.uint8),
    "input_ids": (rng.integers(5, 256, (size, 12)) * attention).astype(
      np.int32
    ),
    "attention_mask": attention.astype(np.int32),
    "token_mask": content,
    "word_starts": np.tile(np.arange(12, dtype=np.int32), (size, 1)),
    "study_hash": np.array([[i // 2, 0] for i in range(size)], np.uint32),
    "text_hash": np.array([[i % 5, 0] for i in range(size)], np.uint32),
    "record": np.arange(100, 100 + size, dtype=np.int32),
  }


OBJECTIVES = {
  "tier": PENALTIES,
  "authors": dataclasses.replace(PENALTIES, compat="authors"),
  "siglip": objective.LossConfig(
    infonce_weight=0.0, siglip_weight=1.0, positives="text"
  ),
  "local": objective.LossConfig(infonce_weight=0.0, local_weight=1.0),
  "all": objective.LossConfig(
    siglip_weight=0.1,
    local_weight=0.1,
    local_chunk_size=4,
    image_image_weight=0.5,
    positives="study",
  ),
}


@functools.cache
def loss_and_grads(data, fsdp, name):
  mesh = sharding.make_mesh(
    sharding.MeshConfig(data, fsdp), jax.devices()[: data * fsdp]
  )
  where = sharding.state_sharding(params(), mesh)
  step = jax.jit(
    jax.value_and_grad(
      lambda p, b: train_step.loss_fn(p, {}, b, None, MODEL, OBJECTIVES[name]),
      has_aux=True,
    ),
    out_shardings=(None, where),
  )
  placed = jax.tree.map(jax.device_put, params(), where)
  batch = make_batch()
  if OBJECTIVES[name].image_image_weight:
    batch["second_image"] = make_batch(seed=1)["image"]
  (_, (metrics, _)), grads = step(placed, sharding.put_batch(batch, mesh))
  return jax.device_get((metrics, grads))


def relative(a, b):
  """Norm of the difference over the norm, of whole trees."""
  difference = jax.tree.map(lambda x, y: np.float64(x) - np.float64(y), a, b)
  return float(optax.tree.norm(difference) / optax.tree.norm(b))


@pytest.mark.parametrize(
  ("data", "fsdp", "name"),
  [
    (2, 1, "tier"),
    (1, 2, "tier"),
    (8, 1, "tier"),
    (2, 4, "tier"),
    (8, 1, "authors"),
    *((n, 1, name) for name in ("siglip", "local") for n in (2, 8)),
    (8, 1, "all"),  # `scale.py` has every mesh
  ],
)
def test_losses_and_gradients_are_equal_on_any_mesh(data, fsdp, name):
  want, want_grads = loss_and_grads(1, 1, name)
  got, grads = loss_and_grads(data, fsdp, name)
  for term in ("loss", *train_step.TERMS):
    np.testing.assert_allclose(got[term], want[term], rtol=1e-6)
  assert relative(grads, want_grads) < 1e-6


def test_state_is_split_over_fsdp():
  mesh = sharding.make_mesh(sharding.MeshConfig(2, 4))
  where = sharding.state_sharding(params(), mesh)
  kernel = where["image_tower"]["block_0"]["mlp_in"]["kernel"]
  assert kernel.spec == jax.sharding.PartitionSpec(None, "fsdp")
  bias = where["image_tower"]["block_0"]["mlp_in"]["bias"]
  assert bias.is_fully_replicated


def test_zero_weights_are_the_contrastive_loss_bit_for_bit():
  config = objective.LossConfig(
    token_entropy_weight=0.0, patch_entropy_weight=0.0
  )

  def with_idle_penalties(p, batch):
    return train_step.loss_fn(p, {}, batch, None, MODEL, config)

  def without(p, batch):
    output = MODEL.apply(
      {"params": p},
      batch["image"],
      batch["input_ids"],
      batch["attention_mask"],
      batch["word_starts"],
    )
    return contrastive.infonce(
      output.image_embeds, output.text_embeds, output.logit_scale
    )

  batch = make_batch()
  (total, (metrics, _)), grads = jax.jit(
    jax.value_and_grad(with_idle_penalties, has_aux=True)
  )(params(), batch)
  assert total == metrics["contrastive_loss"]
  assert metrics["token_entropy"] > 0
  loss, want = jax.jit(jax.value_and_grad(without))(params(), batch)
  np.testing.assert_allclose(total, loss, rtol=1e-6)
  assert relative(grads, want) < 1e-6


@pytest.mark.parametrize("alone", ["token_entropy", "patch_entropy"])
def test_each_weight_multiplies_what_it_names(alone):
  weights = {"token_entropy_weight": 0.0, "patch_entropy_weight": 0.0}
  config = objective.LossConfig(**(weights | {f"{alone}_weight": 0.5}))
  _, (metrics, _) = jax.jit(
    lambda p, b: train_step.loss_fn(p, {}, b, None, MODEL, config)
  )(params(), make_batch())
  want = metrics["contrastive_loss"] + 0.5 * metrics[alone]
  np.testing.assert_allclose(metrics["loss"], want, rtol=1e-6)


def test_weights_are_told_apart_from_each_other():
  _, (metrics, _) = jax.jit(
    lambda p, b: train_step.loss_fn(p, {}, b, None, MODEL, PENALTIES)
  )(params(), make_batch())
  assert abs(metrics["token_entropy"] - metrics["patch_entropy"]) > 0.1


def test_a_second_step_does_not_compile_and_the_loss_falls():
  optimizer = optax.adamw(1e-3)
  count = 0
  step = train_step.make_train_step(MODEL, optimizer, PENALTIES)

  def counted(state, batch, key):
    nonlocal count
    count += 1
    return step(state, batch, key)

  jitted = jax.jit(counted, donate_argnums=0)
  start = jax.tree.map(jnp.array, params())
  state = TrainState(jnp.zeros((), jnp.int32), start, {}, optimizer.init(start))
  losses = []
  for _ in range(8):
    state, metrics = jitted(state, make_batch(), jax.random.key(0))
    losses.append(float(metrics["loss"]))
  assert count == 1
  assert losses[-1] < losses[0] - 0.05
  assert int(state.step) == 8


def test_logit_scale_is_held_below_a_hundred():
  start = jax.tree.map(jnp.array, params())
  start["logit_scale"] = jnp.float32(train_step.MAX_LOGIT_SCALE)
  optimizer = optax.sgd(-1.0)  # climbs, so that the scale would grow
  step = jax.jit(train_step.make_train_step(MODEL, optimizer, PENALTIES))
  state = TrainState(jnp.zeros((), jnp.int32), start, {}, optimizer.init(start))
  for seed in range(3):
    state, _ = step(state, make_batch(seed=seed), jax.random.key(0))
    assert state.params["logit_scale"] <= np.float32(train_step.MAX_LOGIT_SCALE)


def test_diagnosis_equals_the_gradient_of_each_term():
  got = jax.jit(train_step.make_diagnose(MODEL, PENALTIES))(
    params(), {}, make_batch()
  )
  assert len(got) == 6

  def term(p):
    _, (metrics, _) = train_step.loss_fn(
      p, {}, make_batch(), None, MODEL, PENALTIES
    )
    return metrics["patch_entropy"]

  grads = jax.jit(jax.grad(term))(params())
  want = optax.tree.norm([grads["text_tower"], grads["text_head"]])
  np.testing.assert_allclose(
    got["grad_norm/patch_entropy/text"], want, rtol=1e-5
  )


def test_a_frozen_tower_costs_its_forward_pass_alone():
  def flops(function, *args):
    analysis = jax.jit(function).lower(*args).compile().cost_analysis()
    assert analysis is not None
    return analysis["flops"]

  def step_flops(frozen):
    trainable, _ = optim.partition(params(), frozen)
    optimizer = optax.sgd(0.1)
    step = train_step.make_train_step(
      MODEL, optimizer, PENALTIES, frozen=frozen
    )
    state = TrainState(
      jnp.zeros((), jnp.int32), params(), {}, optimizer.init(trainable)
    )
    return flops(step, state, make_batch(), jax.random.key(0))

  def text_tower(tree, batch):
    return bert.Bert(CONFIG.text).apply(
      {"params": tree["text_tower"]},
      batch["input_ids"],
      batch["attention_mask"],
    )

  forward = flops(text_tower, params(), make_batch())
  whole = step_flops(())
  frozen = step_flops(("text_tower/.*",))
  # A backward pass is two matrix products for each of the forward pass.
  assert whole - frozen > 1.8 * forward


def test_diagnosis_is_of_what_trains():
  frozen = ("text_(tower|head)/.*", "image_tower/.*")
  got = jax.jit(train_step.make_diagnose(MODEL, PENALTIES, frozen=frozen))(
    params(), {}, make_batch()
  )

  def term(p):
    _, (metrics, _) = train_step.loss_fn(
      p, {}, make_batch(), None, MODEL, PENALTIES
    )
    return metrics["token_entropy"]

  want = optax.tree.norm(jax.jit(jax.grad(term))(params())["image_head"])
  np.testing.assert_allclose(
    got["grad_norm/token_entropy/image"], want, rtol=1e-5
  )
  assert got["grad_norm/token_entropy/text"] == 0


def test_an_image_image_loss_needs_a_second_view():
  config = objective.LossConfig(image_image_weight=0.5)
  batch = make_batch()
  with pytest.raises(
    ValueError, match="image_image_weight is 0.5.*second_image"
  ):
    train_step.loss_fn(params(), {}, batch, jax.random.key(0), MODEL, config)
  # In evaluation the term is left out.
  metrics = jax.eval_shape(
    lambda b: train_step.loss_fn(params(), {}, b, None, MODEL, config)[1][0],
    batch,
  )
  assert "infonce_loss" in metrics
  assert "image_image_loss" not in metrics


class Planted:
  """The model, but for a NaN in an embedding of each pair of a black image."""

  def __init__(self, part):
    self.part = part

  def apply(self, variables, image, *args, **kwargs):
    output, changed = MODEL.apply(variables, image, *args, **kwargs)
    embeds = getattr(output, self.part)
    black = (image == 0).all((1, 2)).reshape(-1, *[1] * (embeds.ndim - 1))
    # One number of each is enough.
    first = jnp.arange(embeds[0].size).reshape(1, *embeds.shape[1:]) == 0
    embeds = jnp.where(black & first, jnp.nan, embeds)
    return output.replace(**{self.part: embeds}), changed


def black_out(batch, *pairs):
  image = batch["image"].copy()
  image[list(pairs)] = 0
  return batch | {"image": image}


OPTIMIZER = optax.adamw(1e-3)


def start(ema=False):
  tree = jax.tree.map(jnp.array, params())
  return TrainState(
    jnp.zeros((), jnp.int32),
    tree,
    {},
    OPTIMIZER.init(tree),
    tree if ema else None,
  )


def assert_equal_bits(left, right):
  jax.tree.map(np.testing.assert_array_equal, left, right)


def test_a_step_that_is_not_finite_is_flagged_and_changes_nothing():
  step = jax.jit(
    train_step.make_train_step(
      Planted("image_embeds"), OPTIMIZER, PENALTIES, ema_decay=0.9
    )
  )
  before, metrics = step(start(ema=True), make_batch(), jax.random.key(0))
  assert metrics["health"]["finite"]
  assert metrics["health"]["examples"].all()
  bad = black_out(make_batch(seed=1), 5)
  after, metrics = step(before, bad, jax.random.key(0))
  health = metrics["health"]
  assert not health["finite"]
  np.testing.assert_array_equal(health["examples"], np.arange(16) != 5)
  np.testing.assert_array_equal(health["records"], np.arange(100, 116))
  assert int(after.step) == 2
  assert_equal_bits(after.replace(step=before.step), before)
  # And the next is kept.
  goes_on, _ = step(after, make_batch(seed=2), jax.random.key(0))
  assert goes_on.params["logit_scale"] != before.params["logit_scale"]


@pytest.mark.parametrize(
  "part", ["text_embeds", "patch_embeds", "token_embeds"]
)
def test_each_kind_of_embedding_is_looked_at(part):
  step = train_step.make_train_step(Planted(part), OPTIMIZER, PENALTIES)
  examples = jax.jit(lambda *args: step(*args)[1]["health"]["examples"])
  got = examples(start(), black_out(make_batch(), 0, 9), jax.random.key(0))
  assert np.flatnonzero(~got).tolist() == [0, 9]


def test_every_device_of_a_mesh_has_the_whole_health():
  mesh = sharding.make_mesh(sharding.MeshConfig(4, 2))
  where = sharding.state_sharding(start(), mesh)
  step = jax.jit(
    train_step.make_train_step(
      Planted("image_embeds"), OPTIMIZER, PENALTIES, accumulate=2, mesh=mesh
    ),
    out_shardings=(where, None),
  )
  batch = sharding.put_batch(black_out(make_batch(), 6), mesh)
  placed = jax.tree.map(jax.device_put, start(), where)
  _, metrics = step(placed, batch, jax.random.key(0))
  health = metrics["health"]
  assert all(leaf.is_fully_replicated for leaf in jax.tree.leaves(health))
  assert np.flatnonzero(~np.asarray(health["examples"])).tolist() == [6]
  np.testing.assert_array_equal(health["records"], np.arange(100, 116))


def module(path):
  names = [key.key for key in path]
  return "/".join(names[:2] if "tower" in names[0] else names[:1])


def test_norms_by_module_are_those_of_numpy():
  step = jax.jit(train_step.make_train_step(MODEL, OPTIMIZER, PENALTIES))
  _, metrics = step(start(), make_batch(), jax.random.key(0))
  _, grads = loss_and_grads(1, 1, "tier")
  squares = {}
  for path, leaf in jax.tree_util.tree_leaves_with_path(grads):
    square = np.sum(np.square(np.float64(leaf)))
    squares[module(path)] = squares.get(module(path), 0) + square
  got = metrics["health"]["grad_norms"]
  assert got.keys() == squares.keys()
  assert {
    *("image_tower/block_0", "image_tower/patch_embed", "image_head"),
    *("text_tower/layer_0", "text_tower/word_embeddings", "logit_scale"),
  } < got.keys()
  for name, square in squares.items():
    # The norm of the bias is 0: InfoNCE does not change with it.
    np.testing.assert_allclose(got[name], square**0.5, rtol=1e-5, atol=1e-8)
  total = sum(squares.values()) ** 0.5
  np.testing.assert_allclose(metrics["grad_norm"], total, rtol=1e-5)


def test_a_gradient_that_is_not_finite_names_its_module():
  @jax.custom_vjp
  def poison(x):
    return x

  poison.defvjp(lambda x: (x, None), lambda _, g: (g.at[3].set(jnp.nan),))

  class Poisoned:
    def apply(self, variables, *args, **kwargs):
      variables = jax.tree.map(lambda x: x, variables)  # a copy to change
      layer = variables["params"]["text_tower"]["layer_0"]["mlp_out"]
      layer["bias"] = poison(layer["bias"])
      return MODEL.apply(variables, *args, **kwargs)

  step = train_step.make_train_step(Poisoned(), OPTIMIZER, PENALTIES)
  state, metrics = jax.jit(step)(start(), make_batch(), jax.random.key(0))
  health = metrics["health"]
  assert np.isfinite(metrics["loss"])
  assert not health["finite"]
  assert health["examples"].all()
  norms = health["grad_norms"]
  assert [k for k in norms if not np.isfinite(norms[k])] == [
    "text_tower/layer_0"
  ]
  assert_equal_bits(state.params, params())
