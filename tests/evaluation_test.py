"""What training measures on the way is what an evaluation measures after."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from tests import trainings
from tests.evaluators import datasets
from tier_jax import inference, train
from tier_jax.evaluators import results, zero_shot
from tier_jax.evaluators.benchmarks import registry

AREA = "valid/chexpert/macro_auroc"


@pytest.fixture(autouse=True)
def compiled(tmp_path_factory):
  with trainings.compiled_once(tmp_path_factory):
    yield


def test_a_checkpoint_scores_what_its_training_logged(tmp_path, monkeypatch):
  device = jax.devices()[:1]  # eight take longer to compile for
  monkeypatch.setattr(jax, "devices", lambda: device)
  data_dir = trainings.write_data(tmp_path / "data")
  rng = np.random.default_rng(0)
  rows = [
    datasets.record(
      i // 2,
      image=i % 2,
      level=int(rng.integers(100)),
      labels={
        "Edema": i // 2 % 2,
        "Cardiomegaly": int(i // 2 % 3 == 0),
        "Atelectasis": -1 if i < 8 else i // 2 % 2,
      },
    )
    for i in range(42)
  ]
  directory = datasets.write(data_dir / "chexpert", {"validate": rows})
  config = trainings.config(
    data_dir,
    eval_benchmark="chexpert",
    num_steps=2,
    eval_every=1,
    checkpoint_every=1,
  )
  workdir = tmp_path / "run"
  train.train_and_evaluate(config, workdir)
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  logged = {
    row["step"]: row[AREA] for row in map(json.loads, lines) if AREA in row
  }
  assert sorted(logged) == [1, 2]
  benchmark = dataclasses.replace(registry.find("chexpert"), split="validate")
  evaluator = zero_shot.ZeroShot(benchmark, directory)
  for step, value in logged.items():
    metrics = results.evaluate(
      [evaluator],
      inference.load(workdir, step).encoder,
      tmp_path / f"results_{step}",
      {},
      num_resamples=10,
    )
    macro = metrics["benchmarks"]["chexpert"]["macro_auroc"]
    assert macro["num_labels"] == 3
    assert macro["value"] == value  # to the last bit
  # Else any model would do.
  assert len({0.5, *logged.values()}) == 3
