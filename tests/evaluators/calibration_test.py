import dataclasses
import itertools

import numpy as np
import pytest
from scipy import optimize

from tests.evaluators import rows as made
from tier_jax.evaluators import calibration


def _known(slope, intercept, num_rows=4000, seed=0, prefix="v"):
  """Rows whose truth has probability sigmoid(slope * score + intercept)."""
  rng = np.random.default_rng(seed)
  scores = rng.normal(0.02, 0.05, (num_rows, 1)).astype(np.float32)
  chance = 1 / (1 + np.exp(-(slope * scores.astype(float) + intercept)))
  return made.Rows(
    labels=("Edema",),
    image_ids=tuple(f"{prefix}{i}" for i in range(num_rows)),
    patient_ids=tuple(f"{prefix}{i // 2}" for i in range(num_rows)),
    truth=(rng.random((num_rows, 1)) < chance).astype(np.int8),
    scores=scores,
  )


def test_fit_has_the_greatest_likelihood():
  rows = made.draw(0, "v")
  truth, scores = rows.truth[:, 0], rows.scores[:, 0].astype(np.float64)

  def loss(numbers):
    logits = numbers[0] * scores + numbers[1]
    return np.logaddexp(0, np.where(truth == 1, -logits, logits)).sum()

  best = optimize.minimize(loss, np.zeros(2)).x
  fitted = calibration.fit(rows).values
  assert list(fitted) == ["Edema"]  # of Fracture nothing is present
  np.testing.assert_allclose(fitted["Edema"], best, rtol=1e-3)


def test_scores_that_lie_close_together_are_fitted_as_well():
  slope, intercept = calibration.fit(_known(40.0, -2.0)).values["Edema"]
  # Three standard errors of the fit to 4,000 rows, which are 1.33
  assert slope == pytest.approx(40, abs=4.0)
  # and 0.066.
  assert intercept == pytest.approx(-2, abs=0.2)


@pytest.mark.filterwarnings("error")
def test_a_separable_or_constant_label_stays_finite():
  rows = made.draw(0, "v", labels=("Edema",))
  test = made.draw(1, "t", labels=("Edema",))
  for scores in (rows.truth.astype(np.float32), np.ones((60, 1), np.float32)):
    fitted = calibration.fit(dataclasses.replace(rows, scores=scores))
    assert np.isfinite(fitted.values["Edema"]).all()
    shown = fitted.apply(test)
    assert ((shown >= 0) & (shown <= 1)).all()
  # A constant score gives everyone the prevalence.
  np.testing.assert_allclose(shown, rows.truth.mean(), atol=1e-3)


def test_error_and_bins_by_hand():
  truth = np.array([[1, 0], [0, -1], [1, 1]], np.int8)
  probabilities = np.array([[0.01, 0.05], [0.5, 0.2], [1.0, np.nan]])
  # Counted: 0.01 and 0.05, of which half is present; 0.5, absent; 1.0.
  error, bins = calibration.expected_error(truth, probabilities)
  assert error == pytest.approx((2 * 0.47 + 0.5 + 0) / 4)
  assert [item["count"] for item in bins] == [2, *[0] * 6, 1, *[0] * 6, 1]
  assert bins[0]["confidence"] == pytest.approx(0.03)
  assert bins[0]["frequency"] == 0.5
  assert bins[1]["confidence"] is None and bins[1]["frequency"] is None
  assert bins[14] == {
    "low": pytest.approx(14 / 15),
    "high": 1.0,
    "count": 1,
    "confidence": 1.0,
    "frequency": 1.0,
  }
  assert all(a["high"] == b["low"] for a, b in itertools.pairwise(bins))
  nothing, bins = calibration.expected_error(truth, np.full((3, 2), np.nan))
  assert nothing is None and sum(item["count"] for item in bins) == 0


def test_error_refuses():
  truth = np.array([[1], [0]])
  with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
    calibration.expected_error(truth, np.array([[0.5], [1.1]]))
  with pytest.raises(ValueError, match="expected the same"):
    calibration.expected_error(truth, np.array([0.5, 0.5]))


def test_calibrated_scores_have_a_small_error_and_wrong_ones_a_large_one():
  test = _known(40.0, -2.0, seed=1, prefix="t")
  right = calibration.fit(_known(40.0, -2.0))
  wrong = calibration.fit(_known(-10.0, 2.0))
  results = [
    calibration.summarise(fitted, test, num_resamples=100)
    for fitted in (right, wrong)
  ]
  small, large = (result and result["ece"] for result in results)
  assert small and large
  assert small["low"] <= small["value"] <= small["high"] < 0.05
  assert 0.3 < large["low"] < large["value"] < large["high"]
  # The gap that the two pairs of numbers state themselves. The share of 4,000
  # rows that are positive has a standard error of up to 0.008.
  scores = test.scores.astype(float)
  gap = 1 / (1 + np.exp(10 * scores - 2)) - 1 / (1 + np.exp(2 - 40 * scores))
  assert large["value"] == pytest.approx(np.abs(gap).mean(), abs=0.02)


def test_interval_is_over_patients():
  rows = _known(40.0, -2.0, seed=1, prefix="t", num_rows=400)
  fitted = calibration.fit(_known(20.0, -1.0))
  # Ten copies of every row are no more patients.
  copies = dataclasses.replace(
    rows,
    image_ids=tuple(f"{i}{j}" for j in range(10) for i in rows.image_ids),
    patient_ids=rows.patient_ids * 10,
    truth=np.tile(rows.truth, (10, 1)),
    scores=np.tile(rows.scores, (10, 1)),
  )
  one, ten = (
    calibration.summarise(fitted, some, num_resamples=50)
    for some in (rows, copies)
  )
  assert one and ten
  assert ten["ece"] == pytest.approx(one["ece"])


def test_rows_it_was_fitted_on_are_refused():
  rows = made.draw(0, "v")
  with pytest.raises(ValueError, match="60 images and 30 patients"):
    calibration.summarise(calibration.fit(rows), rows)


def test_nothing_fitted_or_counted_gives_nothing():
  rows = made.draw(0, "v", labels=("Fracture", "Edema"))
  rows = dataclasses.replace(rows, truth=np.zeros_like(rows.truth))
  test = made.draw(1, "t")
  assert calibration.summarise(calibration.fit(rows), test) is None
  blank = dataclasses.replace(test, truth=np.full_like(test.truth, -1))
  assert (
    calibration.summarise(calibration.fit(made.draw(0, "v")), blank) is None
  )
