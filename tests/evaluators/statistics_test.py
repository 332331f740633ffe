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


def test_auroc_and_curve_equal_sklearn_with_ties():
  rng = np.random.default_rng(0)
  for _ in range(200):
    truth = rng.integers(0, 2, 40)
    truth[:2] = 0, 1
    scores = rng.integers(0, 12, 40).astype(np.float32)
    area = statistics.auroc(truth, scores)
    assert area == pytest.approx(
      metrics.roc_auc_score(truth, scores), abs=1e-12
    )
    curve = statistics.roc_curve(truth, scores)
    expected = metrics.roc_curve(truth, scores, drop_intermediate=False)
    np.testing.assert_allclose(curve[0], expected[0], atol=1e-12)
    np.testing.assert_allclose(curve[1], expected[1], atol=1e-12)
    assert np.trapezoid(curve[1], curve[0]) == pytest.approx(area)
    assert statistics.auroc(truth, np.exp(scores)) == area


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
