"""Timing on jax devices: dense products, and a model of known size."""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from tier_jax import config as config_lib
from tier_jax import flops
from tier_jax.benchmarks import rounds

# Of the dense product, which must fill the devices.
SIDE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
SIZES = {
  "B": {"image": {"variant": "B", "image_size": 224}, "text": {}},
  "tiny": {
    "image": {
      "image_size": 32,
      "patch_size": 8,
      "width": 32,
      "depth": 1,
      "num_heads": 2,
      "mlp_dim": 64,
    },
    "text": {
      "hidden_size": 32,
      "num_hidden_layers": 1,
      "num_attention_heads": 2,
      "intermediate_size": 64,
    },
  },
}


def add_flags(parser: argparse.ArgumentParser, batch_size: int) -> None:
  """Adds the flags that say what model, how often and in what precision."""
  parser.add_argument(
    "--model",
    choices=SIZES,
    default="B",
    help="towers: ViT-B/16 and BERT-base, or tiny ones (%(default)s)",
  )
  parser.add_argument(
    "--dtype", choices=("float32", "bfloat16"), default="float32"
  )
  for name, default, text in (
    ("batch_size", batch_size, "pairs, over all devices"),
    ("max_length", 128, "tokens a text"),
    ("repeats", 2, "a cell and round"),
    ("rounds", 5, "in which the cells take turns"),
  ):
    parser.add_argument(
      f"--{name}", type=int, default=default, help=f"{text} (%(default)s)"
    )


def make_config(
  arguments: argparse.Namespace, loss: dict[str, Any] | None = None
) -> config_lib.Config:
  """Returns the config that `add_flags` describes, of a training of AdamW.

  Raises:
    ValueError: if a flag is out of range.
  """
  if arguments.repeats < 1:
    raise ValueError(f"repeats is {arguments.repeats}, expected >= 1")
  towers = {
    name: {**size, "dtype": arguments.dtype}
    for name, size in SIZES[arguments.model].items()
  }
  return config_lib.build(
    {
      "data": {"data_dir": "none", "max_length": arguments.max_length},
      "model": towers,
      "loss": loss or {},
      "train": {"batch_size": arguments.batch_size, "num_steps": 10_000},
    }
  )


def random_batch(shapes: dict[str, Any], config: config_lib.Config) -> dict:
  """Returns arrays of the shapes: noise, real word-pieces, full texts."""
  rng = np.random.default_rng(0)
  rows = np.arange(config.data.max_length)
  values = {
    "input_ids": lambda s: rng.integers(0, config.model.text.vocab_size, s),
    "attention_mask": np.ones,
    "token_mask": np.ones,
    "word_starts": lambda s: np.broadcast_to(rows, s),
  }
  noise = lambda s: rng.integers(0, 256, s)  # noqa: E731
  return {
    name: jax.device_put(
      values.get(name, noise)(shape.shape).astype(shape.dtype), shape.sharding
    )
    for name, shape in shapes.items()
  }


def product_rate(dtype: str, repeats: int) -> Callable[[], float]:
  """Returns a cell: FLOP/s of a large dense product on all devices."""
  side = SIDE[jax.default_backend()]
  count = jax.local_device_count()
  multiply = jax.pmap(lambda a, b: a @ b)
  a = jax.pmap(lambda key: jax.random.normal(key, (side, side), dtype))(
    jax.random.split(jax.random.key(0), count)
  )
  jax.block_until_ready(multiply(a, a))

  def cell() -> float:
    for _ in range(3):  # the first after another cell are slow
      jax.block_until_ready(multiply(a, a))
    start = time.perf_counter()
    for _ in range(repeats):
      jax.block_until_ready(multiply(a, a))
    return count * repeats * 2 * side**3 / (time.perf_counter() - start)

  return cell


def machine() -> dict[str, Any]:
  """Returns `rounds.machine` with the devices."""
  kind = jax.devices()[0].device_kind
  return {**rounds.machine(), "devices": f"{jax.device_count()} {kind}"}


def mfu(flops_per_second: float) -> float | None:
  """Returns the share of the data sheet's peak, None where none is known."""
  peak = flops.peak(jax.devices()[0].device_kind)
  return flops_per_second / peak / jax.device_count() if peak else None
