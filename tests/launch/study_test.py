import json
import subprocess
import sys
from pathlib import Path

from tests.study import made_study

LAUNCH = Path(__file__).parents[2] / "launch"


def _study(*arguments):
  return subprocess.run(
    [sys.executable, LAUNCH / "study.py", *arguments],
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


def test_table_numbers_and_page_are_redrawn_alike(tmp_path):
  for seed in range(2):
    for arm in ("plain", "tier"):
      made_study.write(tmp_path, f"scratch.{arm}.{seed}")
  names = ("study.json", "study.md", "study.html")
  made = []
  for _ in range(2):
    done = _study(f"--runs={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "study.md").read_text("utf-8") in done.stdout
    made.append([(tmp_path / name).read_bytes() for name in names])
  assert made[0] == made[1]
  assert json.loads(made[0][0])["runs"].keys() == {
    f"scratch.{arm}.{seed}" for arm in ("plain", "tier") for seed in range(2)
  }


def test_bad_input_ends_with_one_line(tmp_path):
  made_study.write(tmp_path, "scratch.plain.0")
  done = _study(f"--runs={tmp_path}", "--baseline=plian")
  assert done.returncode == 1
  assert done.stderr.strip() == (
    "error: baseline 'plian' has no finished run, expected one of plain"
  )
  assert not list(tmp_path.glob("study.*"))
