"""`launch/sweep.py` from the command line."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*flags):
  return subprocess.run(
    [sys.executable, "launch/sweep.py", *flags],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


@pytest.mark.parametrize(
  ("flags", "words"),
  [
    (("--num_trials=2", "--num_trails=2"), "'--num_trails=2' is unknown"),
    (("--num_trials=0", "--config=a.py"), "num_trials is 0, expected"),
  ],
)
def test_mistakes_are_one_line(tmp_path, flags, words):
  done = run(f"--workdir={tmp_path}", *flags)
  assert done.returncode == 1
  (line,) = done.stderr.splitlines()
  assert line.startswith("error: ")
  assert words in line


def test_a_training_that_cannot_start_is_told_with_its_log(tmp_path):
  workdir = tmp_path / "sweep"
  done = run(f"--workdir={workdir}", "--num_trials=1", "--config=/nowhere.py")
  assert done.returncode == 1
  log = workdir / "trial_000" / "train.log"
  last = f"error: trial 0: it ended with 1, see {log}"
  assert done.stderr.splitlines()[-1] == last
  assert "/nowhere.py" in log.read_text()
