"""The work directory of a model that was never trained."""

import dataclasses
from pathlib import Path

import jax
import numpy as np

from tests import config_test
from tests.evaluators import datasets
from tier_jax import checkpointing
from tier_jax import config as config_lib
from tier_jax.data import tokenizer
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState


def write(path: Path) -> Path:
  """Writes random parameters, which score every image differently."""
  config = config_lib.build(config_test.smoke(optim={"ema_decay": 0.0}))
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.data.max_length)
  text = dataclasses.replace(config.model.text, vocab_size=tokenize.vocab_size)
  config = dataclasses.replace(
    config, model=dataclasses.replace(config.model, text=text)
  )
  variables = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      dual_encoder.DualEncoder(config.model),
      jax.random.key(0),
      tokenize.max_length,
    )
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: np.asarray(rng.normal(0, 0.5, x.shape), x.dtype), variables
  )
  saver = checkpointing.Checkpointer(path)
  state = TrainState(
    np.int32(1), variables["params"], variables["batch_stats"], ()
  )
  meta = {
    "config": config_lib.to_dict(config),
    "tokenizer": tokenize.to_json(),
    "rendering": dataclasses.asdict(datasets.RENDERING),
  }
  saver.save(1, state, {}, {"best": None}, meta)
  saver.close()
  return path
