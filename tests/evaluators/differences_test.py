import numpy as np
import pytest

from tests.evaluators import evaluations
from tier_jax.evaluators import comparisons, differences


def _area(run, label):
  return run.metrics["benchmarks"]["chexpert"]["labels"][label]["auroc"]


def test_difference_is_paired(tmp_path):
  good, same, poor = (
    evaluations.evaluate(tmp_path, name, levels)
    for name, levels in (
      ("good", evaluations.GOOD),
      ("same", evaluations.GOOD),
      ("poor", evaluations.POOR),
    )
  )
  nothing = differences.benchmark(good, same, "chexpert")
  assert nothing["macro"] == {"value": 0, "low": 0, "high": 0, "p": 1}
  assert nothing["labels"]["Atelectasis"] is None
  found = differences.benchmark(good, poor, "chexpert")
  edema = found["labels"]["Edema"]
  areas = [_area(run, "Edema")["value"] for run in (good, poor)]
  assert edema["value"] == pytest.approx(areas[0] - areas[1])
  assert 0 <= edema["low"] <= edema["value"] <= edema["high"]
  assert found["macro"]["value"] == pytest.approx(
    np.mean(
      [
        _area(good, name)["value"] - _area(poor, name)["value"]
        for name in ("Edema", "Cardiomegaly")
      ]
    )
  )
  assert differences.of_runs([good]) == {}
  both = differences.of_runs([good, poor])
  assert both.keys() == {"chexpert", "chexpert_study"}
  assert both["chexpert"] == found


def test_p_values_are_delong_s_and_holm_s_over_the_labels(tmp_path):
  good = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  poor = evaluations.evaluate(tmp_path, "poor", evaluations.POOR)
  labels = differences.benchmark(good, poor, "chexpert")["labels"]
  one, two = good.scores("chexpert"), poor.scores("chexpert")
  p_values = []
  for name in ("Cardiomegaly", "Edema"):
    i = one.labels.index(name)
    test = comparisons.delong(
      one.truth[:, i], one.scores[:, i], two.scores[:, i], one.patient_ids
    )
    assert test is not None
    assert labels[name]["p"] == test.p_value
    p_values.append(test.p_value)
  smaller, larger = sorted(p_values)
  adjusted = sorted(
    labels[name]["p_holm"] for name in ("Cardiomegaly", "Edema")
  )
  assert adjusted == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_runs_on_other_rows_are_refused(tmp_path):
  good = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  other = evaluations.evaluate(tmp_path, "other", evaluations.GOOD[:9])
  with pytest.raises(ValueError, match="expected the same"):
    differences.benchmark(good, other, "chexpert")
