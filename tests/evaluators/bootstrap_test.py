import numpy as np
import pytest
from sklearn import metrics

from tier_jax.evaluators import bootstrap, statistics


def _sample(rng, num_patients, effect=1.0):
  """Up to three images a patient, correlated within the patient."""
  patients = np.repeat(
    np.arange(num_patients), rng.integers(1, 4, num_patients)
  )
  sick = rng.random(num_patients) < 0.4
  level = rng.normal(effect * sick, 1.0)
  scores = level[patients] + rng.normal(0, 0.3, len(patients))
  return sick[patients].astype(np.int8), scores, patients.astype(str)


def test_bootstrap_values_are_those_of_the_repeated_rows():
  rng = np.random.default_rng(1)
  truth, scores, patients = _sample(rng, 30)
  scores = np.round(scores, 1)  # ties
  result = bootstrap.ranking_draws(
    truth[:, None], scores[:, None], patients, num_resamples=20, seed=3
  )
  draws = np.random.default_rng(3)
  names = np.unique(patients)
  for value in result.values["auroc"][:, 0]:
    drawn = names[draws.integers(30, size=30)]
    rows = np.concatenate([np.flatnonzero(patients == name) for name in drawn])
    expected = metrics.roc_auc_score(truth[rows], scores[rows])
    assert value == pytest.approx(expected, abs=1e-12)


def test_bootstrap_is_seeded_joint_and_blind_to_scores():
  rng = np.random.default_rng(2)
  truth, scores, patients = _sample(rng, 50)
  two = np.stack([truth, truth], axis=1)
  both = np.stack([scores, -scores], axis=1)
  first = bootstrap.ranking_draws(two, both, patients, num_resamples=50, seed=1)
  again = bootstrap.ranking_draws(two, both, patients, num_resamples=50, seed=1)
  other = bootstrap.ranking_draws(two, both, patients, num_resamples=50, seed=2)
  np.testing.assert_array_equal(first.values["auroc"], again.values["auroc"])
  assert (first.values["auroc"] != other.values["auroc"]).any()
  # The mirrored score gives the mirrored area only on the same patients.
  np.testing.assert_allclose(first.values["auroc"].sum(axis=1), 1.0)


def test_bootstrap_redraws_a_rare_label_and_reports_a_missing_class():
  truth = np.zeros((20, 2), np.int8)
  truth[0, 0] = 1  # one positive patient: missing in about 1 of e resamples
  scores = np.linspace(0, 1, 40).reshape(20, 2)
  patients = [str(i) for i in range(20)]
  result = bootstrap.ranking_draws(truth, scores, patients, num_resamples=300)
  assert np.isfinite(result.values["auroc"][:, 0]).all()
  assert 100 < result.redrawn[0] < 300
  assert np.isnan(result.values["auroc"][:, 1]).all()
  assert result.redrawn[1] == 0
  assert statistics.interval(result.values["auroc"][:, 1]) == (None, None)
  assert statistics.interval(np.empty(0)) == (None, None)


def test_interval_covers_the_truth_where_images_cluster():
  rng = np.random.default_rng(5)
  # One score a patient decides the area: P(N(1, s) > N(0, s)) in the limit.
  truth, scores, _ = _sample(rng, 40_000)
  target = metrics.roc_auc_score(truth, scores)
  covered = 0
  for seed in range(150):
    truth, scores, patients = _sample(rng, 80)
    result = bootstrap.ranking_draws(
      truth[:, None], scores[:, None], patients, num_resamples=200, seed=seed
    )
    low, high = statistics.interval(result.values["auroc"][:, 0])
    assert low is not None and high is not None
    covered += low <= target <= high
  # 95 % nominal; three standard errors of 150 trials and the small sample.
  assert 0.88 <= covered / 150 <= 0.995
