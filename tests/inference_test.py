"""Which step and parameters are restored; the rest is in whole_path_test.py."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from tests import config_test
from tier_jax import checkpointing, inference
from tier_jax import config as config_lib
from tier_jax.data import tokenizer
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState


@pytest.mark.parametrize(
  ("params", "words"),
  [
    ("mean", "params is 'mean', expected ema or raw"),
    ("ema", "trained with optim.ema_decay 0, expected raw"),
  ],
)
def test_parameters_that_were_not_kept_are_refused(tmp_path, params, words):
  config = config_lib.build(config_test.smoke(optim={"ema_decay": 0.0}))
  saver = checkpointing.Checkpointer(tmp_path)
  meta = {"config": config_lib.to_dict(config), "tokenizer": ""}
  state = TrainState(1, {"w": 0.0}, {}, ())  # pyright: ignore
  saver.save(1, state, {}, {}, meta)
  saver.close()
  with pytest.raises(ValueError, match=words):
    inference.load(tmp_path, params=params)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Of the steps 2 to 4, each with its number as the logits' bias.

  Steps 3 and 4 say that 2 was the best, and 2 says nothing.
  """
  path = tmp_path_factory.mktemp("run")
  config = config_lib.build(config_test.smoke(optim={"ema_decay": 0.0}))
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.data.max_length)
  text = dataclasses.replace(config.model.text, vocab_size=tokenize.vocab_size)
  config = dataclasses.replace(
    config, model=dataclasses.replace(config.model, text=text)
  )
  network = dual_encoder.DualEncoder(config.model)
  shapes = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      network, jax.random.key(0), tokenize.max_length
    )
  )
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  meta = {
    "config": config_lib.to_dict(config),
    "tokenizer": tokenize.to_json(),
  }
  saver = checkpointing.Checkpointer(path)
  for step in (2, 3, 4):
    params = {**zeros["params"], "logit_bias": np.float32(step)}
    state = TrainState(np.int32(step), params, zeros["batch_stats"], ())
    best = {"step": 2, "metric": "valid/loss", "value": 1.0}
    progress = {"best": best if step > 2 else None}
    saver.save(step, state, {}, progress, meta, best=2)
  saver.close()
  return path


@pytest.fixture
def damaged(workdir, tmp_path):
  """Returns a function that damages steps of a copy, and returns that."""

  def damage(*steps):
    path = shutil.copytree(workdir, tmp_path / "run")
    for step in steps:
      with (path / "checkpoints" / str(step) / "input" / "metadata").open(
        "ab"
      ) as file:
        file.write(b" ")
    return path

  return damage


@pytest.mark.parametrize(
  ("damage", "step", "want"),
  [
    ((), None, 4),
    ((), 3, 3),
    ((), "best", 2),
    ((4,), None, 3),
    ((4,), "best", 2),
    ((3, 4), None, 2),
    ((2,), 4, 4),
  ],
)
def test_the_step_that_is_loaded(damaged, damage, step, want):
  path = damaged(*damage)
  model = inference.load(path, step)
  assert model.step == want
  assert model.variables["params"]["logit_bias"] == want
  assert not (path / "damaged").exists()  # to read is not to tidy


@pytest.mark.parametrize(
  ("damage", "step", "words"),
  [
    ((), 5, r"no checkpoint of step 5, expected one of \[2, 3, 4\]"),
    ((4,), 4, "step 4 in .* is damaged: the bytes of input/metadata have"),
    ((2,), "best", "step 2 in .* is damaged"),
    ((3, 4), "best", "step is 'best', but step 2 .* expected a number"),
    ((2, 3, 4), None, "holds no sound checkpoint"),
  ],
)
def test_a_step_that_cannot_be_loaded_is_refused(damaged, damage, step, words):
  with pytest.raises(ValueError, match=words):
    inference.load(damaged(*damage), step)


@pytest.mark.parametrize(
  ("text", "want"), [(None, None), ("best", "best"), ("120", 120)]
)
def test_steps_of_a_flag(text, want):
  assert inference.parse_step(text) == want


@pytest.mark.parametrize("text", ["", "last", "-1", "1.5"])
def test_what_is_no_step_is_refused(text):
  with pytest.raises(ValueError, match=f"--step is '{text}', expected a num"):
    inference.parse_step(text)
