"""What a training leaves behind beside its checkpoints, and when nothing."""

import pytest

from tests import trainings
from tier_jax import inference, preemption, train, validation


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return trainings.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
  with trainings.compiled_once(tmp_path_factory):
    yield


def contents(directory):
  return {
    path: (path.read_bytes() if path.is_file() else None, path.stat().st_mtime)
    for path in directory.rglob("*")
  }


def test_asked_for_steps_are_profiled_and_a_dry_run_leaves_all_as_it_was(
  data_dir, tmp_path, caplog
):
  workdir = tmp_path / "run"
  config = trainings.config(data_dir)
  train.train_and_evaluate(config, workdir, profile_steps=(2, 3))
  assert list((workdir / "profile").rglob("*.xplane.pb"))
  before = contents(workdir)
  with caplog.at_level("INFO"):
    train.train_and_evaluate(config, workdir, dry_run=True)
    train.train_and_evaluate(config, tmp_path / "new", dry_run=True)
  # What it would refuse, it refuses.
  other = trainings.config(data_dir, num_steps=9)
  with pytest.raises(ValueError, match="train.num_steps 8 -> 9"):
    train.train_and_evaluate(other, workdir, dry_run=True)
  assert f"{workdir} would resume at step 8" in caplog.text
  assert "FLOP a pair" in caplog.text
  assert contents(workdir) == before
  assert not (tmp_path / "new").exists()


def test_the_last_evaluation_is_made_good_when_it_was_preempted(
  data_dir, tmp_path, monkeypatch
):
  config = trainings.config(data_dir, eval_every=8, checkpoint_every=8)

  def preempted(*_):
    raise train._PreemptedError

  with monkeypatch.context() as context:
    context.setattr(validation.Validation, "run", preempted)
    with pytest.raises(SystemExit) as end:
      train.train_and_evaluate(config, tmp_path)
    assert end.value.code == preemption.EXIT_CODE
  with pytest.raises(ValueError, match="best"):
    inference.load(tmp_path, "best")
  for _ in range(2):  # once more does nothing more
    train.train_and_evaluate(config, tmp_path)
    assert inference.load(tmp_path, "best").step == 8
    trainings.assert_sound(tmp_path, [8])
  rows = (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()
  assert len(rows) == 8


def test_it_does_not_begin_over_when_all_checkpoints_are_damaged(
  data_dir, tmp_path
):
  config = trainings.config(data_dir, eval_every=8, checkpoint_every=8)
  train.train_and_evaluate(config, tmp_path)
  file = tmp_path / "checkpoints/8/meta/metadata"
  file.write_bytes(file.read_bytes()[:-1])
  for _ in range(2):
    with pytest.raises(ValueError, match="no sound checkpoint any more"):
      train.train_and_evaluate(config, tmp_path)
  assert (tmp_path / "damaged/8").is_dir()
