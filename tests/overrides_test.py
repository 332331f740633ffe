"""Flags of config keys, as a fresh process meets them."""

import json
import subprocess
import sys

import pytest

from tests import config_test

PROGRAM = """
import json
from absl import app
from ml_collections import config_flags
from tier_jax import config, overrides

holder = config_flags.DEFINE_config_file("config", None)

def main(argv):
  train = config.build(holder.value).train
  print(json.dumps([train.num_steps, overrides.replaced(holder)]))

app.run(main, flags_parser=overrides.parse_flags)
"""
FILE = "configs/vit_b16.py:smoke"


def run(*flags):
  return subprocess.run(
    [sys.executable, "-c", PROGRAM, *flags],
    cwd=config_test.CONFIGS.parent,
    capture_output=True,
    text=True,
    timeout=100,
  )


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (
      ["--config.train.batch_sise=8"],
      "mean --config.train.batch_size?",
    ),
    (["--config.trian.seed=8"], "--config.trian.seed is no key of"),
    (["--config.seed=1", "--config.optim.bb2", "1"], "--config.optim.b2?"),
    (["--config.zzz=1"], "expected one of augment, "),
  ],
)
def test_a_misspelt_key_ends_in_one_line_that_names_the_nearest(flags, words):
  done = run(f"--config={FILE}", *flags)
  assert done.returncode == 1
  assert words in done.stderr
  assert done.stderr.startswith("error: ")
  assert len(done.stderr.splitlines()) == 1
  assert not done.stdout


def test_a_file_that_is_not_there_is_named():
  done = run("--config", "nowhere.py", "--config.seed=1")
  assert done.returncode == 1
  assert "nowhere.py" in done.stderr
  assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
  ("value", "steps"), [("500", 500), ("3 epochs", "3 epochs"), ("4 steps", 4)]
)
def test_what_flags_changed_is_told(value, steps):
  done = run(
    *("--config", FILE, f"--config.train.num_steps={value}"),
    *("--config.data.datasets=('a', 'b')", "--noconfig.loss.ring"),
  )
  got, replaced = json.loads(done.stdout)
  assert got == steps
  want = {"train.num_steps": "4 steps", "data.datasets": ["mimic_cxr"]}
  if value == "4 steps":
    del want["train.num_steps"]
  assert replaced == want
