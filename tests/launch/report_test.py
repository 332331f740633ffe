import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import digests, results, zero_shot
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
  found = json.loads(output.with_suffix(".json").read_text("utf-8"))
  assert found["metrics_sha256"] == {
    name: digests.of_file(workdirs / name / "metrics.json")
    for name in ("tier", "plain")
  }
  macro = found["benchmarks"]["chexpert"]["macro"]
  assert macro == {"value": 0, "low": 0, "high": 0, "p": 1}
  assert found["refused"] == {"benchmarks": {}, "grounding": {}}


def test_runs_that_are_not_comparable_still_have_a_page(workdirs):
  other = workdirs / "other"
  shutil.copytree(workdirs / "plain", other)
  path = other / "metrics.json"
  metrics = json.loads(path.read_text("utf-8"))
  metrics["benchmarks"]["chexpert"]["scoring"] = "softmax"
  path.write_text(json.dumps(metrics))
  output = workdirs / "other.html"
  runs = f"tier={workdirs / 'tier'},other={other}"
  done = _report(f"--workdirs={runs}", f"--output={output}")
  assert done.returncode == 0, done.stderr
  words = "tier and other differ in scoring (difference, softmax)"
  assert f"no difference is given: {words}" in done.stdout
  assert words in output.read_text("utf-8")
  found = json.loads(output.with_suffix(".json").read_text("utf-8"))
  assert found["refused"]["benchmarks"] == {"chexpert": words}
  assert found["benchmarks"].keys() == {"chexpert_study"}


def test_the_page_must_be_html(workdirs):
  output = workdirs / "report.json"
  done = _report(f"--workdirs=tier={workdirs / 'tier'}", f"--output={output}")
  assert done.returncode == 1
  assert "expected a .html file" in done.stderr
  assert not output.exists()


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
