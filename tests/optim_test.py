"""The schedule's corners, and what is decayed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax import optim


def test_schedule_rises_to_the_peak_and_falls_to_zero():
  config = optim.OptimConfig(learning_rate=2e-3, warmup_steps=10)
  schedule = optim.make_schedule(config, 110)
  got = [float(schedule(step)) for step in (0, 5, 10, 60, 110)]
  np.testing.assert_allclose(got, [0, 1e-3, 2e-3, 1e-3, 0], atol=1e-9)


def test_norms_biases_and_scale_are_not_decayed():
  config = optim.OptimConfig(learning_rate=1.0, weight_decay=0.1, clip_norm=0.0)
  params = {"kernel": jnp.ones((2, 2)), "bias": jnp.ones(2), "s": jnp.ones(())}
  optimizer = optim.make_optimizer(config, lambda _: 1.0, params)
  zero = jax.tree.map(jnp.zeros_like, params)
  updates, _ = optimizer.update(zero, optimizer.init(params), params)
  np.testing.assert_allclose(updates["kernel"], -0.1, rtol=1e-6)
  assert not np.any(updates["bias"])
  assert not np.any(updates["s"])


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
  ],
)
def test_bad_config(options, words):
  with pytest.raises(ValueError, match=words):
    optim.OptimConfig(**options)


def test_warmup_longer_than_the_training_is_refused():
  with pytest.raises(ValueError, match="warmup_steps 10 is not below the 10"):
    optim.make_schedule(optim.OptimConfig(warmup_steps=10), 10)
