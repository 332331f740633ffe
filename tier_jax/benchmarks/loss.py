"""The losses and their gradients on embeddings, beside the contrastive one.

Embeddings are drawn, of the shapes that the model's towers give; no tower
runs. "Products" are the evaluations a second at which InfoNCE's and the
penalties' FLOPs would run at the speed of one large dense product.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from tier_jax import flops
from tier_jax.benchmarks import devices, rounds
from tier_jax.losses import objective
from tier_jax.models import dual_encoder

_NONE = {"token_entropy_weight": 0.0, "patch_entropy_weight": 0.0}
LOSSES: dict[str, dict[str, Any]] = {
  "infonce": _NONE,
  "infonce, penalties": {
    "token_entropy_weight": 0.2,
    "patch_entropy_weight": 0.1,
  },
  "siglip": {"infonce_weight": 0.0, "siglip_weight": 1.0} | _NONE,
}
RATIOS = {
  "infonce, penalties / infonce": ("infonce, penalties", "infonce"),
  "infonce, penalties / products": ("infonce, penalties", "products"),
}
table = rounds.table


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  devices.add_flags(parser, batch_size=64)


def measure(arguments: argparse.Namespace) -> dict:
  """Returns gradients of each loss a second, and their ratios.

  Raises:
    ValueError: if a flag is out of range.
  """
  config = devices.make_config(arguments)
  size, length = arguments.batch_size, arguments.max_length
  embeds, batch = _draw(size, length, config.model)
  cells: dict[str, Callable[[], float]] = {}
  count = 0
  for name, weights in LOSSES.items():
    gradient = jax.jit(
      jax.grad(_loss_fn(objective.LossConfig(**weights), batch))
    )
    if name == "infonce, penalties":
      count = flops.count(gradient.trace(embeds).jaxpr)
    jax.block_until_ready(gradient(embeds))
    cells[name] = _timed(gradient, embeds, arguments.repeats)
  products = devices.product_rate("float32", arguments.repeats)
  cells["products"] = lambda: products() / count
  rates = rounds.interleave(cells, arguments.rounds)
  patches = embeds["patch_embeds"].shape[1]
  return {
    "benchmark": "loss",
    "about": f"{size} pairs, {length} tokens, {patches} patches, "
    f"{config.model.embed_dim} dimensions, {arguments.rounds} rounds of "
    f"{arguments.repeats}",
    "machine": devices.machine(),
    "unit": "gradients a second",
    "rates": rates,
    **rounds.summarise(rates, RATIOS),
    "notes": {"MFLOP a gradient, with penalties": round(count / 1e6, 3)},
  }


def _draw(size: int, length: int, model: Any) -> tuple[dict, dict]:
  patches = model.image.grid[0] * model.image.grid[1]
  shapes = {
    "image_embeds": (size,),
    "text_embeds": (size,),
    "patch_embeds": (size, patches),
    "token_embeds": (size, length),
  }
  embeds = {}
  for i, (name, shape) in enumerate(shapes.items()):
    drawn = jax.random.normal(jax.random.key(i), (*shape, model.embed_dim))
    embeds[name] = drawn / jnp.linalg.norm(drawn, axis=-1, keepdims=True)
  ones = jnp.ones((size, length), jnp.int32)
  return embeds, {"attention_mask": ones, "token_mask": ones.astype(bool)}


def _loss_fn(config: objective.LossConfig, batch: dict) -> Callable:
  def loss(embeds):
    output = dual_encoder.DualEncoderOutput(
      **embeds,
      first_pieces=batch["token_mask"],
      logit_scale=jnp.log(1 / 0.07),
      logit_bias=jnp.zeros(()),
    )
    return objective.compute_losses(output, batch, config)[0]

  return loss


def _timed(gradient: Callable, embeds: dict, repeats: int) -> Callable:
  def cell() -> float:
    start = time.perf_counter()
    for _ in range(repeats):
      jax.block_until_ready(gradient(embeds))
    return repeats / (time.perf_counter() - start)

  return cell
