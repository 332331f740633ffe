import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluators import datasets

# The script as it is, but for a model that needs no training. A process of its
# own, because the scripts of launch/ define flags of the same names.
DRIVER = """
import sys, types
from absl import app
from tests.evaluators import datasets
from tier_jax import inference

def load(workdir, step, params):
  model = datasets.Encoder()
  model.params_kind = params or "ema"
  model.step, model.params_digest = 12, "ab" * 32
  model.config = types.SimpleNamespace(
    data=types.SimpleNamespace(data_dir=workdir + "/data"))
  return model

inference.load = load
from launch import eval
app.run(eval.main)
"""


def _eval(workdir, benchmark):
  return subprocess.run(
    [
      sys.executable,
      "-c",
      DRIVER,
      f"--workdir={workdir}",
      f"--output_dir={workdir / 'out'}",
      f"--benchmark={benchmark}",
    ],
    cwd=Path(__file__).parents[2],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  root = tmp_path_factory.mktemp("eval")
  rows = [
    datasets.record(i, level=9 * i, labels={"Edema": int(i > 4)})
    for i in range(10)
  ]
  datasets.write(root / "data" / "chexpert", {"test": rows})
  return root


@pytest.mark.parametrize(
  ("benchmark", "message"),
  [
    ("chexpert,chexpret", "expected one of chexpert, padchest, table:NAME"),
    ("chexpert,padchest", "padchest holds no manifest.json"),
  ],
)
def test_bad_benchmark_stops_before_any_work(workdir, benchmark, message):
  done = _eval(workdir, benchmark)
  assert done.returncode == 1
  assert done.stderr.splitlines()[-1].startswith("error: ")
  assert message in done.stderr and "Traceback" not in done.stderr
  assert not (workdir / "out").exists()


def test_writes_and_prints_what_it_promises(workdir):
  done = _eval(workdir, "chexpert")
  assert done.returncode == 0, done.stderr
  assert {path.name for path in (workdir / "out").iterdir()} == {
    "heatmaps.npz",
    "metrics.json",
    "report.html",
    "scores_chexpert.csv",
  }
  metrics = json.loads((workdir / "out" / "metrics.json").read_text())
  assert metrics["step"] == 12 and metrics["params_sha256"] == "ab" * 32
  assert metrics["params"] == "ema"
  for name in ("chexpert", "chexpert_study"):
    edema = metrics["benchmarks"][name]["labels"]["Edema"]
    assert edema["auroc"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    assert (edema["positives"], edema["negatives"]) == (5, 5)
  assert "1.000 [1.000, 1.000]" in done.stdout
  assert done.stdout.rstrip().endswith(str(workdir / "out" / "report.html"))
