"""The process of a trial: its flags, its end, and its end with the search."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tier_jax.sweep import launcher, search

WEIGHTS = {"token_entropy_weight": 0.25, "patch_entropy_weight": 0.0}


def write(tmp_path, text):
  """Returns a script in place of launch/train.py."""
  script = tmp_path / "script.py"
  script.write_text(f"import os, signal, sys, time\n{text}\n")
  return script


def test_it_has_the_flags_of_all_and_its_own(tmp_path):
  script = write(tmp_path, "print(*sys.argv[1:], sep='\\n')")
  workdir = tmp_path / "trial_001"
  flags = ["--config=a.py:x y"]
  for _ in range(2):  # resumed: the log goes on
    launcher.Launcher(script, flags)(workdir, WEIGHTS, lambda: None)
  assert (workdir / "train.log").read_text().splitlines() == 2 * [
    "--config=a.py:x y",
    f"--workdir={workdir}",
    "--config.loss.token_entropy_weight=0.25",
    "--config.loss.patch_entropy_weight=0.0",
  ]


def test_an_error_is_the_trials_and_a_notice_the_searchs(tmp_path):
  launch = launcher.Launcher(write(tmp_path, "sys.exit('no data')"), [])
  with pytest.raises(search.TrainingError, match=r"ended with 1, see .*\.log"):
    launch(tmp_path / "run", WEIGHTS, lambda: None)
  assert "no data" in (tmp_path / "run/train.log").read_text()
  launch = launcher.Launcher(write(tmp_path, "sys.exit(75)"), [])
  with pytest.raises(SystemExit) as end:
    launch(tmp_path / "run", WEIGHTS, lambda: None)
  assert end.value.code == 75


def test_a_lost_trial_is_ended(tmp_path, monkeypatch):
  monkeypatch.setattr(search, "LEASE", 0.5)
  pid = "open('pid', 'w').write(str(os.getpid()))"
  script = write(tmp_path, f"{pid}\ntime.sleep(60)")
  monkeypatch.chdir(tmp_path)

  def beat():
    if Path("pid").exists() and Path("pid").read_text():
      raise search.LeaseError

  with pytest.raises(search.LeaseError):
    launcher.Launcher(script, [])(tmp_path / "run", WEIGHTS, beat)
  with pytest.raises(ProcessLookupError):
    os.kill(int(Path("pid").read_text()), 0)


# A search whose training says when it began, and what ended it.
SEARCH = """
import sys
from pathlib import Path
from tier_jax.sweep import launcher
script, workdir = map(Path, sys.argv[1:])
launcher.Launcher(script, [])(workdir, {}, lambda: None)
"""
TRAINING = """
def end(*_):
  print("saved", flush=True)
  sys.exit(75)
signal.signal(signal.SIGTERM, end)
print("began", flush=True)
time.sleep(60)
"""


def wait_for(log, word):
  deadline = time.monotonic() + 30
  while not log.exists() or word not in log.read_text():
    assert time.monotonic() < deadline, word
    time.sleep(0.01)


@pytest.mark.parametrize(
  ("number", "code"), [(signal.SIGTERM, 75), (signal.SIGKILL, -9)]
)
@pytest.mark.skipif(sys.platform != "linux", reason="needs prctl")
def test_a_training_saves_when_its_search_is_ended(tmp_path, number, code):
  script, workdir = write(tmp_path, TRAINING), tmp_path / "run"
  process = subprocess.Popen(
    [sys.executable, "-c", SEARCH, str(script), str(workdir)],
    cwd=Path(__file__).parents[2],
  )
  wait_for(workdir / "train.log", "began")
  process.send_signal(number)
  assert process.wait(30) == code
  wait_for(workdir / "train.log", "saved")


def test_flags_for_the_training_are_told_from_mistakes():
  flags = ["--config=a.py", "--config.data.data_dir=data", "--noconfig.x"]
  assert launcher.training_flags(flags) == flags
  for wrong, words in (
    ([], "--config is missing"),
    ([*flags, "--num_trails=3"], "'--num_trails=3' is unknown"),
    ([*flags, "a.py"], "'a.py' is unknown"),
    (
      [*flags, "--config.loss.token_entropy_weight=1"],
      "sets what is searched",
    ),
  ):
    with pytest.raises(ValueError, match=words):
      launcher.training_flags(wrong)
