"""Durations against counting by hand."""

import pytest

from tests import config_test
from tier_jax import config as config_lib
from tier_jax import durations, optim


def build(**train):
  warmup = train.pop("warmup", 0)
  return config_lib.build(
    config_test.smoke(train=train, optim={"warmup_steps": warmup})
  )


@pytest.mark.parametrize(
  ("value", "steps"),
  [
    (7, 7),
    ("7", 7),
    ("1_000 steps", 1000),
    ("1 step", 1),
    ("17 examples", 3),  # of 8 pairs each
    ("16 examples", 2),
    ("1 example", 1),
    ("1_600 examples", 200),
    ("1 epoch", 13),  # of 100 pairs
    ("3 epochs", 38),  # 37.5
    ("0.5 epochs", 7),  # 6.25
    ("0.001 epochs", 1),
    # In floats a step more: 0.56 * 100 is 56.00000000000001.
    ("0.56 epochs", 7),
  ],
)
def test_a_duration_in_steps(value, steps):
  config = durations.resolve(build(num_steps=value), 100)
  assert config.train.num_steps == steps
  assert config_lib.build(config_lib.to_dict(config)) == config


def test_all_durations_are_resolved_and_nothing_else_changes():
  names = ("log_every", "eval_every", "checkpoint_every", "diagnostics_every")
  spelt = build(
    num_steps="4 epochs", warmup="0 epochs", **dict.fromkeys(names, "1 epoch")
  )
  assert spelt.train.log_every == "1 epoch"
  plain = build(num_steps=40, warmup=0, **dict.fromkeys(names, 10))
  assert durations.resolve(spelt, 80) == plain
  assert durations.resolve(plain, 123) == plain


@pytest.mark.parametrize(
  "value",
  [
    "soon",
    "",
    "3 epoch s",
    "1.5 steps",
    "0.5 examples",
    "-1",
    "1e3",
    "_1",
    2.0,
  ],
)
@pytest.mark.parametrize("name", ["num_steps", "eval_every"])
def test_a_misspelt_duration_is_named(name, value):
  with pytest.raises(ValueError, match=rf"^train\.{name} is .*expected a "):
    build(**{name: value})


@pytest.mark.parametrize("value", [0, "0", "0 examples", "0.0 epochs"])
def test_nothing_happens_every_zero_steps(value):
  with pytest.raises(ValueError, match=r"train.log_every is .*expected >= 1"):
    build(log_every=value)
  assert durations.resolve(build(warmup=value), 9).optim.warmup_steps == 0


@pytest.mark.parametrize(
  ("num_steps", "warmup"),
  [
    ("3 epochs", "1 epoch"),
    ("3 epochs", 2000),
    (5, "1 epoch"),
    ("9 examples", 0),
  ],
)
def test_a_step_can_be_had_without_data(num_steps, warmup):
  spelt = build(num_steps=num_steps, warmup=warmup, eval_every="1 epoch")
  config = durations.stand_in(spelt)
  assert optim.make_schedule(config.optim, config.train.num_steps)
  assert config.train.eval_every == 1
  plain = build(num_steps=5, warmup=2)
  assert durations.stand_in(plain) == plain
