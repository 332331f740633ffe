import dataclasses
import json

import numpy as np
import pytest
from sklearn import metrics

from tests.evaluators import datasets
from tier_jax.evaluators import results, zero_shot
from tier_jax.evaluators.benchmarks import chexpert


def _evaluate(tmp_path, name, levels):
  """Evaluates patients as bright as `levels`; the second five have edema."""
  rows = [
    datasets.record(
      patient,
      image=image,
      level=level + 5 * image,
      labels={"Edema": int(patient >= 5), "Cardiomegaly": patient % 2},
    )
    for patient, level in enumerate(levels)
    for image in range(2)
  ]
  directory = datasets.write(tmp_path / name / "chexpert", {"test": rows})
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  results.evaluate(
    [evaluator],
    datasets.Encoder(),
    tmp_path / name,
    {"step": 7},
    num_resamples=200,
  )
  return results.read_run(name, tmp_path / name, tmp_path / name)


GOOD = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
POOR = [0, 50, 20, 70, 40, 10, 60, 30, 80, 90]


def test_auroc_of_the_csv_is_the_one_in_metrics(tmp_path):
  run = _evaluate(tmp_path, "good", POOR)
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
        metrics.roc_auc_score(
          scores.truth[counted, i], scores.scores[counted, i]
        )
      )
      assert item["auroc"]["value"] == pytest.approx(areas[-1], abs=1e-12)
    assert entry["macro_auroc"]["num_labels"] == len(areas) == 2
    assert entry["macro_auroc"]["value"] == pytest.approx(np.mean(areas))


def test_same_evaluation_writes_the_same_bytes(tmp_path):
  _evaluate(tmp_path, "a", POOR)
  _evaluate(tmp_path, "b", POOR)
  for name in ("metrics.json", "scores_chexpert.csv"):
    first = (tmp_path / "a" / name).read_bytes()
    assert first == (tmp_path / "b" / name).read_bytes()
    assert str(tmp_path).encode() not in first


def test_scores_survive_the_csv_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  scores = zero_shot.Scores(
    labels=('a, "b"', "c truth"),
    image_ids=tuple("abc"),
    study_ids=tuple("ddd"),
    patient_ids=tuple("eee"),
    truth=np.array([[1, 0], [-1, 1], [0, -1]], np.int8),
    scores=rng.normal(size=(3, 2)).astype(np.float32),
  )
  path = tmp_path / "scores.csv"
  results.write_scores(path, scores)
  again = results.read_scores(path)
  assert again.labels == scores.labels
  assert again.study_ids == scores.study_ids
  np.testing.assert_array_equal(again.truth, scores.truth)
  np.testing.assert_array_equal(again.scores, scores.scores)


@pytest.mark.parametrize(
  "text",
  [
    "",
    "image_id,study_id,patient_id,A truth\n",
    "image_id,study_id,patient_id,A truth,B score\n",
    "image_id,study_id,patient_id,A truth,A score\na,b,c,1\n",
    "image_id,study_id,patient_id,A truth,A score\na,b,c,yes,1\n",
  ],
)
def test_malformed_scores_are_refused(tmp_path, text):
  path = tmp_path / "scores.csv"
  path.write_text(text)
  with pytest.raises(ValueError, match=r"scores\.csv"):
    results.read_scores(path)


def test_difference_is_paired(tmp_path):
  good = _evaluate(tmp_path, "good", GOOD)
  same = _evaluate(tmp_path, "same", GOOD)
  poor = _evaluate(tmp_path, "poor", POOR)
  nothing = results.difference(good, same, "chexpert")
  assert nothing["macro"] == {"value": 0, "low": 0, "high": 0}
  assert nothing["labels"]["Atelectasis"] is None
  delta = results.difference(good, poor, "chexpert")["labels"]["Edema"]
  areas = [
    run.metrics["benchmarks"]["chexpert"]["labels"]["Edema"]["auroc"]["value"]
    for run in (good, poor)
  ]
  assert delta["value"] == pytest.approx(areas[0] - areas[1])
  assert 0 <= delta["low"] <= delta["value"] <= delta["high"]
  other = _evaluate(tmp_path, "other", GOOD[:9])
  with pytest.raises(ValueError, match="expected the same"):
    results.difference(good, other, "chexpert")


def test_table_prints_figures_counts_and_what_is_missing(tmp_path):
  runs = [
    _evaluate(tmp_path, name, levels)
    for name, levels in (("good", GOOD), ("poor", POOR))
  ]
  text = results.table(runs, results.differences(runs))
  assert "20 images of 10 patients" in text
  assert "10 studies of 10 patients" in text
  assert "macro of 2" in text
  assert "good - poor" in text
  assert "not available, without both classes (3" in text
  edema = next(line for line in text.splitlines() if "Edema" in line)
  assert "10/10" in edema and "1.000 [1.000, 1.000]" in edema


def test_run_without_results_or_with_a_broken_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"run 'x'.*metrics\.json is missing"):
    results.read_run("x", tmp_path, tmp_path)
  (tmp_path / "metrics.json").write_text(json.dumps({"benchmarks": {}}))
  assert results.read_run("x", tmp_path, tmp_path).curves == []
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
  assert results.read_run("x", tmp_path, tmp_path).curves == [{"step": 1}]
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match=r"config\.json is no JSON"):
    results.read_run("x", tmp_path, tmp_path)


def test_summary_has_one_line_a_run(tmp_path):
  trained = _evaluate(tmp_path, "trained", GOOD)
  trained = dataclasses.replace(
    trained,
    config={"train": {"batch_size": 32}},
    curves=[
      {"step": 1, "train/pairs_per_second": 100.0, "valid/token_entropy": 9.0},
      {"step": 2, "train/pairs_per_second": 400.0, "train/row_cosine": 0.5},
      {"step": 3, "train/pairs_per_second": 320.0, "valid/token_entropy": 1.5},
    ],
  )
  other = _evaluate(tmp_path, "other", POOR)
  head, first, second = results.summary([trained, other]).splitlines()
  assert head.split()[:2] == ["chexpert", "chexpert_study"]
  assert head.endswith("ms a step")
  # 32 pairs at the median of 320 pairs a second are 100 ms.
  macros = [
    f"{entry['macro_auroc']['value']:.3f}"
    for entry in trained.metrics["benchmarks"].values()
  ]
  assert first.split() == ["trained", *macros, "1.500", "-", "0.500", "100"]
  assert second.split()[0] == "other" and second.split()[-4:] == ["-"] * 4
