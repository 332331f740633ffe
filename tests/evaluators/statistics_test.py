import itertools

import numpy as np
import pytest
from sklearn import metrics

from tier_jax.evaluators import statistics


@pytest.mark.parametrize(
  ("truth", "scores", "expected"),
  [
    ([0, 0, 1, 1], [1, 2, 3, 4], 1.0),
    ([1, 1, 0, 0], [1, 2, 3, 4], 0.0),
    ([0, 1, 0, 1], [1, 2, 3, 4], 0.75),  # 3 of 4 pairs are in order
    ([0, 1], [5, 5], 0.5),  # a tie counts half
    ([0, 1, 1, -1], [1, 1, 2, 9], 0.75),  # -1 is not counted
    ([1, 1, -1], [1, 2, 0], None),
    ([0, 0], [1, 2], None),
    ([], [], None),
  ],
)
def test_auroc_by_hand(truth, scores, expected):
  assert statistics.auroc(np.array(truth), np.array(scores)) == expected


def _cases():
  """1,000 truths of any balance, with ties, gaps and missing classes."""
  rng = np.random.default_rng(0)
  for _ in range(1000):
    count = rng.integers(1, 40)
    truth = (rng.random(count) < rng.choice([0, 0.1, 0.5, 0.9, 1])).astype(int)
    stated = rng.random(count) < 0.9
    stated[0] = True  # scikit-learn takes no empty truth
    scores = rng.normal(size=count) + rng.integers(0, 3) * truth
    scores = np.round(scores, rng.integers(0, 3)).astype(np.float32)
    yield np.where(stated, truth, -1), scores, truth[stated], scores[stated]


def test_ranking_figures_equal_sklearns_on_1000_cases():
  both = 0
  for truth, scores, stated, shown in _cases():
    area = statistics.auroc(truth, scores)
    precision = statistics.average_precision(truth, scores)
    if len(set(stated.tolist())) < 2:
      assert area is None and precision is None
      continue
    both += 1
    assert area == pytest.approx(
      metrics.roc_auc_score(stated, shown), abs=1e-12
    )
    assert precision == pytest.approx(
      metrics.average_precision_score(stated, shown), abs=1e-12
    )
    # Any rising map of the scores: ranks stay, and so do the figures.
    for rising in (np.exp(scores), 3 * scores - 7, np.arctan(scores)):
      assert statistics.auroc(truth, rising) == area
      assert statistics.average_precision(truth, rising) == precision
    falling = statistics.auroc(truth, -scores)
    assert area is not None
    assert falling == pytest.approx(1 - area, abs=1e-12)
  assert 400 < both < 900  # the rest lacked a class


def test_curve_equals_sklearns_with_ties():
  for truth, scores, stated, shown in itertools.islice(_cases(), 200):
    if len(set(stated.tolist())) < 2:
      with pytest.raises(ValueError, match="expected both classes"):
        statistics.roc_curve(truth, scores)
      continue
    curve = statistics.roc_curve(truth, scores)
    expected = metrics.roc_curve(stated, shown, drop_intermediate=False)
    np.testing.assert_allclose(curve[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(curve[1], expected[1], atol=1e-12)
    area = statistics.auroc(truth, scores)
    assert np.trapezoid(curve[1], curve[0]) == pytest.approx(area)
    thresholds, hits, alarms = statistics.sweep(truth, scores)
    np.testing.assert_array_equal(thresholds, expected[2][1:])
    np.testing.assert_array_equal(
      [hits, alarms],
      np.sum(shown >= thresholds[:, None], axis=1) - [alarms, hits],
    )


def test_call_figures_equal_sklearns_on_1000_cases():
  missing = 0
  for truth, scores, stated, shown in _cases():
    calls, called = (scores > 0.8).astype(int), (shown > 0.8).astype(int)
    recall = [
      np.mean(called[stated == side] == side) if side in stated else np.nan
      for side in (1, 0)
    ]
    expected = [
      metrics.f1_score(stated, called, zero_division=np.nan),
      metrics.matthews_corrcoef(stated, called)
      if len(set(stated.tolist())) == 2
      else np.nan,
      *recall,
    ]
    ours = [
      figure(truth, calls)
      for figure in (
        statistics.f1,
        statistics.mcc,
        statistics.sensitivity,
        statistics.specificity,
      )
    ]
    missing += None in ours
    np.testing.assert_allclose(np.array(ours, float), expected, atol=1e-12)
  assert missing > 100


@pytest.mark.parametrize(
  ("truth", "calls", "f1", "mcc"),
  [
    ([1, 1, 0, 0], [1, 0, 0, 0], 2 / 3, 1 / np.sqrt(3)),
    ([1, 1, 0, 0], [0, 0, 0, 0], 0.0, 0.0),  # calls all alike
    ([1, 1, 0, 0], [1, 1, 1, 1], 2 / 3, 0.0),
    ([0, 0], [0, 0], None, None),
    ([0, 0], [0, 1], 0.0, None),
    ([1, 1], [1, 1], 1.0, None),
    ([-1, 1, 0], [0, 1, 0], 1.0, 1.0),  # -1 is not counted
    ([], [], None, None),
  ],
)
def test_f1_and_mcc_by_hand(truth, calls, f1, mcc):
  truth, calls = np.array(truth), np.array(calls)
  assert statistics.f1(truth, calls) == (f1 and pytest.approx(f1))
  assert statistics.mcc(truth, calls) == (mcc and pytest.approx(mcc))


def test_mcc_of_counts_whose_product_is_beyond_64_bits():
  cells = np.array([10**6, 10**5, 10**5, 10**6])
  expected = (10**12 - 10**10) / (11 * 10**5) ** 2
  assert statistics.call_figures(cells)[1] == pytest.approx(expected, rel=1e-12)


def test_calls_refuse():
  truth = np.array([0, 1])
  with pytest.raises(ValueError, match="other than 1 and 0"):
    statistics.f1(truth, np.array([0.2, 0.7]))
  with pytest.raises(ValueError, match="expected the same"):
    statistics.mcc(truth, np.array([0]))


def test_estimate_and_interval_of_what_is_not_there():
  draws = np.linspace(0, 1, 101)
  result = statistics.estimate(0.5, draws)
  assert result == pytest.approx({"value": 0.5, "low": 0.025, "high": 0.975})
  assert statistics.estimate(None, draws) is None
  nothing = {"value": 0.5, "low": None, "high": None}
  assert statistics.estimate(0.5, np.empty(0)) == nothing
  assert statistics.estimate(0.5, np.array([0.1, np.nan])) == nothing


@pytest.mark.parametrize(
  ("truth", "scores", "message"),
  [
    ([0, 1], [1.0], "expected the same"),
    ([0, 2], [1.0, 2.0], "other than 1, 0 and -1"),
    ([0, 1], [1.0, np.nan], "not finite"),
  ],
)
def test_auroc_refuses(truth, scores, message):
  with pytest.raises(ValueError, match=message):
    statistics.auroc(np.array(truth), np.array(scores))


def test_macro_leaves_out_what_is_not_available():
  assert statistics.macro([0.5, None, 1.0]) == (0.75, 2)
  assert statistics.macro([None]) == (None, 0)
