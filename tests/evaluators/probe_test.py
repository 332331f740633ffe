import dataclasses

import numpy as np
import pytest
from sklearn import linear_model, metrics

from tests.evaluators import datasets
from tier_jax.evaluators import probe, zero_shot
from tier_jax.evaluators.benchmarks import benchmark

LABELS = ("Edema", "Mass", "No Finding")


class Encoder(datasets.Encoder):
  """The image's brightness, and noise from its pixels."""

  def embed_images(self, images):
    level = (images[:, 8, 2].astype(np.float32) - 100) / 100
    noise = np.sin(1e3 * level)
    embeds = np.stack([level, noise], axis=-1)
    return embeds, embeds[:, None]


def _rows(first, count):
  rng = np.random.default_rng(first)
  rows = []
  for i in range(count):
    level = int(rng.integers(0, 120))
    labels = {
      "Edema": int(level + rng.normal(0, 10) > 60),
      "Mass": int(rng.integers(-1, 2)),
      "No Finding": int(level > 60),
    }
    row = datasets.record(first + i, level=level, labels=labels)
    rows.append(row)
  return rows


def _evaluator(tmp_path, splits, split="test"):
  directory = datasets.write(tmp_path / "nih", splits)
  item = benchmark.Benchmark(
    name="nih", dataset="nih", split=split, labels=LABELS, apart=LABELS[2:]
  )
  return zero_shot.ZeroShot(item, directory)


def test_probe_finds_what_embeddings_tell(tmp_path):
  # Two images of each train patient; one without labels counts for nothing.
  train = _rows(0, 120)
  train = [
    *train,
    *(dataclasses.replace(r, image_id=r.image_id + "b") for r in train),
    datasets.record(999),
  ]
  evaluator = _evaluator(
    tmp_path,
    {"train": train, "validate": _rows(200, 40), "test": _rows(300, 60)},
  )
  part = probe.evaluate(Encoder(), evaluator, num_resamples=50, seed=3)
  assert part is not None
  assert list(part) == ["1%", "10%", "100%"]
  assert [item["patients"] for item in part.values()] == [1, 12, 120]
  # One patient has one class of each label: nothing is learnt.
  assert part["1%"]["value"] == 0.5
  assert {item["num_labels"] for item in part.values()} == {2}
  whole = part["100%"]
  # Edema is there to see, Mass is chance.
  assert whole["low"] < whole["value"] < whole["high"]
  assert 0.65 < whole["value"] < 0.85
  again = probe.evaluate(Encoder(), evaluator, num_resamples=50, seed=3)
  assert again == part


def test_scores_are_scikit_learn_s_and_blanks_are_left_out():
  rng = np.random.default_rng(0)
  embeds = rng.normal(size=(3, 80, 4)).astype(np.float32)
  truth = (embeds[..., :1] + rng.normal(size=(3, 80, 1)) > 0).astype(np.int8)
  truth = np.concatenate([truth, np.ones_like(truth)], axis=2)
  blank = truth.copy()
  blank[0, 50:, 0] = -1
  scores, strength = probe.fit_and_score(
    probe.Split(embeds[0], blank[0]),
    probe.Split(embeds[1], truth[1]),
    embeds[2],
    [0, 1],
  )
  assert not scores[:, 1].any()  # of one class alone

  def reference(c):
    x = (embeds - embeds[0].mean(axis=0)) / embeds[0].std(axis=0)
    model = linear_model.LogisticRegression(C=c, max_iter=1000)
    model.fit(x[0, :50], truth[0, :50, 0])
    area = metrics.roc_auc_score(truth[1, :, 0], model.decision_function(x[1]))
    return area, model.decision_function(x[2])

  areas = {c: reference(c) for c in (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)}
  best = max(areas, key=lambda c: areas[c][0])
  assert strength == best
  np.testing.assert_allclose(scores[:, 0], areas[best][1], atol=1e-3)


def test_without_train_or_validate_there_is_no_probe(tmp_path):
  evaluator = _evaluator(tmp_path, {"train": _rows(0, 9), "test": _rows(20, 9)})
  assert probe.evaluate(Encoder(), evaluator) is None


def test_what_is_trained_on_is_not_scored(tmp_path):
  evaluator = _evaluator(
    tmp_path, {"train": _rows(0, 9), "validate": _rows(20, 9)}, "validate"
  )
  with pytest.raises(ValueError, match="'validate' is used in training"):
    probe.evaluate(Encoder(), evaluator)
