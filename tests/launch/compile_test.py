"""`launch/compile.py` from the command line, for the devices here."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*flags):
  return subprocess.run(
    [
      *(sys.executable, "launch/compile.py"),
      "--config=configs/vit_b16.py:smoke",
      "--config.model.image.depth=1",
      "--config.model.text.num_hidden_layers=1",
      "--config.model.text.dropout_rate=0.0",
      *flags,
    ],
    cwd=ROOT,
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # they take long
      "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
    },
    capture_output=True,
    text=True,
    timeout=300,
  )


def test_figures_are_printed_and_written(tmp_path):
  path = tmp_path / "figures.json"
  done = run("--pairs_per_device=3", f"--json={path}")
  assert done.returncode == 0, done.stderr
  assert done.stdout.startswith("2 x cpu, 3 pairs each: compiled in")
  figures = json.loads(path.read_text())
  assert (figures["devices"], figures["pairs_per_device"]) == (2, 3)
  for name in ("peak_bytes", "flops"):
    assert figures[name] > 0
  assert figures["collectives"]["all-reduce"]["bytes"] > 0
  assert "all-reduce: " in done.stdout
  # A CPU's compiler estimates none, and that is what is said.
  for name in ("estimated_cycles", "estimated_cycles_per_pair"):
    assert figures[name] is None


@pytest.mark.parametrize(
  ("flag", "words"),
  [
    ("--config.train.batch_size=7", "not a positive multiple of the 2 devices"),
    ("--config.mesh.fsdp=3", "does not fit 2 devices"),
    ("--topology=v5e", "topology"),
  ],
)
def test_errors_are_one_line(flag, words):
  done = run(flag)
  assert done.returncode == 1
  assert words in done.stderr.splitlines()[-1]
  assert "Traceback" not in done.stderr
