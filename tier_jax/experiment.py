"""What a config becomes before it trains, and whether it is the same again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import traverse_util

from tier_jax import config as config_lib
from tier_jax.data import pair_source, shards, tokenizer, transforms
from tier_jax.models import pretrained
from tier_jax.train_state import TrainState

# A resumed run may differ in where and how often, not in what it computes.
_FREE = (
  *("data.data_dir", "data.num_", "data.max_corrupt", "train.eval_"),
  *("_every", "_minutes", "train.on_nonfinite", "train.max_faults"),
  # But for rounding, and which units accumulation drops out.
  *("mesh.", "train.accumulate", "loss.ring"),
  *(".attention", ".remat", ".scan_layers"),
)


def resolve(
  config: config_lib.Config,
) -> tuple[config_lib.Config, tokenizer.Tokenizer]:
  """Returns the config with the towers' sizes filled in, and tokenizer.

  Sizes come from the pretrained weights where there are any; a vocabulary
  size of 0 becomes the tokenizer's.

  Raises:
    ValueError: if tokenizer, weights and config do not fit together.
  """
  tokenize = tokenizer.Tokenizer.from_name(
    config.data.tokenizer, config.data.max_length
  )
  model = pretrained.resolve(config.init, config.model)
  _check_vocabulary(config, tokenize)
  text = model.text
  if not text.vocab_size:
    text = dataclasses.replace(text, vocab_size=tokenize.vocab_size)
  if text.vocab_size < tokenize.vocab_size:
    raise ValueError(
      f"model.text.vocab_size {text.vocab_size} is less than the "
      f"{tokenize.vocab_size} tokens of data.tokenizer "
      f"{config.data.tokenizer!r}"
    )
  if text.max_position_embeddings < config.data.max_length:
    raise ValueError(
      f"data.max_length {config.data.max_length} exceeds "
      f"model.text.max_position_embeddings {text.max_position_embeddings}"
    )
  model = dataclasses.replace(model, text=text)
  return dataclasses.replace(config, model=model), tokenize


def _check_vocabulary(config, tokenize) -> None:
  """Warns, or raises, if pretrained text weights are of other tokens."""
  name, text = config.data.tokenizer, config.init.text
  if not text or name == text:
    return

  def vocabulary(tokenize):
    return json.loads(tokenize.to_json())["model"].get("vocab")

  try:
    own = tokenizer.Tokenizer.from_name(text, config.data.max_length)
    if vocabulary(own) == vocabulary(tokenize):
      return
  except ValueError:
    pass  # weights without a tokenizer
  if name == "bundled":
    raise ValueError(
      f"data.tokenizer is 'bundled', but init.text {text!r} was trained with "
      "another vocabulary, expected its tokenizer"
    )
  logging.warning(
    "data.tokenizer %r may number tokens otherwise than init.text %r: then its "
    "embeddings stand for other words",
    name,
    text,
  )


def with_weights(
  state: TrainState, params: Any, batch_stats: Any
) -> TrainState:
  """Returns the state with loaded parts in place, in the moving average too.

  Args:
    state: of which nothing may be used after.
    params, batch_stats: trees of top-level parts, as `pretrained.load` gives.
  """

  def fill(old, loaded):
    placed = {
      name: jax.tree.map(
        lambda new, was: jax.device_put(new, was.sharding), tree, old[name]
      )
      for name, tree in loaded.items()
    }
    return {**old, **placed}

  params = fill(state.params, params)
  batch_stats = fill(state.batch_stats, batch_stats)
  ema_params = None
  if state.ema_params is not None:
    ema_params = jax.tree.map(jnp.copy, params)  # both trees are donated
  return dataclasses.replace(
    state, params=params, batch_stats=batch_stats, ema_params=ema_params
  )


def find_rendering(config: pair_source.DataConfig) -> transforms.Rendering:
  """Returns how the pictures were made that a model learns from.

  New files are to be read in the same way. Where datasets differ it is that of
  the first, and a warning.

  Raises:
    ValueError: if a manifest does not say.
  """
  found = {
    name: shards.read_rendering(Path(config.data_dir) / name)
    for name in config.datasets
  }
  first, *others = found.values()
  if any(other != first for other in others):
    logging.warning(
      "pictures were made in several ways: %s; new files will be read as those "
      "of %s",
      ", ".join(
        f"{name} by {way.recipe} at {way.short_side} pixels"
        for name, way in found.items()
      ),
      config.datasets[0],
    )
  return first


def check_same(saved: dict, meta: dict) -> None:
  """Raises ValueError if the checkpoint belongs to another experiment."""
  for name in ("data", "tokenizer"):
    if saved[name] != meta[name]:
      raise ValueError(
        f"workdir holds a checkpoint of other {name}, expected a fresh "
        "--workdir or what it was trained with"
      )
  old, new = (
    traverse_util.flatten_dict(config, sep=".")
    for config in (saved["config"], json.loads(json.dumps(meta["config"])))
  )
  changed = [
    f"{name} {old.get(name)!r} -> {new.get(name)!r}"
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
    and not name.startswith(_FREE)
    and not name.endswith(_FREE)
  ]
  if changed:
    raise ValueError(
      "workdir holds the checkpoint of another config, expected a fresh "
      "--workdir or the same config; changed: " + "; ".join(changed)
    )
