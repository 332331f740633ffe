"""The record of a run: what it says, and what it does not."""

import datetime
import hashlib
import json
import os
import socket
import subprocess

import pytest

from tests import config_test
from tier_jax import config as config_lib
from tier_jax import run_record, sharding


def describe(**change):
  values = {
    "mesh": sharding.make_mesh(sharding.MeshConfig()),
    "tokenizer": '{"model": {}}',
    "data_digest": "d",
    "params_digest": "p",
    "first_step": 4,
  }
  config = config_lib.build(config_test.smoke())
  return run_record.describe(config, **(values | change))


def test_a_start_says_what_ran_where_on_what(monkeypatch):
  monkeypatch.setattr("sys.argv", ["launch/train.py", "--config=a.py"])
  record = json.loads(json.dumps(describe()))
  assert record["command"] == ["launch/train.py", "--config=a.py"]
  assert record["first_step"] == 4
  assert config_lib.build(record["config"]) == config_lib.build(
    config_test.smoke()
  )
  assert (record["data_digest"], record["params_digest"]) == ("d", "p")
  digest = hashlib.sha256(b'{"model": {}}').hexdigest()
  assert record["tokenizer_digest"] == digest
  assert record["devices"] == {"kind": "cpu", "count": 8, "processes": 1}
  assert record["mesh"] == {"data": 8, "fsdp": 1}
  assert all(record["versions"].values())
  time = datetime.datetime.fromisoformat(record["time"])
  age = datetime.datetime.now(datetime.UTC) - time
  assert abs(age) < datetime.timedelta(minutes=1)


def test_neither_machine_nor_environment_is_named(monkeypatch):
  monkeypatch.setenv("SOME_SECRET", "hunter2-hunter2")
  monkeypatch.setattr("sys.argv", ["train.py"])
  text = json.dumps(describe())
  for word in (socket.gethostname(), "hunter2", os.getcwd()):
    assert word not in text


def test_every_start_is_kept(tmp_path):
  run_record.append(tmp_path, {"first_step": 0})
  run_record.append(tmp_path, {"first_step": 8})
  (path,) = tmp_path.iterdir()
  assert path.name == "run.json"
  starts = [{"first_step": 0}, {"first_step": 8}]
  assert json.loads(path.read_text()) == {"starts": starts}


@pytest.mark.parametrize(
  "text", ["", '{"starts": [', "[]", '{"a": 1}', '{"starts": 3}', "\xff"]
)
def test_a_foreign_file_is_left_alone(tmp_path, text):
  path = tmp_path / "run.json"
  path.write_text(text, "latin-1")
  with pytest.raises(ValueError, match=r"run.json is damaged or no record"):
    run_record.append(tmp_path, {})
  assert path.read_text("latin-1") == text
  assert len(list(tmp_path.iterdir())) == 1


def test_a_checkout_is_named_by_its_commit_and_whether_it_was_changed(tmp_path):
  def git(*command):
    return subprocess.run(
      ["git", "-c", "user.name=a", "-c", "user.email=a@b", *command],  # noqa: S607
      cwd=tmp_path,
      check=True,
      capture_output=True,
      text=True,
    ).stdout.strip()

  assert run_record._git(tmp_path) is None
  git("init", "-q")
  assert run_record._git(tmp_path) is None  # without a commit
  (tmp_path / "a").write_text("a")
  git("add", "a")
  git("commit", "-q", "-m", "a")
  commit = git("rev-parse", "HEAD")
  assert run_record._git(tmp_path) == {"commit": commit, "dirty": False}
  (tmp_path / "a").write_text("b")
  assert run_record._git(tmp_path) == {"commit": commit, "dirty": True}
  assert run_record._git(tmp_path / ".git") is None
