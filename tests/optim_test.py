"""Updates against float64 numpy, and who decays, freezes and learns slowly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tier_jax import optim
from tier_jax.models import bert, dual_encoder, resnet, vit

TEXT = bert.BertConfig(16, 8, 3, 2, 16, 6)


def dual(image):
  return dual_encoder.DualEncoderConfig(image, TEXT, 4)


def small_vit(**options):
  return vit.ViTConfig(
    8, 4, width=8, depth=2, num_heads=2, mlp_dim=16, **options
  )


VIT = dual(small_vit())
TOWERS = {
  "vit": VIT,
  "dinov2": dual(
    small_vit(
      class_token=True, num_registers=2, layer_scale=True, pooling="class"
    )
  ),
  "siglip": dual(small_vit(pooling="map")),
  "resnet": dual(
    resnet.ResNetConfig(image_size=32, width=4, stage_sizes=(2, 1, 1, 1))
  ),
}
each_tower = pytest.mark.parametrize("tower", TOWERS)


def shapes(config):
  return jax.eval_shape(
    lambda: dual_encoder.init_variables(
      dual_encoder.DualEncoder(config), jax.random.key(0), 6
    )
  )["params"]


def flatten(tree):
  return traverse_util.flatten_dict(tree, sep="/")


def normal(tree, seed):
  """Float64 numbers in place of each leaf."""
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda x: rng.normal(size=x.shape), tree)


# What is below and above the numbered layers of each tower, in full: a new
# part fails the test until somebody has thought of it.
BELOW = {
  "image_tower": {
    *("patch_embed", "position_embed", "class_token", "registers"),
    *("stem", "norm_stem"),
  },
  "text_tower": {
    "word_embeddings",
    "position_embeddings",
    "token_type_embeddings",
    "norm_embeddings",
  },
}
ABOVE = {"image_tower": {"norm", "pool"}, "text_tower": set()}


@each_tower
def test_every_parameter_has_the_rate_of_its_layer(tower):
  tree = shapes(TOWERS[tower])
  layer = "stage_" if tower == "resnet" else "block_"
  rates = optim.layer_rates(tree, 0.5)
  assert rates.keys() == flatten(tree).keys()
  for name, rate in rates.items():
    room, part, *_ = (*name.split("/"), "")
    if not room.endswith("_tower"):
      want = 1
    else:
      prefix = layer if room == "image_tower" else "layer_"
      depth = sum(child.startswith(prefix) for child in tree[room])
      if part in ABOVE[room]:
        want = 1
      elif part in BELOW[room]:
        want = 0.5 ** (depth + 1)
      else:
        assert part.startswith(prefix), name
        want = 0.5 ** (depth - int(part.removeprefix(prefix)))
    assert rate == want, name


@each_tower
def test_adamw_decays_kernels_and_embedding_tables_alone(tower):
  tree = shapes(TOWERS[tower])
  # By rank alone, or every shape would be compiled.
  params = jax.tree.map(lambda x: jnp.ones((1,) * x.ndim), tree)
  optimizer = optim.make_optimizer(
    optim.OptimConfig(weight_decay=0.1), lambda _: 1.0, tree
  )
  zeros = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zeros, optimizer.init(params), params)
  for name, update in flatten(updates).items():
    decays = name.endswith(("/kernel", "_embeddings/embedding"))
    np.testing.assert_allclose(
      update, -0.1 if decays else 0, rtol=1e-6, err_msg=name
    )


def reference_steps(config, params, gradients, rates, decayed):
  """Adam by its paper, in float64, one parameter after the other.

  Decay as torch has it: Adam adds it to the gradient, AdamW shrinks the
  parameter by learning rate times decay.
  """
  moments = dict.fromkeys(params, (0.0, 0.0))
  for t, grads in enumerate(gradients, 1):
    norm = np.sqrt(sum(np.sum(g**2) for g in grads.values()))
    clip = min(1, config.clip_norm / norm) if config.clip_norm else 1
    for name, g in grads.items():
      w = params[name]
      g = g * clip
      if config.optimizer == "adam_l2":
        g = g + config.weight_decay * w
      m, v = moments[name]
      m = config.b1 * m + (1 - config.b1) * g
      v = config.b2 * v + (1 - config.b2) * g * g
      moments[name] = m, v
      rate = config.learning_rate * rates[name]
      if config.optimizer == "adamw" and name in decayed:
        w = w - rate * config.weight_decay * w
      m_hat, v_hat = m / (1 - config.b1**t), v / (1 - config.b2**t)
      params[name] = w - rate * m_hat / (np.sqrt(v_hat) + config.eps)
  return params


@pytest.mark.parametrize(
  "options",
  [
    {"layer_decay": 0.5},
    {"layer_decay": 0.5, "clip_norm": 0.0},
    {"optimizer": "adam_l2", "clip_norm": 0.0},
    {"optimizer": "adam_l2", "layer_decay": 0.5},
  ],
)
def test_three_steps_equal_float64_numpy(options):
  config = optim.OptimConfig(
    **{"learning_rate": 0.1, "weight_decay": 0.3, "clip_norm": 1.0, **options}
  )
  tree = {
    "image_tower": {
      "position_embed": np.zeros((1, 4, 2)),
      "block_0": {"query": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}},
      "block_1": {"query": {"kernel": np.zeros((2, 2)), "bias": np.zeros(2)}},
      "norm": {"scale": np.zeros(2)},
    },
    "image_head": {"out": {"kernel": np.zeros((2, 3))}},
    "logit_scale": np.zeros(()),
  }
  start = normal(tree, 0)
  gradients = [normal(tree, seed) for seed in (1, 2, 3)]
  rates = dict.fromkeys(flatten(tree), 1.0)
  if config.layer_decay != 1:
    for name in rates:
      for part, power in (("position", 3), ("block_0", 2), ("block_1", 1)):
        if part in name:
          rates[name] = 0.5**power
  want = reference_steps(
    config,
    flatten(start),
    [flatten(grads) for grads in gradients],
    rates,
    {name for name in rates if name.endswith("kernel")},
  )

  optimizer = optim.make_optimizer(config, lambda _: 0.1, tree)
  params = jax.tree.map(jnp.float32, start)
  state = optimizer.init(params)
  for grads in gradients:
    grads = jax.tree.map(jnp.float32, grads)
    updates, state = optimizer.update(grads, state, params)
    params = jax.tree.map(jnp.add, params, updates)
  for name, got in flatten(params).items():
    np.testing.assert_allclose(got, want[name], atol=5e-6, err_msg=name)


def test_moving_average_equals_a_numpy_loop():
  rng = np.random.default_rng(0)
  values = rng.normal(size=(40, 3))
  average = np.ones(3)
  ema = {"w": jnp.ones(3)}
  for t, value in enumerate(values, 1):
    decay = min(0.7, (1 + t) / (10 + t))
    average = decay * average + (1 - decay) * value
    ema = optim.update_ema(ema, {"w": jnp.float32(value)}, jnp.int32(t), 0.7)
    np.testing.assert_allclose(ema["w"], average, atol=1e-6)
  assert ema["w"].dtype == jnp.float32


def test_the_average_of_what_stays_is_that_bit_for_bit():
  w = {"w": jnp.float32(np.random.default_rng(0).normal(size=1000))}
  ema = w
  for t in range(1, 20):
    ema = optim.update_ema(ema, w, jnp.int32(t), 0.9)
  np.testing.assert_array_equal(ema["w"], w["w"])


def test_frozen_parameters_have_no_moments():
  tree = shapes(VIT)
  trainable, fixed = optim.partition(
    tree, ("image_tower/.*", "text_tower/(layer_[0-1]|.*_embeddings)/.*")
  )
  assert "image_tower" not in trainable
  assert trainable["text_tower"].keys() == {"layer_2"}
  state = optim.make_optimizer(optim.OptimConfig(), lambda _: 1.0, tree).init(
    jax.tree.map(lambda x: jnp.zeros(x.shape), trainable)
  )
  sizes = sum(x.size for x in jax.tree.leaves(trainable))
  assert sum(x.size for x in jax.tree.leaves(state) if x.ndim) <= 2 * sizes
  assert jax.tree.structure(optim.merge(trainable, fixed)) == (
    jax.tree.structure(tree)
  )


def test_frozen_layers_count_for_the_depth():
  tree = shapes(VIT)
  params = jax.tree.map(lambda x: jnp.ones(x.shape), tree)
  trainable, _ = optim.partition(params, ("text_tower/layer_[12]/.*",))
  optimizer = optim.make_optimizer(
    optim.OptimConfig(layer_decay=0.5, weight_decay=0.0), lambda _: 1.0, tree
  )
  grads = jax.tree.map(jnp.ones_like, trainable)
  updates, _ = optimizer.update(grads, optimizer.init(trainable), trainable)
  bias = updates["text_tower"]["layer_0"]["query"]["bias"]
  np.testing.assert_allclose(bias, -(0.5**3), rtol=1e-4)


@pytest.mark.parametrize(
  ("frozen", "words"),
  [
    (("text_tower/layer_[0-7]",), r"layer_\[0-7\]', which matches no whole"),
    (("text_tower/layer_0/qury/bias",), "text_tower/layer_0/query/bias"),
    ((".*",), "matches every parameter, expected some to train"),
  ],
)
def test_patterns_that_freeze_nothing_or_all_are_refused(frozen, words):
  with pytest.raises(ValueError, match=words):
    optim.partition(shapes(VIT), frozen)


@pytest.mark.parametrize(
  ("schedule", "want"),
  [("cosine", [0, 1e-3, 2e-3, 1e-3, 0]), ("constant", [0, 1e-3] + [2e-3] * 3)],
)
def test_schedule_rises_to_the_peak_then_falls_or_stays(schedule, want):
  config = optim.OptimConfig(
    schedule=schedule, learning_rate=2e-3, warmup_steps=10
  )
  schedule = optim.make_schedule(config, 110)
  got = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
  np.testing.assert_allclose(got, want, atol=1e-9)


@pytest.mark.parametrize("schedule", optim.SCHEDULES)
def test_without_warmup_the_first_step_has_the_peak(schedule):
  config = optim.OptimConfig(schedule=schedule, learning_rate=2e-3)
  np.testing.assert_allclose(optim.make_schedule(config, 9)(0), 2e-3)


def test_large_gradients_are_clipped_as_a_whole():
  config = optim.OptimConfig(learning_rate=1.0, weight_decay=0.0, clip_norm=1.0)
  params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
  optimizer = optim.make_optimizer(config, lambda _: 1.0, params)

  def first_moment(scale):
    grads = {"a": jnp.array([3.0 * scale]), "b": jnp.array([4.0 * scale])}
    _, state = optimizer.update(grads, optimizer.init(params), params)
    return jax.tree.leaves(state)[1:3]

  np.testing.assert_allclose(first_moment(1), first_moment(100), rtol=1e-6)


@pytest.mark.parametrize(
  ("options", "words"),
  [
    ({"learning_rate": 0.0}, "optim.learning_rate is 0.0"),
    ({"weight_decay": -1.0}, "optim.weight_decay is -1.0"),
    ({"warmup_steps": -1}, "optim.warmup_steps is -1"),
    ({"optimizer": "adam"}, "optim.optimizer is 'adam', expected one of adamw"),
    ({"schedule": "step"}, "optim.schedule is 'step', expected one of cosine"),
    ({"layer_decay": 0.0}, "optim.layer_decay is 0.0, expected 0 < decay <= 1"),
    ({"ema_decay": 1.0}, "optim.ema_decay is 1.0"),
    ({"frozen": ("block_(",)}, r"optim.frozen has 'block_\(', expected a reg"),
  ],
)
def test_bad_config(options, words):
  with pytest.raises(ValueError, match=words):
    optim.OptimConfig(**options)


def test_warmup_longer_than_the_training_is_refused():
  with pytest.raises(ValueError, match="warmup_steps 10 is not below the 10"):
    optim.make_schedule(optim.OptimConfig(warmup_steps=10), 10)
