import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.evaluators import datasets

# The script as it is, but for a model that needs no training. A process of its
# own, because the scripts of launch/ define flags of the same names.
PRELUDE = """
import json, sys, types
from absl import app, flags
from tests.evaluators import datasets
from tier_jax import inference

def load(workdir, step, params):
  model = types.SimpleNamespace(encoder=datasets.Encoder())
  model.params_kind = params or "ema"
  model.step, model.params_digest = 12, "ab" * 32
  model.config = types.SimpleNamespace(
    data=types.SimpleNamespace(
      data_dir=workdir + "/data", datasets=("chexpert",)),
    loss=types.SimpleNamespace(penalty_temperature=1.0))
  return model

inference.load = load
from launch import eval
"""
DRIVER = PRELUDE + "app.run(eval.main)"
# Many command lines that end early, in one process.
MISTAKES = (
  PRELUDE
  + """
def end(argv):
  flags.FLAGS.unparse_flags()
  flags.FLAGS(["eval.py", *argv])
  try:
    eval.main(["eval.py"])
  except SystemExit as exit_:
    return exit_.code

print(json.dumps([end(argv) for argv in json.loads(sys.argv[1])]))
"""
)
# The first process, then the second, which is told that it is that.
TWO = (
  PRELUDE
  + """
import contextlib, io, os
import jax

seen = []
for index in (0, 1):
  encoders, printed = [], io.StringIO()
  inference.load = lambda *arguments: (
    encoders.append(load(*arguments)) or encoders[-1])
  jax.process_index = lambda: index
  flags.FLAGS.unparse_flags()
  out = os.path.join(sys.argv[1].removeprefix("--workdir="), str(index))
  flags.FLAGS([*sys.argv, f"--output_dir={out}"])
  with contextlib.redirect_stdout(printed):
    eval.main(["eval.py"])
  encoder = encoders[0].encoder
  seen.append([printed.getvalue(), encoder.batches, encoder.texts])
print(json.dumps(seen))
"""
)


def _eval(*arguments, driver=DRIVER):
  return subprocess.run(
    [sys.executable, "-c", driver, *arguments],
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
    datasets.record(
      i,
      level=9 * i,
      labels={"Edema": int(i > 4)},
      findings="There is edema." if i > 4 else "No edema.",
      boxes=(("Edema", (0, 0, 16, 40)),) if i > 4 else (),
    )
    for i in range(10)
  ]
  datasets.write(root / "data" / "chexpert", {"test": rows})
  clash = [datasets.record(0, image=i, labels={"Edema": i}) for i in range(2)]
  datasets.write(root / "clash" / "chexpert", {"test": clash})
  return root


def _flags(workdir, benchmark):
  return (
    f"--workdir={workdir}",
    f"--output_dir={workdir / 'out'}",
    f"--benchmark={benchmark}",
  )


def test_writes_and_prints_what_it_promises(workdir):
  done = _eval(*_flags(workdir, "chexpert"))
  assert done.returncode == 0, done.stderr
  assert {path.name for path in (workdir / "out").iterdir()} == {
    "grounding_chexpert.csv",
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
  assert metrics["retrieval"]["images"] == 10
  assert metrics["grounding"]["chexpert"]["split"] == "test"
  assert metrics["similarity"]["pairs"] == 10
  assert metrics["probe"] is None
  assert "heatmaps.npz" in metrics["files"]
  assert "Where the words point" in (workdir / "out/report.html").read_text()
  assert "1.000 [1.000, 1.000]" in done.stdout
  assert done.stdout.rstrip().endswith(str(workdir / "out" / "report.html"))


def test_another_model_is_scored_from_a_template_it_filled_in(
  workdir, tmp_path
):
  flags = ["--benchmark=chexpert", f"--data_dir={workdir / 'data'}"]
  done = _eval(*flags, "--template", f"--output_dir={tmp_path}")
  assert done.returncode == 0, done.stderr
  table = tmp_path / "template_chexpert.csv"
  assert done.stdout.split() == [
    str(table),
    str(tmp_path / "texts_chexpert.json"),
  ]
  header, *rows = table.read_text().splitlines()
  # Edema stands in 5 to 9; all labels get the number of the patient.
  filled = [
    ",".join([row.split(",")[0], *[row.split(",")[0][5]] * 5]) for row in rows
  ]
  table.write_text("\n".join([header, *filled]))
  out = tmp_path / "theirs"
  out.mkdir()
  (out / "heatmaps.npz").write_text("of an earlier evaluation")
  done = _eval(*flags, f"--scores={table}", f"--output_dir={out}")
  assert done.returncode == 0, done.stderr
  metrics = json.loads((out / "metrics.json").read_text())
  edema = metrics["benchmarks"]["chexpert"]["labels"]["Edema"]
  assert edema["auroc"]["value"] == 1.0
  assert metrics["predictions_file"] == table.name
  assert "theirs" in done.stdout
  assert (out / "report.html").is_file()
  assert not (out / "heatmaps.npz").exists()
  assert list(metrics["files"]) == ["scores_chexpert.csv"]


def _splits(size):
  """As `workdir` has, with a train and a validation split too."""
  return {
    split: [
      datasets.record(
        20 * k + i,
        level=9 * i,
        labels={"Edema": i % 2},
        findings=f"Edema, {i}." if i % 2 else "No edema.",
        boxes=(("Edema", (0, 0, 16, 40)),) if i % 2 else (),
      )
      for i in range(size)
    ]
    for k, split in enumerate(("test", "validate", "train"))
  }


def test_other_processes_embed_as_the_first_does_and_write_nothing(tmp_path):
  datasets.write(tmp_path / "data" / "chexpert", _splits(10))
  names = "--benchmark=chexpert,chexpert_14"
  measured = "--parts=retrieval,grounding,similarity,probe"
  done = _eval(f"--workdir={tmp_path}", names, measured, driver=TWO)
  assert done.returncode == 0, done.stderr
  (said, *first), (nothing, *second) = json.loads(done.stdout)
  assert "report: " in said and nothing == ""
  assert first == second and first[0] and first[1]
  assert (tmp_path / "0" / "report.html").is_file()
  assert not (tmp_path / "1").exists()


def test_what_is_damaged_is_told_in_a_line(tmp_path):
  directory = datasets.write(tmp_path / "data" / "chexpert", _splits(10))
  shard = directory / "chexpert-validate.array_record-00000-of-00001"
  content = bytearray(shard.read_bytes())
  content[content.index(b"image25-0")] ^= 1  # of an image with a box
  shard.write_bytes(content)
  done = _eval(f"--workdir={tmp_path}", "--benchmark=chexpert")
  assert done.returncode == 1
  last = done.stderr.splitlines()[-1]
  assert last.startswith("error: record ") and f"{shard} does not read" in last
  assert not (tmp_path / "metrics.json").exists()


def test_mistakes_stop_before_any_work(workdir):
  none = workdir / "none"
  given = f"--workdir={workdir}", f"--output_dir={none}"
  chexpert, there = "--benchmark=chexpert", f"--data_dir={workdir / 'data'}"
  cases = [
    ([*given, "--benchmark=chexpert,chexpret"], "expected one of chexpert, ch"),
    ([*given, "--benchmark=chexpert,padchest"], "padchest holds no manifest"),
    ([*given, "--benchmark="], "--benchmark is empty"),
    ([*given, chexpert, "--split=validate"], "no records in split 'validate'"),
    ([*given, chexpert, "--parts=probes"], "part 'probes' is none of retrieva"),
    (
      [*given, chexpert, "--split=validate", "--parts=grounding,probe"],
      "the split 'validate' is used in training a probe",
    ),
    (
      [*given, chexpert, f"--data_dir={workdir / 'clash'}"],
      "1 studies hold images of different labels",
    ),
    ([*given, chexpert, "--step=first"], "expected a number or best"),
    ([*given, chexpert, "--readers=a.csv"], "1 files of readers"),
    ([chexpert], "expected one of --workdir, --scores and --template"),
    ([chexpert, "--template", "--scores=x.csv"], "expected one of --workdir"),
    ([chexpert, "--template"], "give --data_dir and --output_dir"),
    ([chexpert, "--scores=x.csv", there, given[1]], "x.csv does not exist"),
  ]
  argvs = json.dumps([argv for argv, _ in cases])
  done = _eval(argvs, driver=MISTAKES)
  assert done.returncode == 0, done.stderr
  ends = json.loads(done.stdout)
  for end, (_, message) in zip(ends, cases, strict=True):
    assert end.startswith("error: ") and message in end
  assert not none.exists()
