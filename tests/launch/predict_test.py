import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests import random_runs
from tier_jax import inference

NO_IMAGE = "image:not_an_image"
# Many command lines that end early, in one process.
MISTAKES = """
import json, sys
from absl import flags
from launch import predict

assert "jax" not in sys.modules  # processes that read files import it

def end(argv):
  flags.FLAGS.unparse_flags()
  flags.FLAGS(["predict.py", *argv])
  try:
    predict.main(["predict.py"])
  except SystemExit as exit_:
    return exit_.code

print(json.dumps([end(argv) for argv in json.loads(sys.argv[1])]))
"""


def _run(*arguments, **env):
  return subprocess.run(
    [sys.executable, *arguments],
    cwd=Path(__file__).parents[2],
    env={name: value for name, value in {**os.environ, **env}.items() if value},
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  return random_runs.write(tmp_path_factory.mktemp("run"))


@pytest.fixture
def folder(tmp_path):
  """A picture and a broken one."""
  path = tmp_path / "in"
  path.mkdir()
  pixels = np.random.default_rng(0).integers(256, size=(60, 50), dtype=np.uint8)
  Image.fromarray(pixels).save(path / "a.png")
  (path / "b.png").write_bytes(b"no picture, but the NAME of a patient")
  return path


def test_scores_what_can_be_scored_and_says_so(workdir, folder, tmp_path):
  output, cache = tmp_path / "scores.csv", tmp_path / "cache"
  mine = tmp_path / "mine.json"
  sides = {"positive": ["Edema."], "negative": ["No edema."]}
  mine.write_text(json.dumps({"mine": sides}))
  done = _run(
    "launch/predict.py",
    f"--workdir={workdir}",
    f"--inputs={folder},gone.png",
    f"--prompts={mine}",
    f"--output={output}",
    f"--heatmaps={tmp_path / 'maps'}",
    XDG_CACHE_HOME=str(cache),
    JAX_COMPILATION_CACHE_DIR="",
  )
  assert done.returncode == 0, done.stderr
  assert done.stdout.splitlines() == [
    f"scored 1 of 3 images: {output}",
    "left out 1: image:missing",
    f"left out 1: {NO_IMAGE}",
  ]
  assert "NAME" not in done.stderr and "in/" not in done.stderr
  with output.open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [row["path"] for row in rows] == [
    str(folder / "a.png"),
    str(folder / "b.png"),
    "gone.png",
  ]
  image = np.asarray(Image.open(folder / "a.png"))
  want = inference.load(workdir).score(image, {"mine": sides})
  assert float(rows[0]["mine"]) == pytest.approx(want.item(), abs=1e-6)
  assert [p.name for p in (tmp_path / "maps").iterdir()] == [
    "000001_01_mine.png"
  ]
  kept = cache / "tier_jax" / "compiled"
  assert kept.stat().st_mode & 0o777 == 0o700 and any(kept.iterdir())


def test_what_goes_wrong_is_told_in_a_line(workdir, folder, tmp_path):
  output = tmp_path / "scores.csv"
  given = ["--workdir=nowhere", f"--inputs={folder}", f"--output={output}"]
  asked = "--benchmark=chexpert"
  broken = tmp_path / "broken.json"
  broken.write_text("{")
  cases = [
    (given, "expected one of --benchmark and --prompts"),
    ([*given, asked, "--prompts=Edema"], "expected one of --benchmark and"),
    ([*given, "--benchmark=chest"], "benchmark 'chest' is not known"),
    ([*given, "--benchmark=table:mine"], "has the labels of its data"),
    ([*given, "--prompts=Edema,Edema"], "name a label twice"),
    ([*given, f"--prompts={broken}"], "broken.json is no JSON"),
    ([*given, f"--prompts={tmp_path}/no.json"], "no.json is no JSON"),
    ([*given, asked, "--inputs=no.csv"], "no.csv does not exist"),
    ([*given, asked, "--step=last"], "--step is 'last'"),
    ([*given, asked], "nowhere holds no checkpoints"),
    (
      [*given, asked, f"--workdir={workdir}", f"--inputs={folder / 'b.png'}"],
      "no image was scored",
    ),
  ]
  done = _run(
    "-c",
    MISTAKES,
    json.dumps([argv for argv, _ in cases]),
    XDG_CACHE_HOME=str(tmp_path),
  )
  assert done.returncode == 0, done.stderr
  *said, ends = done.stdout.splitlines()
  for end, (_, message) in zip(json.loads(ends), cases, strict=True):
    assert end.startswith("error: ") and message in end
  assert said == [f"scored 0 of 1 images: {output}", f"left out 1: {NO_IMAGE}"]
  assert output.read_text().splitlines()[1].split(",")[1] == NO_IMAGE
