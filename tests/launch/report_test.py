import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import results, zero_shot
from tier_jax.evaluators.benchmarks import chexpert

LAUNCH = Path(__file__).parents[2] / "launch"


def _report(*arguments):
  return subprocess.run(
    [sys.executable, LAUNCH / "report.py", *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


@pytest.fixture(scope="module")
def workdirs(tmp_path_factory):
  root = tmp_path_factory.mktemp("launch")
  rows = [
    datasets.record(i, level=9 * (i % 5), labels={"Edema": int(i > 4)})
    for i in range(10)
  ]
  directory = datasets.write(root / "chexpert", {"test": rows})
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  results.evaluate([evaluator], datasets.Encoder(), root / "tier", {})
  shutil.copytree(root / "tier", root / "plain")
  return root


def test_two_runs_stand_side_by_side(workdirs):
  output = workdirs / "page" / "report.html"
  done = _report(
    f"--workdirs=tier={workdirs / 'tier'},plain={workdirs / 'plain'}",
    f"--output={output}",
  )
  assert done.returncode == 0, done.stderr
  assert "tier - plain" in done.stdout
  assert "+0.000 [+0.000, +0.000]" in done.stdout
  assert done.stdout.rstrip().endswith(f"report: {output}")
  assert "tier - plain" in output.read_text("utf-8")


@pytest.mark.parametrize(
  ("runs", "message"),
  [
    ("tier", "expected NAME=DIR"),
    ("tier={0}/nothing", "metrics.json is missing"),
  ],
)
def test_bad_input_ends_with_one_line(workdirs, runs, message):
  output = workdirs / "none.html"
  done = _report(f"--workdirs={runs.format(workdirs)}", f"--output={output}")
  assert done.returncode == 1
  assert done.stderr.startswith("error: ") and message in done.stderr
  assert "Traceback" not in done.stderr
  assert not output.exists()
