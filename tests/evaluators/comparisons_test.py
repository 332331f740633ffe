import numpy as np
import pytest
from scipy import stats

from tests import coverage
from tier_jax.evaluators import bootstrap, comparisons, statistics


def _interval(difference):
  """The interval, which must be there."""
  assert difference.low is not None and difference.high is not None
  return np.array([difference.low, difference.high])


def _components(truth, scores):
  """Every positive's and every negative's share of pairs won, pair by pair."""
  hits, alarms = scores[truth == 1], scores[truth == 0]
  pairs = [
    [1.0 if hit > alarm else 0.5 if hit == alarm else 0.0 for alarm in alarms]
    for hit in hits
  ]
  wins = np.array(pairs, np.float64)
  return wins.mean(axis=1), wins.mean(axis=0)


def _delong_pair_by_pair(truth, first, second):
  """Areas, covariance and p-value as DeLong et al. 1988 write them."""
  v10, v01 = zip(
    *(_components(truth, scores) for scores in (first, second)), strict=True
  )
  areas = np.array([shares.mean() for shares in v10])
  covariance = np.cov(np.stack(v10)) / len(v10[0])
  covariance += np.cov(np.stack(v01)) / len(v01[0])
  contrast = np.array([1.0, -1.0])
  error = np.sqrt(contrast @ covariance @ contrast)
  return areas, covariance, 2 * stats.norm.sf(abs(areas @ contrast) / error)


def test_delong_equals_the_sum_over_all_pairs():
  rng = np.random.default_rng(0)
  for _ in range(100):
    truth = rng.integers(-1, 2, 40)
    truth[:4] = 0, 0, 1, 1
    first = np.round(rng.normal(size=40) + truth, 1)  # ties
    second = np.round(rng.normal(size=40) + 0.5 * truth, 1)
    estimate = comparisons.auroc_covariance(
      truth, np.stack([first, second], axis=1), np.arange(40)
    )
    assert estimate is not None
    areas, covariance, p_value = _delong_pair_by_pair(truth, first, second)
    np.testing.assert_allclose(estimate[0], areas, atol=1e-10)
    np.testing.assert_allclose(estimate[1], covariance, atol=1e-10)
    assert areas[0] == pytest.approx(statistics.auroc(truth, first), abs=1e-12)
    result = comparisons.delong(truth, first, second, np.arange(40))
    assert result is not None
    assert result.value == pytest.approx(areas[0] - areas[1], abs=1e-10)
    assert result.p_value == pytest.approx(p_value, abs=1e-10)
    swapped = comparisons.delong(truth, second, first, np.arange(40))
    np.testing.assert_allclose(
      _interval(swapped), -_interval(result)[::-1], atol=1e-12
    )


def test_variance_over_patients_equals_obuchowskis_sums():
  rng = np.random.default_rng(1)
  for _ in range(50):
    patients = rng.integers(0, 15, 50)
    truth = rng.integers(-1, 2, 50)
    truth[patients < 3] = -1  # patients who are not counted at all
    scores = np.round(rng.normal(size=50) + truth, 1)
    v10, v01 = _components(truth, scores)
    area = v10.mean()
    m, n = len(v10), len(v01)
    shares = np.empty(50)
    shares[truth == 1], shares[truth == 0] = v10, v01
    names = np.unique(patients[truth != -1])
    rows = [np.flatnonzero(patients == name) for name in names]
    pos = [shares[r][truth[r] == 1] - area for r in rows]
    neg = [shares[r][truth[r] == 0] - area for r in rows]
    i10 = sum(len(item) > 0 for item in pos)
    i01 = sum(len(item) > 0 for item in neg)
    s10 = i10 / ((i10 - 1) * m) * sum(item.sum() ** 2 for item in pos)
    s01 = i01 / ((i01 - 1) * n) * sum(item.sum() ** 2 for item in neg)
    s11 = sum(a.sum() * b.sum() for a, b in zip(pos, neg, strict=True))
    s11 *= len(names) / (len(names) - 1)
    estimate = comparisons.auroc_covariance(truth, scores[:, None], patients)
    assert estimate is not None
    assert estimate[1][0, 0] == pytest.approx(
      s10 / m + s01 / n + 2 * s11 / (m * n), abs=1e-12
    )


def test_error_over_patients_is_the_spread_of_the_area():
  rng = np.random.default_rng(2)
  areas, errors, blind = [], [], []
  for _ in range(300):
    truth, scores, patients = coverage.sample(rng, 100)
    for ids, into in ((patients, errors), (np.arange(len(truth)), blind)):
      estimate = comparisons.auroc_covariance(truth, scores[:, None], ids)
      assert estimate is not None
      into.append(estimate[1][0, 0])
    areas.append(statistics.auroc(truth, scores))
  # Three standard errors of a variance of 300 draws are 25 %.
  assert 0.75 < np.mean(errors) / np.var(areas) < 1.25
  assert np.mean(blind) / np.var(areas) < 0.75


def test_delong_without_a_variance():
  truth = np.array([0, 0, 1, 1])
  perfect, constant = np.array([0.0, 1, 2, 3]), np.zeros(4)
  ids = np.arange(4)
  assert comparisons.delong(
    truth, perfect, 2 * perfect, ids
  ) == comparisons.Difference(0.0, 0.0, 0.0, 1.0)
  assert comparisons.delong(
    truth, perfect, constant, ids
  ) == comparisons.Difference(0.5, 0.5, 0.5, None)
  for few in ([0, 0, 0, 1], [1, 1, 1, 0], [-1, 0, 1, 1], [0, 0, 0, 0]):
    assert comparisons.delong(np.array(few), perfect, constant, ids) is None
  # Both positive images are of one patient.
  assert comparisons.delong(truth, perfect, constant, [0, 1, 2, 2]) is None


def test_delong_refuses():
  truth, scores = np.array([0, 1]), np.array([1.0, 2.0])
  with pytest.raises(ValueError, match="expected 2"):
    comparisons.delong(truth, scores, scores, ["a"])
  with pytest.raises(ValueError, match="not finite"):
    comparisons.delong(truth, scores, np.array([1.0, np.nan]), ["a", "b"])
  with pytest.raises(ValueError, match=r"expected \(N, M\)"):
    comparisons.auroc_covariance(truth, scores, ["a", "b"])


def test_paired_bootstrap_agrees_with_delong_and_holds_the_level():
  rng = np.random.default_rng(3)
  rejected = 0
  for seed in range(60):
    truth, first, patients = coverage.sample(rng, 100)
    second = first + rng.normal(0, 0.5, len(first))
    first = first + rng.normal(0, 0.5, len(first))
    areas = [statistics.auroc(truth, scores) for scores in (first, second)]
    draws = [
      bootstrap.ranking_draws(
        truth[:, None], scores[:, None], patients, num_resamples=300, seed=seed
      ).values["auroc"][:, 0]
      for scores in (first, second)
    ]
    result = comparisons.paired(*areas, *draws)
    exact = comparisons.delong(truth, first, second, patients)
    assert exact is not None and result.p_value is not None
    assert result.value == pytest.approx(exact.value, abs=1e-12)
    # Pairing matters: unpaired, the error would be some twice as large.
    low, high = _interval(result)
    assert 0.75 < (high - low) / np.diff(_interval(exact))[0] < 1.3
    if not 0.03 < result.p_value < 0.07:  # where the two are rounded apart
      assert (result.p_value < 0.05) == (not low <= 0 <= high)
    rejected += result.p_value < 0.05
  assert rejected <= 9  # of 60 at 5 %: more is one chance in 1,000


def test_paired_of_draws_that_are_not():
  with pytest.raises(ValueError, match="as many of both"):
    comparisons.paired(0.5, 0.5, np.zeros(3), np.zeros(4))
  nothing = comparisons.paired(0.6, 0.5, np.empty(0), np.empty(0))
  assert (nothing.low, nothing.high, nothing.p_value) == (None, None, None)
  same = comparisons.paired(0.5, 0.5, np.ones(99), np.ones(99))
  assert same == comparisons.Difference(0.0, 0.0, 0.0, 1.0)
  clear = comparisons.paired(0.9, 0.5, np.ones(99), np.zeros(99))
  assert clear.p_value == pytest.approx(2 / 100)


def test_holm_by_hand_and_in_any_order():
  # 0.01 * 4, 0.013 * 3 held up to 0.04, 0.03 * 2, 0.04 held up to 0.06.
  adjusted = comparisons.holm([0.03, 0.01, None, 0.04, 0.013])
  assert adjusted == pytest.approx([0.06, 0.04, None, 0.06, 0.04])
  assert comparisons.holm([]) == []
  assert comparisons.holm([0.7, 0.8]) == [1.0, 1.0]
  for wrong in (-0.1, 1.1, float("nan")):
    with pytest.raises(ValueError, match=r"outside \[0, 1\]"):
      comparisons.holm([wrong])


def test_holm_rejects_what_stepping_down_rejects():
  rng = np.random.default_rng(4)
  for _ in range(100):
    values = rng.random(8) ** 4
    level = 0.05
    rejected = np.zeros(8, bool)
    for step, place in enumerate(np.argsort(values)):
      if values[place] > level / (8 - step):
        break
      rejected[place] = True
    adjusted = np.array(comparisons.holm(values.tolist()))
    np.testing.assert_array_equal(adjusted <= level, rejected)
