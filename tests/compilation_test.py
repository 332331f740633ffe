"""The step compiled ahead of time: its figures, and the step that runs."""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import jax
import ml_collections
import numpy as np
import pytest

from configs import vit_b16
from tier_jax import compilation, flops, program, sharding
from tier_jax import config as config_lib

ROOT = Path(__file__).parents[1]


def make_config(**changes):
  values = vit_b16.get_config("smoke")
  values.model.image.depth = values.model.text.num_hidden_layers = 1
  values.model.text.dropout_rate = 0.0  # compiles in half the time
  values.update(ml_collections.ConfigDict(changes))
  return compilation.fill_sizes(config_lib.build(values))


def make_batch(made):
  rng = np.random.default_rng(0)
  ranges = {np.dtype(np.uint8): 256, np.dtype(bool): 2}
  return {
    name: jax.device_put(
      rng.integers(0, ranges.get(leaf.dtype, 2), leaf.shape).astype(leaf.dtype),
      leaf.sharding,
    )
    for name, leaf in made.batch.items()
  }


@pytest.fixture(scope="module")
def compiled():
  mesh = sharding.make_mesh(sharding.MeshConfig(2, 2), jax.devices()[:4])
  made = program.make(make_config(), mesh)
  return made, *compilation.compile_step(made)


def test_the_executable_takes_what_training_makes(compiled):
  made, executable, _ = compiled
  # Zeros compile nothing; that real states fit, launch/train.py shows.
  state = jax.tree.map(
    lambda leaf: jax.device_put(
      np.zeros(leaf.shape, leaf.dtype), leaf.sharding
    ),
    made.state,
  )
  for step in (1, 2):
    state, metrics = executable(state, make_batch(made), jax.random.key(0))
    assert np.isfinite(metrics["loss"])  # waits: queued steps can deadlock
    assert int(state.step) == step


def test_arguments_are_a_device_s_part_of_state_and_batch(compiled):
  made, _, summary = compiled
  # What this loss and this text tower do not read is dropped, the key too.
  unread = ("study_hash", "text_hash", "word_starts")
  batch = {k: v for k, v in made.batch.items() if k not in unread}
  leaves = jax.tree.leaves((made.state, batch))
  shards = sum(
    np.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
    for leaf in leaves
  )
  assert summary.argument_bytes == shards
  assert summary.peak_bytes >= summary.argument_bytes + summary.temporary_bytes


def test_figures_of_a_small_step(compiled):
  _, _, summary = compiled
  assert (summary.devices, summary.pairs_per_device) == (4, 2)
  assert summary.mesh == {"data": 2, "fsdp": 2}
  # Forward by hand, for one pair: blocks of 12 W^2 weights, scores and mixing
  # over P patches or T tokens, patches' pixels; both heads on P + 1 and T.
  width, patches, tokens, dim = 32, 16, 32, 128
  block = 8 * width**2  # qkv and out, and an MLP of twice the width
  forward = 2 * (patches + tokens) * block
  forward += 4 * width * (patches**2 + tokens**2)
  forward += 2 * patches * 8 * 8 * 3 * width
  forward += 2 * (patches + tokens) * (width * dim + dim * dim)
  # Backward takes twice that, but the pixels need no gradient. The logits,
  # the penalties' similarities and their gradients are what is more.
  extra = 3 * 2 * dim * (8 + patches * tokens)
  least = 3 * forward - 2 * patches * 8 * 8 * 3 * width
  assert least <= summary.flops / 2 <= 1.02 * (least + extra)
  assert summary.useful_flops == summary.flops
  assert summary.collectives["all-gather"].bytes > 0
  assert summary.estimated_cycles is summary.capacity_bytes is None
  assert summary.fits is None


def test_the_flagship_does_the_work_that_a_pair_is_said_to_take():
  values = vit_b16.get_config()
  values.train.batch_size = 8
  values.model.image.scan_layers = values.model.text.scan_layers = True  # quick
  config = compilation.fill_sizes(config_lib.build(values))
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  step = program.make(config, mesh).trace()
  # 105 GFLOP for the image tower, 67 for the text tower, each rounded to one:
  # a hundredth of the sum.
  assert flops.count(step.jaxpr) / 8 == pytest.approx(172e9, rel=0.01)


def test_what_saves_memory_does_not_change_useful_work():
  config = program.plain(make_config())
  saving = dataclasses.replace(
    config,
    model=dataclasses.replace(
      config.model,
      image=dataclasses.replace(config.model.image, remat="full"),
      text=dataclasses.replace(config.model.text, remat="full"),
    ),
  )
  assert program.plain(saving) == config
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  counts = [
    flops.count(program.make(c, mesh).trace().jaxpr) for c in (config, saving)
  ]
  # The forward pass of the blocks is done again, that of the heads is not.
  assert counts[0] < counts[1] < 4 / 3 * counts[0]


def test_pairs_per_device_and_sizes_that_do_not_go_together():
  with pytest.raises(ValueError, match="batch_size 8 is not .* 3 devices"):
    program.make(
      make_config(),
      sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:3]),
    )


@pytest.mark.parametrize(
  ("start", "limit", "tried"),
  [
    (8, 40, [8, 16, 32, 64]),
    (64, 40, [64, 32]),
    (8, 3, [8, 4, 2]),
    (4, 4, [4, 8]),
    (2, 0, [2, 1]),
  ],
)
def test_search_ends_at_the_largest_power_of_two(
  monkeypatch, start, limit, tried
):
  config = make_config()
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:2])
  asked = []

  def compile_step(made):
    pairs = made.config.train.batch_size // 2
    asked.append(pairs)
    if pairs > 2 * limit:
      raise compilation.DoesNotFitError("refused")
    return None, types.SimpleNamespace(
      fits=pairs <= limit, pairs_per_device=pairs, line=str
    )

  monkeypatch.setattr(compilation, "compile_step", compile_step)
  if limit:
    best = compilation.largest_batch(config, mesh, start)
    assert best.pairs_per_device == max(p for p in tried if p <= limit)
  else:
    with pytest.raises(compilation.DoesNotFitError, match="not even one"):
      compilation.largest_batch(config, mesh, start)
  assert asked == tried


def test_search_needs_a_power_of_two():
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  with pytest.raises(ValueError, match="pairs_per_device is 12, expected"):
    compilation.largest_batch(make_config(), mesh, 12)


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed"
)
def test_a_tpu_that_is_not_there(tmp_path):
  path = tmp_path / "figures.json"
  subprocess.run(
    [
      sys.executable,
      "launch/compile.py",
      "--config=configs/vit_b16.py:smoke",
      "--config.model.image.depth=1",
      "--config.model.text.num_hidden_layers=1",
      "--config.model.text.dropout_rate=0.0",
      "--topology=v5e:2x2",
      f"--json={path}",
    ],
    cwd=ROOT,
    env=dict(os.environ),
    check=True,
    timeout=300,
  )
  figures = json.loads(path.read_text())
  assert figures["devices"] == 4
  assert figures["fits"] is True
  assert figures["estimated_cycles"] > 0
  assert 0 < figures["estimated_mfu"] < 1
  assert len(figures["costliest"]) == 10
  assert figures["collectives"]["all-reduce"]["bytes"] > 0
