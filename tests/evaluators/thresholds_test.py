import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from tests.evaluators import rows as made
from tier_jax.evaluators import thresholds


def _best(truth, scores, figure):
  """The highest of the best thresholds, each tried out; the first calls none.

  A figure may be None where a threshold is not allowed.
  """
  tried = [np.inf, *sorted(set(scores.tolist()), reverse=True)]
  values = [figure(truth, (scores >= t).astype(int)) for t in tried]
  return max(v for v in values if v is not None), values, tried


def _sensitivity(truth, calls):
  if (calls[truth == 0] == 0).mean() < thresholds.MIN_SPECIFICITY:
    return None
  return (calls[truth == 1] == 1).mean()


@pytest.mark.parametrize("seed", range(8))
def test_thresholds_are_the_best_of_all(seed):
  rows = made.draw(seed, "v")
  chosen = thresholds.choose(rows)
  truth, scores = rows.truth[:, 0], rows.scores[:, 0]
  for kind, figure in (
    ("f1", metrics.f1_score),
    ("mcc", metrics.matthews_corrcoef),
    ("sensitivity", _sensitivity),
  ):
    threshold = chosen.values[kind]["Edema"]
    calls = (scores >= threshold).astype(int)
    best, values, tried = _best(truth, scores, figure)
    assert figure(truth, calls) == pytest.approx(best, abs=1e-12)
    # None above it does as well.
    above = [v for v, t in zip(values, tried, strict=True) if t > threshold]
    assert all(v is None or v < best - 1e-12 for v in above)
    assert "Fracture" not in chosen.values[kind]


def test_no_threshold_keeps_the_specificity_but_one_above_all():
  rows = made.draw(0, "v", labels=("Edema",))
  rows = dataclasses.replace(rows, scores=np.zeros_like(rows.scores))
  chosen = thresholds.choose(rows)
  threshold = chosen.values["sensitivity"]["Edema"]
  assert 0 < threshold < 1e-30
  test = made.draw(1, "t", labels=("Edema",))
  test = dataclasses.replace(test, scores=np.zeros_like(test.scores))
  assert not chosen.apply(test, "sensitivity").any()


def test_applied_to_others_they_give_the_figures_of_the_calls():
  chosen = thresholds.choose(made.draw(2, "v"))
  test = made.draw(3, "t")
  result = thresholds.summarise(chosen, test, num_resamples=50, seed=0)
  assert result["Fracture"] is None
  edema = result["Edema"]
  assert edema is not None
  truth, scores = test.truth[:, 0], test.scores[:, 0]
  for kind, name, figure in (
    ("f1", "f1", metrics.f1_score),
    ("mcc", "mcc", metrics.matthews_corrcoef),
    ("sensitivity", "sensitivity", metrics.recall_score),
    (
      "sensitivity",
      "specificity",
      lambda *of: metrics.recall_score(*of, pos_label=0),
    ),
  ):
    calls = (scores >= edema[f"{kind}_threshold"]).astype(int)
    assert edema[name]["value"] == pytest.approx(figure(truth, calls))
    assert edema[name]["low"] <= edema[name]["value"] <= edema[name]["high"]
  calls = chosen.apply(test, "f1")
  assert (calls[:, 1] == -1).all()
  none = thresholds.summarise(chosen, test, num_resamples=0)["Edema"]
  assert none is not None and none["f1"]["low"] is None


def test_a_label_unknown_to_the_validation_has_no_threshold():
  chosen = thresholds.choose(made.draw(2, "v", labels=("Pneumonia",)))
  result = thresholds.summarise(chosen, made.draw(3, "t"), num_resamples=0)
  assert result == {"Edema": None, "Fracture": None}


def test_the_same_set_is_refused_and_so_is_any_image_or_patient_of_it():
  validation, test = made.draw(2, "v"), made.draw(3, "t")
  chosen = thresholds.choose(validation)
  with pytest.raises(ValueError, match="60 images and 30 patients"):
    thresholds.summarise(chosen, validation)
  image = dataclasses.replace(
    test, image_ids=(*test.image_ids[:-1], validation.image_ids[0])
  )
  with pytest.raises(ValueError, match="1 images and 0 patients"):
    chosen.apply(image, "f1")
  patient = dataclasses.replace(
    test, patient_ids=(*test.patient_ids[:-1], validation.patient_ids[0])
  )
  with pytest.raises(ValueError, match="0 images and 1 patients"):
    chosen.apply(patient, "mcc")
