"""Trainings of a few seconds on a tiny dataset, for tests of the loop."""

import contextlib
import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from tests import config_test
from tests.evaluators import datasets
from tier_jax import (
  checkpointing,
  inference,
  prefetch,
  program,
  sharding,
  train_step,
)
from tier_jax import config as config_lib
from tier_jax.data import loader, pair_source, tokenizer

BATCH = 8
TRAIN = 160  # pairs: twenty steps an epoch
SHARD = "mimic_cxr-train.array_record-00000-of-00001"


def write_data(root: Path, boxes: bool = False) -> Path:
  """Writes a dataset, and returns the data_dir that holds it.

  Args:
    root: where it goes.
    boxes: give the validation images boxes, which makes them a picture.
  """
  box = (("Pneumothorax", (2.0, 4.0, 12.0, 20.0)),) if boxes else ()
  splits = {
    "train": [
      datasets.record(i, level=i, findings=f"Nodule {i} in the left lung.")
      for i in range(TRAIN)
    ],
    "validate": [
      datasets.record(
        1000 + i, level=90 + i, boxes=box, findings=f"Effusion {i} is small."
      )
      for i in range(BATCH)
    ],
  }
  datasets.write(root / "mimic_cxr", splits)
  return root


def config(data_dir: Path, **train: Any) -> config_lib.Config:
  """Returns a config of eight steps, a checkpoint at 5 and 8.

  Args:
    data_dir: see `write_data`.
    **train: fields of `config.TrainConfig` to replace.
  """
  blocks = {"depth": 1, "num_heads": 2}
  layers = {"num_hidden_layers": 1}
  return config_lib.build(
    config_test.smoke(
      data={"data_dir": str(data_dir), "max_length": 12},
      model={"image": blocks, "text": layers},
      optim={"ema_decay": 0.5},
      train={
        "batch_size": BATCH,
        "num_steps": 8,
        "log_every": 1,
        "eval_every": 4,
        "checkpoint_every": 5,
        "diagnostics_every": 100,
        "eval_benchmark": "",
        "watchdog_minutes": 0.0,
        **train,
      },
    )
  )


def write_config(config: config_lib.Config, path: Path) -> None:
  """Writes the config as a file for `launch/train.py`."""
  text = json.dumps(config_lib.to_dict(config))
  path.write_text(
    "import json\n\nimport ml_collections\n\n\ndef get_config():\n"
    f"  return ml_collections.ConfigDict(json.loads({text!r}))\n"
  )


def compile_settings(factory: pytest.TempPathFactory) -> dict[str, Any]:
  """Returns settings of jax by which trainings share what is compiled."""
  root = factory.getbasetemp()
  if "PYTEST_XDIST_WORKER" in os.environ:
    root = root.parent  # of all workers
  return {
    "jax_compilation_cache_dir": str(root / "compiled"),
    "jax_persistent_cache_min_compile_time_secs": 0.1,
    "jax_persistent_cache_min_entry_size_bytes": -1,
    "jax_disable_most_optimizations": True,  # they take longer than all steps
  }


def compile_environment(factory: pytest.TempPathFactory) -> dict[str, str]:
  """Returns `compile_settings` for the environment of another process."""
  settings = compile_settings(factory)
  return {name.upper(): str(value) for name, value in settings.items()}


@contextlib.contextmanager
def compiled_once(factory: pytest.TempPathFactory) -> Iterator[None]:
  """Makes trainings cheap within: `compile_settings`, two devices, one trace.

  Two are enough for all that is not about the mesh, and eight take twice as
  long to compile and to save for. Trainings of one program share its functions,
  and so what is traced of them.
  """
  settings = compile_settings(factory)
  before = {name: jax.config.values[name] for name in settings}
  compilation_cache.reset_cache()  # it looks for the directory once
  for name, value in settings.items():
    jax.config.update(name, value)
  make_mesh, make = sharding.make_mesh, program.make
  made: dict[Any, program.Program] = {}

  def make_once(config, mesh):
    key = (
      *(repr(part) for part in (config.model, config.optim, config.loss)),
      repr(dataclasses.replace(config.data, data_dir="any")),
      *(config.train.batch_size, config.train.accumulate),
      *(config.train.num_steps, config.seed, mesh),
      train_step._encode,  # which tests replace
    )
    if key not in made:
      made[key] = make(config, mesh)
    return dataclasses.replace(made[key], config=config)

  with pytest.MonkeyPatch.context() as patch:
    two = functools.partial(make_mesh, devices=jax.devices()[:2])
    patch.setattr(sharding, "make_mesh", two)
    patch.setattr(program, "make", make_once)
    yield
  for name, value in before.items():
    jax.config.update(name, value)
  compilation_cache.reset_cache()


class Batches:
  """What the steps of a training took, batch by batch.

  Attributes:
    records: of each batch, sorted.
  """

  def __init__(self, monkeypatch: pytest.MonkeyPatch):
    """Looks on from here to the end of the test."""
    self.records: list[list[int]] = []
    self._hooks = {}
    take = prefetch.Prefetcher.next

    def look(prefetcher):
      batch = take(prefetcher)
      self.records.append(sorted(np.asarray(batch["record"]).tolist()))
      self._hooks.get(len(self.records), lambda: None)()
      return batch

    monkeypatch.setattr(prefetch.Prefetcher, "next", look)

  def at(self, number: int, hook) -> None:
    """Calls `hook` once batch `number`, counted from 1, is taken."""
    self._hooks[number] = hook


def iterator(config: config_lib.Config) -> loader.TrainIterator:
  """Returns the batches of a training."""
  return loader.train_iterator(
    pair_source.PairSource(config.data, "train"),
    config.data,
    config.augment,
    tokenizer.Tokenizer.from_name("bundled", config.data.max_length),
    image_size=config.model.image.image_size,
    batch_size=config.train.batch_size,
    seed=config.seed,
  )


def order(config: config_lib.Config, count: int) -> list[list[int]]:
  """Returns the records of a training's first batches, as `Batches` does."""
  batches = iterator(config)
  return [sorted(next(batches)["record"].tolist()) for _ in range(count)]


def digest(workdir: Path, step: int | str | None = None) -> str:
  """Returns the digest of the parameters of a step, the last by default."""
  return inference.load(workdir, step, "raw").params_digest


def assert_sound(workdir: Path, steps: list[int]) -> None:
  """Asserts which steps are saved, and that all of their numbers are finite."""
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  assert reader.all_steps() == steps
  for step in steps:
    reader.verify(step)
    for params in ("raw", "ema"):
      variables = inference.load(workdir, step, params).encoder.variables
      for leaf in jax.tree.leaves(variables):
        assert np.isfinite(leaf).all()
