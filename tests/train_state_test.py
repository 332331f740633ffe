"""All that a training carries: frozen, averaged, saved and resumed."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import traverse_util

from tier_jax import checkpointing, optim, sharding, train_step
from tier_jax.losses import objective
from tier_jax.models import bert, dual_encoder, resnet
from tier_jax.train_state import TrainState

# Batch norms, dropout, frozen parts of both towers and a moving average.
MODEL = dual_encoder.DualEncoder(
  dual_encoder.DualEncoderConfig(
    resnet.ResNetConfig(image_size=32, width=4, stage_sizes=(1, 1, 1, 1)),
    bert.BertConfig(64, 16, 2, 2, 32, 6, dropout_rate=0.1),
    embed_dim=8,
  )
)
CONFIG = optim.OptimConfig(
  learning_rate=1e-2,
  layer_decay=0.7,
  weight_decay=0.1,
  frozen=("text_tower/(.*embeddings|layer_0)/.*", "image_tower/.*stem/.*"),
  ema_decay=0.9,
)


def make_batch(step):
  rng = np.random.default_rng(step)
  return {
    "record": np.arange(8, dtype=np.int32),
    "image": rng.integers(0, 256, (8, 32, 32), np.uint8),
    "input_ids": rng.integers(5, 64, (8, 6)).astype(np.int32),
    "attention_mask": np.ones((8, 6), np.int32),
    "token_mask": np.ones((8, 6), bool),
    "word_starts": np.tile(np.arange(6, dtype=np.int32), (8, 1)),
  }


def flatten(tree):
  return traverse_util.flatten_dict(jax.device_get(tree), sep="/")


@pytest.fixture(scope="module")
def training(tmp_path_factory):
  """Four steps of which the second was saved."""
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])

  def init(key):
    variables = dual_encoder.init_variables(MODEL, key, 6)
    trainable, _ = optim.partition(variables["params"], CONFIG.frozen)
    return TrainState(
      jnp.zeros((), jnp.int32),
      opt_state=optimizer.init(trainable),
      ema_params=variables["params"],
      **variables,
    )

  shapes = jax.eval_shape(
    lambda: dual_encoder.init_variables(MODEL, jax.random.key(0), 6)
  )["params"]
  optimizer = optim.make_optimizer(
    CONFIG, optim.make_schedule(CONFIG, 5), shapes
  )
  abstract = jax.eval_shape(init, jax.random.key(0))
  where = sharding.state_sharding(abstract, mesh)
  update = train_step.make_train_step(
    MODEL,
    optimizer,
    objective.LossConfig(),
    frozen=CONFIG.frozen,
    ema_decay=CONFIG.ema_decay,
  )
  traces = []

  def counted(*args):
    traces.append(args)
    return update(*args)

  step = jax.jit(counted, out_shardings=(where, None), donate_argnums=0)
  run = types.SimpleNamespace(
    step=step,
    traces=traces,
    workdir=tmp_path_factory.mktemp("run"),
    abstract=jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      where,
    ),
  )
  state = jax.jit(init, out_shardings=where)(jax.random.key(0))
  run.states = [jax.device_get(state)]
  saver = checkpointing.Checkpointer(run.workdir)
  for i in range(4):
    if i == 2:
      saver.save(2, state, {}, {}, {})
    state, _ = step(state, make_batch(i), jax.random.key(1))
    run.states.append(jax.device_get(state))
  saver.close()
  return run


def test_no_step_compiles_but_the_first(training):
  assert len(training.traces) == 1


def test_a_resumed_training_is_the_one_that_went_on(training):
  reader = checkpointing.Checkpointer(training.workdir, read_only=True)
  state, _, _ = reader.restore(2, training.abstract)
  for i in (2, 3):
    state, _ = training.step(state, make_batch(i), jax.random.key(1))
  # Parameters, moving average, moments, batch statistics and step.
  jax.tree.map(np.testing.assert_array_equal, state, training.states[-1])


def test_frozen_parameters_stay_bit_for_bit_and_all_others_move(training):
  start, end = training.states[0], training.states[-1]
  _, fixed = optim.partition(start.params, CONFIG.frozen)
  fixed = flatten(fixed)
  assert len(fixed) == 3 + 2 + 16 + 3
  for name, before in flatten(start.params).items():
    for tree in (end.params, end.ema_params):
      same = np.array_equal(flatten(tree)[name], before)
      # InfoNCE is the same for any bias of the logits.
      assert same == (name in fixed or name == "logit_bias"), name
  # Two moments of what trains, and two counts.
  trained = len(flatten(start.params)) - len(fixed)
  assert len(jax.tree.leaves(end.opt_state)) == 2 * trained + 2


def test_the_moving_average_is_that_of_the_parameters_after_each_step(training):
  name = "text_head/out/kernel"
  average = np.float64(flatten(training.states[0].params)[name])
  for t, state in enumerate(training.states[1:], 1):
    decay = min(CONFIG.ema_decay, (1 + t) / (10 + t))
    new = np.float64(flatten(state.params)[name])
    average = decay * average + (1 - decay) * new
    np.testing.assert_allclose(
      flatten(state.ema_params)[name], average, atol=1e-6
    )


def test_evaluation_takes_the_average_where_there_is_one(training):
  state = training.states[-1]
  assert state.eval_variables["params"] is state.ema_params
  assert state.eval_variables["batch_stats"] is state.batch_stats
  plain = state.replace(ema_params=None)
  assert plain.eval_variables["params"] is state.params


@pytest.mark.parametrize("averaged", [True, False])
def test_average_and_parameters_can_each_be_restored_alone(training, averaged):
  variables = {
    "params": training.abstract.params,
    "batch_stats": training.abstract.batch_stats,
  }
  got = checkpointing.restore_variables(
    training.workdir, 2, variables, averaged=averaged
  )
  saved = training.states[2]
  want = {
    "params": saved.ema_params if averaged else saved.params,
    "batch_stats": saved.batch_stats,
  }
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_batch_statistics_move_with_the_batches(training):
  start, end = training.states[0], training.states[-1]
  for name, before in flatten(start.batch_stats).items():
    assert not np.array_equal(flatten(end.batch_stats)[name], before), name
