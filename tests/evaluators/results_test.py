import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from tests.evaluators import datasets, evaluations
from tier_jax.evaluators import (
  calibration,
  digests,
  prompts,
  results,
  thresholds,
  zero_shot,
)
from tier_jax.evaluators.benchmarks import chexpert


def test_auroc_of_the_csv_is_the_one_in_metrics(tmp_path):
  run = evaluations.evaluate(tmp_path, "good", evaluations.POOR)
  assert run.metrics["step"] == 7
  for name in ("chexpert", "chexpert_study"):
    scores = run.scores(name)
    entry = run.metrics["benchmarks"][name]
    assert entry["rows"] == len(scores.image_ids)
    areas = []
    for i, label in enumerate(scores.labels):
      item = entry["labels"][label]
      counted = scores.truth[:, i] != -1
      if item["auroc"] is None:
        assert not item["positives"] or not item["negatives"]
        continue
      areas.append(
        sklearn_metrics.roc_auc_score(
          scores.truth[counted, i], scores.scores[counted, i]
        )
      )
      assert item["auroc"]["value"] == pytest.approx(areas[-1], abs=1e-12)
    assert entry["macro_auroc"]["num_labels"] == len(areas) == 2
    assert entry["macro_auroc"]["value"] == pytest.approx(np.mean(areas))


def test_same_evaluation_writes_the_same_bytes(tmp_path):
  evaluations.evaluate(tmp_path, "a", evaluations.POOR)
  evaluations.evaluate(tmp_path, "b", evaluations.POOR)
  for name in ("metrics.json", "scores_chexpert.csv"):
    first = (tmp_path / "a" / name).read_bytes()
    assert first == (tmp_path / "b" / name).read_bytes()
    assert str(tmp_path).encode() not in first


def _held_out(tmp_path):
  """Twenty patients in `test` and as many others in `validate`."""

  def rows(patients):
    return [
      dataclasses.replace(
        datasets.record(
          patient,
          level=3 * (patient % 20) + 9 * (patient % 2),
          labels={"Edema": int(patient % 20 > 8), "Cardiomegaly": patient % 2},
        ),
        sex="FM"[patient % 2],
      )
      for patient in patients
    ]

  splits = {"test": rows(range(20)), "validate": rows(range(40, 60))}
  return datasets.write(tmp_path / "chexpert", splits)


def test_thresholds_and_calibration_come_from_validation(tmp_path):
  evaluator = zero_shot.ZeroShot(chexpert.TEST, _held_out(tmp_path))
  encoder = datasets.Encoder()
  metrics = results.evaluate(
    [evaluator], encoder, tmp_path / "out", {}, num_resamples=50
  )
  chosen = evaluator.sibling("validate")
  assert chosen is not None
  rows, validation = evaluator.run(encoder), chosen.run(encoder)
  expected = thresholds.summarise(
    thresholds.choose(validation), rows, num_resamples=50
  )
  fitted = calibration.summarise(
    calibration.fit(validation), rows, num_resamples=50
  )
  entry = metrics["benchmarks"]["chexpert"]
  assert entry["thresholds_from"] == "validate"
  for label, item in entry["labels"].items():
    assert item["operating"] == expected[label]
  assert entry["labels"]["Edema"]["operating"] is not None
  assert fitted is not None
  assert entry["calibration"]["ece"] == fitted["ece"]
  assert "percentile" in metrics["bootstrap"]["interval"]
  assert "reflected" in entry["calibration"]["interval"]
  assert set(entry["subgroups"]) == {"sex", "age_band", "view"}
  assert entry["subgroups"]["sex"]["F"]["patients"] == 10
  study = metrics["benchmarks"]["chexpert_study"]
  assert set(study["subgroups"]) == {"sex", "age_band"}
  assert study["thresholds_from"] == "validate"


def test_validation_itself_has_no_thresholds(tmp_path):
  benchmark = dataclasses.replace(chexpert.TEST, split="validate")
  evaluator = zero_shot.ZeroShot(benchmark, _held_out(tmp_path))
  metrics = results.evaluate(
    [evaluator], datasets.Encoder(), tmp_path / "out", {}, num_resamples=0
  )
  entry = metrics["benchmarks"]["chexpert"]
  assert entry["thresholds_from"] is None is entry["calibration"]
  assert entry["labels"]["Edema"]["operating"] is None


def test_figures_are_keyed_by_what_they_depend_on(tmp_path):
  directory = _held_out(tmp_path)
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  parts = {
    "grounding": {
      "mimic": {
        "dataset": "mimic",
        "data_manifest_sha256": "ab",
        "scores": "grounding_mimic.csv",
      }
    }
  }
  out = tmp_path / "out"
  out.mkdir()
  (out / "grounding_mimic.csv").write_text("x")
  (out / "shown.npz").write_text("y")
  rates = {"sensitivity": {"value": 0.9}, "specificity": {"value": 0.0}}
  called = {"chexpert_study": {"reader": {"Edema": rates, "Mass": None}}}
  metrics = results.evaluate(
    [evaluator],
    datasets.Encoder(),
    out,
    {"params_sha256": "cd"},
    parts=parts,
    readers=called,
    pictures=["shown.npz"],
    num_resamples=0,
  )
  assert metrics == json.loads((out / "metrics.json").read_text())
  assert metrics["digests"] == {
    "weights": "cd",
    "predictions": None,
    "prompts": prompts.digest(),
    "data": {
      "chexpert": digests.of_file(directory / "manifest.json"),
      "mimic": "ab",
    },
    "code": digests.of_code(),
  }
  assert metrics["files"] == {
    name: digests.of_file(out / name)
    for name in ("grounding_mimic.csv", "scores_chexpert.csv", "shown.npz")
  }
  # At no specificity every curve has reached its upper end.
  assert metrics["benchmarks"]["chexpert_study"]["readers"] == {
    "reader": {
      "Edema": {**rates, "model_sensitivity": 1.0, "below": True},
      "Mass": None,
    }
  }
  assert metrics["benchmarks"]["chexpert"]["readers"] is None
  assert metrics["grounding"] == parts["grounding"]
  assert metrics["retrieval"] is metrics["probe"] is None


def test_benchmarks_of_one_split_embed_its_images_once(tmp_path):
  directory = _held_out(tmp_path)
  encoder = datasets.Encoder()
  results.evaluate(
    [
      zero_shot.ZeroShot(benchmark, directory)
      for benchmark in (chexpert.TEST, chexpert.TEST_14)
    ],
    encoder,
    tmp_path / "out",
    {},
    num_resamples=0,
  )
  assert encoder.batches == [20, 20]  # test, validate


def test_what_was_embedded_before_is_not_again(tmp_path):
  encoder = datasets.Encoder()
  evaluator = zero_shot.ZeroShot(chexpert.TEST, _held_out(tmp_path))
  kept = {}
  scores, validation = results.score([evaluator], encoder, kept)[0]
  assert encoder.batches == [20, 20]
  again, other = results.score([evaluator], encoder, kept)[0]
  assert encoder.batches == [20, 20]
  assert validation is not None and other is not None
  np.testing.assert_array_equal(scores.scores, again.scores)
  np.testing.assert_array_equal(validation.scores, other.scores)
