"""What training evaluates on the way, and which step was the best."""

import jax
import numpy as np
import pytest

from tests import trainings
from tests.evaluators import datasets
from tier_jax import (
  experiment,
  inference,
  program,
  sharding,
  train,
  validation,
)

LOSS = "valid/contrastive_loss"
LOSS_OF_8 = f"{LOSS} of 8"
AREA = "valid/chexpert/macro_auroc"


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
  with trainings.compiled_once(tmp_path_factory):
    yield


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  """Pairs with boxes, and a benchmark of its own."""
  root = trainings.write_data(tmp_path_factory.mktemp("data"), boxes=True)
  rows = [
    datasets.record(i, level=9 * i, labels={"Edema": i % 2}) for i in range(8)
  ]
  datasets.write(root / "chexpert", {"validate": rows})
  return root


def make(data_dir, calls, **changes):
  """Returns a validation and a random state to evaluate."""
  config = trainings.config(data_dir, **changes)
  config, tokenize = experiment.resolve(config)
  mesh = sharding.make_mesh(config.mesh)
  made = program.make(config, mesh)
  valid = validation.Validation(
    config, made.model, tokenize, mesh, lambda: calls.append(None)
  )
  return valid, made.init(jax.random.key(0))


def test_an_evaluation_has_losses_a_score_and_a_picture(data_dir):
  calls = []
  valid, state = make(data_dir, calls, eval_benchmark="chexpert")
  scalars = valid.run(state)
  assert scalars.keys() == {
    LOSS,
    "valid/token_entropy",
    "valid/patch_entropy",
    AREA,
  }
  assert np.isfinite(list(scalars.values())).all()
  assert 0 <= scalars[AREA] <= 1
  assert len(calls) >= 3  # before the pairs', the images' and the texts' batch
  picture = valid.draw(state)
  assert picture.dtype == np.uint8
  assert picture.ndim == 3
  assert picture.shape[2] == 3
  assert picture.std() > 0
  np.testing.assert_array_equal(valid.draw(state), picture)
  # Of the moving average, where there is one.
  params = jax.tree.map(lambda x: x * np.nan, state.params)
  assert valid.run(state.replace(params=params)) == scalars
  averaged = jax.tree.map(lambda x: x * 1.5, state.ema_params)
  assert valid.run(state.replace(ema_params=averaged)) != scalars


def test_what_is_raised_before_a_batch_ends_an_evaluation(data_dir):
  class Stop(list):
    def append(self, item):
      raise InterruptedError

  valid, state = make(data_dir, Stop())
  for evaluate in (valid.run, valid.draw):
    with pytest.raises(InterruptedError):
      evaluate(state)


def test_without_boxes_or_benchmark_there_is_no_picture(tmp_path):
  valid, state = make(trainings.write_data(tmp_path), [])
  assert valid.draw(state) is None


def test_too_few_pairs_for_the_devices_are_refused(data_dir):
  with pytest.raises(ValueError, match=r"eval_batch_size 1\) do not fill 2"):
    make(data_dir, [], eval_batch_size=1)


def loss(step, value, pairs=8):
  metric = f"{LOSS} of {pairs}"
  return {"step": step, "metric": metric, "value": value}


def area(step, value):
  return {"step": step, "metric": AREA, "value": value}


@pytest.mark.parametrize(
  ("old", "scalars", "want"),
  [
    (None, {LOSS: 2.0}, loss(9, 2.0)),
    (loss(3, 2.0), {LOSS: 1.0}, loss(9, 1.0)),
    (loss(3, 2.0), {LOSS: 2.0}, loss(3, 2.0)),
    (loss(3, 2.0), {LOSS: 3.0}, loss(3, 2.0)),
    (loss(3, 2.0), {LOSS: np.nan}, loss(3, 2.0)),
    (None, {LOSS: np.nan}, None),
    (None, {LOSS: 2.0, AREA: 0.6}, area(9, 0.6)),
    (area(3, 0.5), {LOSS: 9.0, AREA: 0.6}, area(9, 0.6)),
    (area(3, 0.7), {LOSS: 0.0, AREA: 0.6}, area(3, 0.7)),
    # Of another metric, as when the benchmark's data came later or went.
    (loss(3, 0.1), {LOSS: 2.0, AREA: 0.6}, area(9, 0.6)),
    (area(3, 0.9), {LOSS: 2.0}, loss(9, 2.0)),
    (loss(3, 0.1, pairs=4), {LOSS: 2.0}, loss(9, 2.0)),
  ],
)
def test_the_better_step(old, scalars, want):
  assert validation.better(old, 9, scalars, 8) == want


def test_the_best_step_is_kept_and_found_by_name(
  data_dir, tmp_path, monkeypatch
):
  losses = iter([3.0, 1.0, 2.0, 2.5])
  monkeypatch.setattr(
    validation.Validation, "run", lambda *_: {LOSS: next(losses)}
  )
  monkeypatch.setattr(validation.Validation, "draw", lambda *_: None)
  config = trainings.config(data_dir, eval_every=2, checkpoint_every=2)
  train.train_and_evaluate(config, tmp_path)
  trainings.assert_sound(tmp_path, [4, 6, 8])
  assert inference.load(tmp_path, "best").step == 4
  assert inference.load(tmp_path).step == 8
