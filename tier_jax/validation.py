"""Evaluation on the way: validation loss, zero-shot score, similarity maps."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from absl import logging

from tier_jax import config as config_lib
from tier_jax import sharding, train_step
from tier_jax.data import loader, pair_source, tokenizer
from tier_jax.evaluators import (
  encoder,
  heatmaps,
  metrics,
  overlays,
  zero_shot,
)
from tier_jax.evaluators.benchmarks import registry
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState


class Validation:
  """All that training evaluates, found and checked before it starts.

  Attributes:
    batch_size: pairs in a batch of the loss.
  """

  def __init__(
    self,
    config: config_lib.Config,
    model: dual_encoder.DualEncoder,
    tokenize: tokenizer.Tokenizer,
    mesh: jax.sharding.Mesh,
    before_batch: Callable[[], None],
  ):
    """Opens the splits.

    Args:
      config: of the training.
      model: the dual encoder.
      tokenize: of its texts.
      mesh: over which batches are split.
      before_batch: called before each batch; what it raises ends an evaluation.

    Raises:
      ValueError: if there are no validation pairs, or too few for the devices.
    """
    self._config, self._mesh = config, mesh
    self._tokenize, self._before_batch = tokenize, before_batch
    self._source = pair_source.PairSource(config.data, "validate")
    size = min(config.train.eval_batch_size, len(self._source))
    self.batch_size = size // mesh.size * mesh.size
    if not self.batch_size:
      raise ValueError(
        f"{len(self._source)} validation pairs (train.eval_batch_size "
        f"{config.train.eval_batch_size}) do not fill {mesh.size} devices"
      )
    self._zero_shot = None
    name = config.train.eval_benchmark
    if name:
      benchmark = dataclasses.replace(registry.find(name), split="validate")
      directory = Path(config.data.data_dir) / benchmark.dataset
      if directory.is_dir():
        self._zero_shot = zero_shot.ZeroShot(benchmark, directory)
      else:
        logging.info("no zero-shot validation: %s is not there", directory)
    self._cases = heatmaps.Cases(
      Path(config.data.data_dir) / config.data.datasets[0],
      [self._zero_shot] if self._zero_shot else [],
      config.model.image.image_size,
    )

    @jax.jit
    def loss(variables, batch):
      return train_step.loss_fn(
        **variables,
        batch=batch,
        key=None,
        model=model,
        config=config.loss,
        mesh=mesh,
      )[1][0]

    self._loss = loss
    self._encoder = encoder.Encoder(
      model, None, tokenize, mesh, before_batch=before_batch
    )

  def run(self, state: TrainState) -> dict[str, float]:
    """Returns the scalars of an evaluation, named valid/...

    They are the moving average's where there is one.
    """
    rows = []
    for batch in loader.eval_batches(
      self._source,
      self._config.data,
      self._tokenize,
      image_size=self._config.model.image.image_size,
      batch_size=self.batch_size,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    ):
      self._before_batch()
      batch = sharding.put_batch(batch, self._mesh)
      rows.append(jax.device_get(self._loss(state.eval_variables, batch)))
    scalars = {
      f"valid/{name}": float(np.mean([row[name] for row in rows]))
      for name in train_step.TERMS
    }
    if self._zero_shot is not None:
      self._encoder.variables = state.eval_variables
      summary = metrics.summarise(
        self._zero_shot.run(self._encoder),
        apart=self._zero_shot.benchmark.apart,
        num_resamples=0,
      )
      macro = summary["macro_auroc"]["value"]
      if macro is not None:
        name = self._config.train.eval_benchmark
        scalars[f"valid/{name}/macro_auroc"] = macro
    logging.info(
      "validation: %s",
      ", ".join(f"{name} {value:.4f}" for name, value in scalars.items()),
    )
    return scalars

  def draw(self, state: TrainState) -> np.ndarray | None:
    """Returns a few held-out images over what their sentences point to.

    Returns:
      (H, W, 3) uint8, see `overlays.sheet`; None without images to show.
    """
    self._encoder.variables = state.eval_variables
    maps = self._cases.compute(self._encoder)
    return None if maps is None else overlays.sheet(maps)


def better(
  best: dict | None, step: int, scalars: dict[str, float], num_pairs: int
) -> dict | None:
  """Returns the record of the better step: the old one, or that of `scalars`.

  A benchmark's macro AUROC decides, where there is one, or else the contrastive
  loss. A record of another metric is replaced; one that is no number is none.

  Args:
    best: "step", "metric" and "value", or None.
    step: of the scalars.
    scalars: as `Validation.run` returns them.
    num_pairs: in a batch of the loss: of other sizes, losses do not compare.
  """
  areas = [name for name in scalars if name.endswith("/macro_auroc")]
  name = areas[0] if areas else "valid/contrastive_loss"
  metric = name if areas else f"{name} of {num_pairs}"
  value = scalars[name]
  if math.isnan(value):
    return best
  if best is not None and best["metric"] == metric:
    gain = value - best["value"]
    if (gain if areas else -gain) <= 0:
      return best
  return {"step": step, "metric": metric, "value": value}
