import json
import statistics
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from configs import demo
from launch import benchmark
from tests import trainings
from tier_jax import program, train
from tier_jax.benchmarks import data_prep, devices, loop

SCRIPT = Path(__file__).parents[2] / "launch" / "benchmark.py"


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
  with trainings.compiled_once(tmp_path_factory):
    yield


def _run(*arguments):
  return subprocess.run(
    [sys.executable, SCRIPT, *arguments],
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def test_data_prep_on_tiny_files(tmp_path):
  output = tmp_path / "figures.json"
  done = _run(
    "data_prep",
    "--syntaxes=native",
    "--num_files=2",
    "--size=64",
    "--short_side=32",
    "--rounds=2",
    f"--json={output}",
  )
  assert done.returncode == 0, done.stderr
  results = json.loads(output.read_text("utf-8"))
  assert "native" in done.stdout
  (entry,) = results["syntaxes"].values()
  rates = entry["rates"]
  assert list(rates) == [cell for cell, _, _ in data_prep.CELLS]
  for values in rates.values():
    assert len(values) == 2
    assert min(values) > 0
  assert entry["median"]["rates"]["whole"] == statistics.median(rates["whole"])
  assert results["start_s"] > 0


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--syntaxes=native,jpeg", "syntaxes has 'jpeg', expected native,"),
    ("--num_files=0", "num_files is 0, expected at least 1"),
    ("--rounds=0", "rounds is 0, expected at least 1"),
    ("--size=4", "size is 4, expected at least 8"),
  ],
)
def test_bad_flags_end_with_one_line(capsys, flag, message):
  assert benchmark.main(["data_prep", flag]) == 2
  assert message in capsys.readouterr().err


QUICK = {
  "input": (
    *("--short_side=32", "--image_size=16", "--batch_size=8"),
    *("--num_batches=2", "--rounds=2"),
  ),
  "loop": ("--num_steps=100", "--batch_size=8", "--rounds=2"),
  "train_step": ("--batch_size=8", "--rounds=2"),
  "loss": ("--batch_size=8", "--max_length=8", "--rounds=2"),
  "eval": (
    *("--num_images=9", "--max_length=8", "--rounds=2", "--short_side=32"),
    *("--batch_size=8", "--num_resamples=10"),
  ),
}


def stand_in(config, mesh):
  """A program of one product, since the real one takes long to compile."""
  state = jax.ShapeDtypeStruct((512, 512), "float32")
  batch = {"x": jax.ShapeDtypeStruct((config.train.batch_size, 512), "float32")}
  step = jax.jit(lambda s, batch, key: (s, {"loss": (batch["x"] @ s).sum()}))
  return types.SimpleNamespace(
    trace=lambda: step.trace(state, batch, jax.random.key(0)),
    init=lambda key: jax.numpy.ones(state.shape),
    batch=batch,
  )


def test_the_loop_s_towers_are_the_demo_s():
  model = demo.get_config().model.to_dict()
  assert {name: model[name] for name in ("image", "text")} == loop.TOWERS


def write_metrics(config, workdir):
  """What the loop's benchmark reads of a training, since one takes long."""
  assert config.train.batch_size == 8
  rows = (
    {"step": 25, "train/step_seconds": 0.25},
    {"step": 30, "train/loss": 1.0},
    {"step": 50, "train/step_seconds": 0.5},
  )
  lines = [json.dumps(row) for row in rows]
  (Path(workdir) / "metrics.jsonl").write_text("\n".join(lines), "utf-8")


@pytest.mark.parametrize("name", QUICK)
def test_every_part_measures(name, tmp_path, capsys, monkeypatch):
  monkeypatch.setattr(devices, "SIDE", {"cpu": 64})
  if name == "train_step":
    monkeypatch.setattr(program, "make", stand_in)
  if name == "loop":
    monkeypatch.setattr(loop, "TOWERS", devices.SIZES["tiny"])
    monkeypatch.setattr(train, "train_and_evaluate", write_metrics)
  output = tmp_path / "figures.json"
  tiny = () if name in ("input", "loop") else ("--model=tiny",)
  arguments = [name, *QUICK[name], *tiny, f"--json={output}"]
  assert benchmark.main(arguments) == 0
  results = json.loads(output.read_text("utf-8"))
  shown = capsys.readouterr().out
  assert results["benchmark"] == name
  assert results["machine"]["versions"]["jax"] == jax.__version__
  for cell, values in results["rates"].items():
    assert len(values) == 2
    assert min(values) > 0
    assert results["median"]["rates"][cell] == statistics.median(values)
    assert cell in shown
  assert results["median"]["ratios"]
  if name == "loop":  # 24 steps of 0.25 s and 25 of 0.5 s, 8 pairs each
    want = 49 * 8 / (24 * 0.25 + 25 * 0.5)
    assert results["rates"]["training"] == pytest.approx([want, want])
  if name == "train_step":
    assert results["notes"]["GFLOP a pair"] == round(2 * 512 * 512 / 1e9, 3)
  if name == "loss":
    # InfoNCE: 8 x 8 logits of 128; similarities: 8 texts of 8 tokens with 16
    # patches. Each product has two more of the same size in its gradient.
    products = 3 * 2 * 128 * (8 * 8 + 8 * 8 * 16)
    counted = results["notes"]["MFLOP a gradient, with penalties"]
    assert counted == round(products / 1e6, 3)


def test_the_step_is_the_trainings_with_random_batches():
  parser = benchmark.argparse.ArgumentParser()
  devices.add_flags(parser, 8)
  config = devices.make_config(parser.parse_args(["--dtype=bfloat16"]))
  assert config.model.image.width == config.model.text.hidden_size == 768
  assert config.model.image.grid == (14, 14)
  assert config.model.text.dtype == config.model.image.dtype == "bfloat16"
  with pytest.raises(ValueError, match="repeats is 0"):
    devices.make_config(parser.parse_args(["--repeats=0"]))
