"""Flags of `launch/train.py` that end a run before it starts."""

import importlib.util
from pathlib import Path

import pytest
from absl import flags


@pytest.fixture(scope="module")
def launch():
  path = Path(__file__).parents[2] / "launch" / "train.py"
  spec = importlib.util.spec_from_file_location("launch_train", path)
  module = importlib.util.module_from_spec(spec)
  before = set(flags.FLAGS)
  spec.loader.exec_module(module)
  yield module
  for name in set(flags.FLAGS) - before:
    delattr(flags.FLAGS, name)


def test_steps_to_profile_stop_before_the_last(launch):
  assert launch.profile_steps(None) is None
  assert launch.profile_steps("100:105") == (100, 105)


@pytest.mark.parametrize("text", ["", "5", "5:", "5:5", "0:3", "7:5", "a:b"])
def test_other_spellings_of_steps_to_profile_are_refused(launch, text):
  with pytest.raises(ValueError, match=f"profile_steps is '{text}', expected"):
    launch.profile_steps(text)
