"""From DICOM and report to a score, as a user would run it."""

import csv
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sklearn import metrics

from tests import trainings

ROOT = Path(__file__).parents[2]
DATASETS = ("mimic_cxr", "chexpert", "padchest")


# launch/train.py of every command that it is given, each in a process and with
# a log of its own, but imported once.
DRIVER = """
import json, os, sys
from absl import app
from launch import train
from tier_jax import overrides

codes = []
for command, log in json.loads(sys.argv[1]):
  if not os.fork():
    os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT), 2)
    sys.argv = command  # where flags of a config are looked for
    app.run(train.main, flags_parser=overrides.parse_flags)
  codes.append(os.waitstatus_to_exitcode(os.wait()[1]))
print(json.dumps(codes))
"""


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory):
  """All processes share what they compile."""
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("JAX_PLATFORMS", "cpu")
    for item in trainings.compile_environment(tmp_path_factory).items():
      patch.setenv(*item)
    yield


def run(*command, check=True):
  done = subprocess.run(
    [sys.executable, *map(str, command)],
    cwd=ROOT,
    capture_output=True,
    text=True,
    timeout=300,
  )
  if check:
    assert done.returncode == 0, done.stderr[-3000:]
  return done


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  root = tmp_path_factory.mktemp("whole")
  run(
    *("-m", "data_prep", "phantom", f"--output_dir={root / 'raw'}"),
    *("--num_patients=60", "--seed=3"),
  )
  for name in DATASETS:
    run(
      *("-m", "data_prep", name, f"--source_dir={root / 'raw' / name}"),
      *(f"--output_dir={root / 'data' / name}", "--short_side=64"),
    )
  return root / "data"


def train_command(data_dir, workdir, *more):
  return (
    "launch/train.py",
    "--config=configs/vit_b16.py:smoke",
    f"--config.data.data_dir={data_dir}",
    f"--workdir={workdir}",
    "--config.train.num_steps=24",
    "--config.train.log_every=1",
    "--config.train.checkpoint_every=4",
    "--config.train.eval_every=12",
    "--config.train.eval_batch_size=2",
    "--config.optim.layer_decay=0.8",
    "--config.optim.ema_decay=0.9",
    "--config.optim.frozen=('text_tower/(.*embeddings|layer_0)/.*',)",
    *more,
  )


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
  workdir = tmp_path_factory.mktemp("trained") / "run"
  done = run(*train_command(data_dir, workdir))
  return workdir, done.stderr


def digest(stderr):
  last = stderr.strip().splitlines()[-1]
  match = re.fullmatch(r"final parameters sha256:([0-9a-f]{64})", last)
  assert match, last
  return match.group(1)


def test_a_killed_run_ends_with_the_same_parameters(
  data_dir, trained, tmp_path
):
  workdir = tmp_path / "killed"
  process = subprocess.Popen(
    [sys.executable, *map(str, train_command(data_dir, workdir))],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  rows = workdir / "metrics.jsonl"
  deadline = time.monotonic() + 200
  while not rows.exists() or len(rows.read_text().splitlines()) < 11:
    assert process.poll() is None, "ended before it could be killed"
    assert time.monotonic() < deadline
    time.sleep(0.005)
  process.send_signal(signal.SIGKILL)
  process.wait()
  again = run(*train_command(data_dir, workdir)).stderr
  resumed = re.search(r"resuming at step (\d+)", again)
  assert resumed, again[-2000:]
  assert 4 <= int(resumed.group(1)) < 24
  assert digest(again) == digest(trained[1])
  # The log reads as if nothing had happened.
  steps = [json.loads(line)["step"] for line in rows.read_text().splitlines()]
  assert steps == list(range(1, 25))


def test_metrics_name_what_the_method_asks_for(trained):
  rows = (trained[0] / "metrics.jsonl").read_text().splitlines()
  last = json.loads(rows[-1])
  for name in (
    "loss",
    "contrastive_loss",
    "token_entropy",
    "patch_entropy",
    "token_entropy_gap",
    "patch_entropy_gap",
    "effective_patches",
    "share_near_zero",
    "mean_max_similarity",
    "row_cosine",
    "excluded_reports",
    "logit_scale",
    "learning_rate",
    "pairs_per_second",
    "input_wait",
    "grad_norm/token_entropy/image",
  ):
    assert f"train/{name}" in last
  assert "valid/contrastive_loss" in last
  assert "valid/chexpert/macro_auroc" in last
  assert list((trained[0] / "tensorboard").glob("events*"))


def test_a_dry_run_says_what_a_step_needs_and_leaves_nothing(
  data_dir, trained, tmp_path
):
  done = run(*train_command(data_dir, tmp_path / "run", "--dry_run"))
  line = re.compile(r"1 x cpu, 8 pairs each: .*GiB a device.*GFLOP a pair")
  for log in (done.stderr, trained[1]):
    assert len(line.findall(log)) == 1, log
  assert not (tmp_path / "run").exists()


def test_another_config_is_refused_and_names_what_changed(data_dir, trained):
  done = run(
    *train_command(data_dir, trained[0], "--config.optim.learning_rate=0.5"),
    check=False,
  )
  assert done.returncode == 1
  assert "optim.learning_rate 0.0001 -> 0.5" in done.stderr
  assert "Traceback" not in done.stderr


BAD = {
  "--config.optim.frozen=('text/.*',)": "optim.frozen has 'text/.*', which",
  "--config.train.batch_size=7": "not a positive multiple of the 2 devices",
  "--config.data.data_dir=/nowhere": "/nowhere/mimic_cxr holds no manifest",
  "--config.train.batch_size=4096": "exceeds the",
  "--config.optim.warmup_steps=24": "optim.warmup_steps 24",
  "--config.data.tokenizer=/nowhere.txt": "data.tokenizer '/nowhere.txt'",
  "--config.train.batch_sise=8": "batch_size",
}


@pytest.fixture(scope="module")
def refused(data_dir, tmp_path_factory):
  """The exit code, workdir and log of a training with each BAD flag."""
  root = tmp_path_factory.mktemp("refused")
  workdirs = [root / f"run{number}" for number in range(len(BAD))]
  logs = [root / f"log{number}" for number in range(len(BAD))]
  commands = [
    (train_command(data_dir, workdir, flag), str(log))
    for flag, workdir, log in zip(BAD, workdirs, logs, strict=True)
  ]
  with pytest.MonkeyPatch.context() as patch:
    patch.setenv("XLA_FLAGS", "--xla_force_host_platform_device_count=2")
    patch.setenv("HF_HUB_OFFLINE", "1")
    codes = json.loads(run("-c", DRIVER, json.dumps(commands)).stdout)
  texts = [log.read_text() for log in logs]
  return dict(zip(BAD, zip(codes, workdirs, texts, strict=True), strict=True))


@pytest.mark.parametrize(("flag", "words"), BAD.items())
def test_bad_input_ends_before_any_work(refused, flag, words):
  code, workdir, log = refused[flag]
  assert code == 1
  assert words in log
  assert not (workdir / "checkpoints").exists()


def test_evaluation_needs_the_checkpoint_alone(data_dir, trained, tmp_path):
  output = tmp_path / "out"
  done = run(
    "launch/eval.py",
    f"--workdir={trained[0]}",
    f"--data_dir={data_dir}",
    f"--output_dir={output}",
    "--benchmark=chexpert,padchest",
  )
  assert "chexpert" in done.stdout
  measured = json.loads((output / "metrics.json").read_text())
  # The training kept a moving average, which ends beside the parameters.
  assert measured["params"] == "ema"
  averaged = f"final moving average sha256:{measured['params_sha256']}"
  assert averaged in trained[1].splitlines()
  benchmarks = measured["benchmarks"]
  assert set(benchmarks) == {"chexpert", "chexpert_study", "padchest"}
  with (output / "scores_chexpert.csv").open() as file:
    rows = list(csv.DictReader(file))
  checked = 0
  for label, figures in benchmarks["chexpert"]["labels"].items():
    pairs = [
      (int(row[f"{label} truth"]), float(row[f"{label} score"]))
      for row in rows
      if row[f"{label} truth"] != ""
    ]
    if figures["auroc"] is not None:
      want = metrics.roc_auc_score(*zip(*pairs, strict=True))
      assert abs(figures["auroc"]["value"] - want) < 1e-6
      checked += 1
  assert checked
  page = (output / "report.html").read_text()
  assert "not for clinical use" in page.lower()
  assert "http://" not in page.replace("http://www.w3.org", "")


def test_parameters_themselves_can_be_evaluated(data_dir, trained, tmp_path):
  done = run(
    "launch/eval.py",
    f"--workdir={trained[0]}",
    f"--data_dir={data_dir}",
    f"--output_dir={tmp_path}",
    "--benchmark=chexpert",
    "--params=raw",
  )
  measured = json.loads((tmp_path / "metrics.json").read_text())
  assert measured["params"] == "raw"
  assert measured["params_sha256"] == digest(trained[1]), done.stderr


def test_a_training_goes_on_from_an_export(data_dir, trained, tmp_path):
  export = tmp_path / "export"
  run("launch/export.py", f"--workdir={trained[0]}", f"--output_dir={export}")
  # At a rate that moves nothing, it ends with what it started from.
  command = train_command(
    data_dir,
    tmp_path / "run",
    f"--config.init.image={export / 'image_tower'}",
    f"--config.init.text={export / 'text_tower'}",
    f"--config.init.heads={export / 'heads.safetensors'}",
    "--config.optim.learning_rate=1e-30",
    "--config.optim.ema_decay=0.",
    "--config.train.num_steps=2",
    "--config.train.eval_every=2",
  )
  averaged = f"final moving average sha256:{digest(run(*command).stderr)}"
  assert averaged in trained[1].splitlines()
