"""Which parameters are restored; the rest is in launch/whole_path_test.py."""

import pytest

from tests import config_test
from tier_jax import checkpointing, inference
from tier_jax import config as config_lib
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
  saver.save(1, TrainState(1, {"w": 0.0}, {}, ()), {}, meta)  # pyright: ignore
  saver.close()
  with pytest.raises(ValueError, match=words):
    inference.load(tmp_path, params=params)
