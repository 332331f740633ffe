
import numpy as np
import pytest
from sklearn import metrics

from tests.evaluators import evaluations


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
        metrics.roc_auc_score(
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
