"""Training steps, beside what their products alone would take.

The step is that of training: AdamW, both penalties, no dropout. "Products" are
the pairs a second at which its FLOPs would run at the speed of one large dense
product on the same devices; "step / products" is the share of that which is
reached. On GPUs whose peak is known, MFU by the data sheet is given as well.
"""

import argparse
import time

import jax

from tier_jax import flops, program, sharding
from tier_jax.benchmarks import devices, rounds

RATIOS = {"step / products": ("step", "products")}
table = rounds.table


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  devices.add_flags(parser, batch_size=8)


def measure(arguments: argparse.Namespace) -> dict:
  """Returns pairs a second, and the share of the products' speed.

  Raises:
    ValueError: if a flag is out of range.
  """
  config = devices.make_config(
    arguments, {"token_entropy_weight": 0.2, "patch_entropy_weight": 0.1}
  )
  made = program.make(config, sharding.make_mesh(config.mesh))
  traced = made.trace()
  pair = flops.count(traced.jaxpr) / arguments.batch_size
  step = traced.lower().compile()
  key = jax.random.key(0)
  batch = devices.random_batch(made.batch, config)
  state, metrics = step(made.init(key), batch, key)
  jax.block_until_ready(metrics)

  def steps() -> float:
    nonlocal state
    start = time.perf_counter()
    for _ in range(arguments.repeats):
      state, metrics = step(state, batch, key)
      jax.block_until_ready(metrics)
    seconds = time.perf_counter() - start
    return arguments.batch_size * arguments.repeats / seconds

  products = devices.product_rate(arguments.dtype, arguments.repeats)
  rates = rounds.interleave(
    {"step": steps, "products": lambda: products() / pair}, arguments.rounds
  )
  loss = float(metrics["loss"])
  summary = rounds.summarise(rates, RATIOS)
  notes = {"GFLOP a pair": round(pair / 1e9, 3), "first loss": round(loss, 4)}
  reached = devices.mfu(summary["median"]["rates"]["step"] * pair)
  if reached is not None:
    notes["MFU"] = round(reached, 4)
  return {
    "benchmark": "train_step",
    "about": f"towers {arguments.model}, {arguments.dtype}, batches of "
    f"{arguments.batch_size}, {arguments.max_length} tokens, "
    f"{arguments.rounds} rounds of {arguments.repeats}",
    "machine": devices.machine(),
    "unit": "pairs a second",
    "rates": rates,
    **summary,
    "notes": notes,
  }
