import numpy as np
import pytest

from tier_jax.evaluators import metrics, subgroups, zero_shot

SETTINGS = {"apart": (), "num_resamples": 40, "seed": 3}


def make(sexes, views, truth=None):
  """Scores of two images a patient; B is the truth of A turned over."""
  count = len(sexes)
  rng = np.random.default_rng(0)
  if truth is None:
    truth = rng.integers(0, 2, (count, 1))
  return zero_shot.Scores(
    labels=("A", "B"),
    image_ids=tuple(map(str, range(count))),
    study_ids=tuple(map(str, range(count))),
    patient_ids=tuple(str(i // 2) for i in range(count)),
    truth=np.concatenate([truth, 1 - truth], axis=1).astype(np.int8),
    scores=rng.normal(size=(count, 2)).astype(np.float32),
    groups={"sex": tuple(sexes), "view": tuple(views)},
  )


def test_a_group_is_summarised_like_a_whole_set():
  sexes = ["F"] * 40 + ["M"] * 30 + [""] * 10
  scores = make(sexes, ["frontal", "lateral"] * 40)
  found = subgroups.summarise(scores, **SETTINGS)
  assert {k: list(v) for k, v in found.items()} == {
    "sex": ["F", "M"],
    "view": ["frontal", "lateral"],
  }
  assert found["sex"]["M"]["rows"] == 30
  assert found["sex"]["M"]["patients"] == 15
  assert found["view"]["lateral"]["patients"] == 40
  # The first forty rows alone, by the same seed.
  alone = make(sexes[:40], ["x"] * 40, truth=scores.truth[:40, :1])
  alone.scores[:] = scores.scores[:40]
  whole = metrics.summarise(alone, **SETTINGS)
  assert found["sex"]["F"]["macro_auroc"] == whole["macro_auroc"]


def test_a_group_without_a_class_or_of_few_patients_has_no_figure():
  sexes = ["F"] * 18 + ["M"] * 22
  truth = np.zeros((40, 1), int)
  truth[:9] = 1
  found = subgroups.summarise(make(sexes, ["x"] * 40, truth), **SETTINGS)
  assert found["sex"]["F"] == {"rows": 18, "patients": 9, "macro_auroc": None}
  assert found["sex"]["M"] == {"rows": 22, "patients": 11, "macro_auroc": None}
  assert found["view"]["x"]["macro_auroc"]["num_labels"] == 2


def test_labels_apart_count_in_no_group():
  scores = make(["F"] * 60, ["x"] * 60)
  apart = {**SETTINGS, "apart": ("B",)}
  found = subgroups.summarise(scores, **apart)["sex"]["F"]["macro_auroc"]
  area = metrics.summarise(scores, **SETTINGS)["labels"]["A"]["auroc"]
  assert found["num_labels"] == 1
  assert found["value"] == pytest.approx(area["value"])
