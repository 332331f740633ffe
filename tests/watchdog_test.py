"""A training that stands still ends by itself, one that goes on does not."""

import subprocess
import sys
from pathlib import Path

import pytest

from tier_jax import watchdog

START = """
import sys, time
from tier_jax import watchdog
dog = watchdog.Watchdog(float(sys.argv[1]) / 60, sys.argv[2])
"""
STUCK = """
def stuck():
  time.sleep(60)
dog.beat()
stuck()
"""
GOES_ON = """
time.sleep(1.5)  # compilation
for _ in range(30):
  dog.beat()
  time.sleep(0.05)
dog.close()
time.sleep(1.5)
"""


def run(code, seconds, workdir):
  return subprocess.run(
    [sys.executable, "-c", START + code, str(seconds), str(workdir)],
    cwd=Path(__file__).parents[1],
    capture_output=True,
    text=True,
    timeout=50,
  )


def test_no_beat_writes_all_stacks_and_exits(tmp_path):
  done = run(STUCK, 0.5, tmp_path)
  assert done.returncode == watchdog.EXIT_CODE == 76
  for text in ((tmp_path / "stacks.txt").read_text(), done.stderr):
    assert "no step for 0.5 s" in text
    assert " in stuck" in text
    assert " in _watch" in text  # the other thread


def test_it_exits_where_nothing_can_be_written(tmp_path):
  done = run(STUCK, 0.5, tmp_path / "nowhere")
  assert done.returncode == watchdog.EXIT_CODE
  assert " in stuck" in done.stderr


@pytest.mark.parametrize("seconds", [1.0, 0.0])
def test_it_waits_for_the_first_beat_and_not_after_the_end(tmp_path, seconds):
  done = run(GOES_ON, seconds, tmp_path)
  assert done.returncode == 0, done.stderr
  assert not list(tmp_path.iterdir())
