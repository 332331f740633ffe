"""Worked out on paper, perfect maps, and maps that know nothing."""

import numpy as np
import pytest

from tier_jax.evaluators import grounding_metrics

TRUTH = np.zeros((4, 4), bool)
TRUTH[:2, :2] = True


def _score(similarity, truth=TRUTH):
  values = grounding_metrics.score(np.asarray(similarity, np.float32), truth)
  return dict(zip(grounding_metrics.METRICS, values.tolist(), strict=True))


def test_case_worked_out_on_paper():
  # Pixel centres of 4 lie at -1/4, 1/4, 3/4, 5/4 of the 2 patch centres, so
  # each row and column of the one lit patch weighs 1, 3/4, 1/4, 0:
  #   1    3/4   1/4   0
  #   3/4  9/16  3/16  0
  #   1/4  3/16  1/16  0
  #   0    0     0     0
  # Inside (2 x 2): mean (1 + 3/4)^2 / 4 = 49/64, mean square
  # (1 + 9/16)^2 / 4 = 625/1024, variance 625/1024 - 2401/4096 = 99/4096.
  # Outside (12): the sum is 2^2 - 49/16 = 15/16, mean 5/64; the squares' sum is
  # (1 + 9/16 + 1/16)^2 - 625/256 = 51/256, mean 17/1024, variance
  # 17/1024 - 25/4096 = 43/4096.
  # CNR = (49/64 - 5/64) / sqrt(142/4096) = 44 / sqrt(142).
  # At 0.1 and above: 8 pixels, 4 of them inside; at 0.2: 6; from 0.3 on: 4.
  got = _score([[1, 0], [0, 0]])
  assert got["pointing_game"] == 1
  assert got["cnr"] == pytest.approx(44 / np.sqrt(142), rel=1e-12)
  ious = [4 / 8, 4 / 6, 1, 1, 1]
  for threshold, iou in zip(grounding_metrics.THRESHOLDS, ious, strict=True):
    assert got[f"iou@{threshold}"] == pytest.approx(iou, rel=1e-12)
  assert got["miou"] == pytest.approx((1 / 2 + 2 / 3 + 3) / 5, rel=1e-12)
  assert got["dice"] == 1
  # The other way round, at 0.5 and above: 12 pixels and none of them inside.
  turned = _score([[0, 1], [1, 1]])
  assert turned["pointing_game"] == 0
  assert turned["cnr"] == pytest.approx(-44 / np.sqrt(142), rel=1e-12)
  assert turned["dice"] == 0
  # At 0.1 and above (of 1 - the table): all but the pixel of 1, so 3 inside.
  assert turned["iou@0.1"] == pytest.approx(3 / 16, rel=1e-12)


def test_scale_and_offset_do_not_matter():
  similarity = np.random.default_rng(0).normal(size=(4, 4))
  first = _score(similarity)
  second = _score(-3 + 0.01 * similarity)
  for name, value in first.items():
    # A float32 of -3 keeps 5e-5 of a range of 0.05.
    assert second[name] == pytest.approx(value, abs=1e-3)


def test_perfect_maps_score_one():
  rng = np.random.default_rng(1)
  for _ in range(20):
    truth = np.kron(rng.random((4, 4)) < 0.3, np.ones((8, 8))) > 0
    if not truth.any() or truth.all():
      continue
    got = _score(truth, truth)
    assert got.pop("cnr") == pytest.approx(10, abs=1e-12)
    assert set(got.values()) == {1.0}


def test_cnr_rises_up_to_the_perfect_map():
  rng = np.random.default_rng(4)
  truth = np.kron(TRUTH, np.ones((8, 8))) > 0
  noise = rng.random(truth.shape)
  got = [
    _score((1 - share) * noise + share * truth, truth)["cnr"]
    for share in (0, 0.2, 0.5, 0.7, 0.9, 0.99, 0.999, 1)
  ]
  assert (np.diff(got) > 0).all()
  assert got[-1] == pytest.approx(10, abs=1e-12)
  # Where there is enough noise, the fraction is as it is published.
  level = 0.5 * noise + 0.5 * truth
  inside, outside = level[truth], level[~truth]
  gap = inside.mean() - outside.mean()
  assert got[2] == pytest.approx(
    gap / np.sqrt(inside.var() + outside.var()), rel=1e-6
  )


def test_constant_map_points_everywhere_and_marks_nothing():
  got = _score(np.full((3, 3), 0.1), np.kron(TRUTH, np.ones((5, 5))) > 0)
  assert got["pointing_game"] == 0.25
  assert set(got.values()) == {0.25, 0.0}


def test_pointing_of_ties_is_the_share_inside():
  assert _score([[1, 1], [0, 0]])["pointing_game"] == 0.5


def test_pointing_between_pixels_is_their_mean():
  # The centre of a 2 x 2 patch is a corner of four pixels, of which one counts.
  truth = np.zeros((4, 4), bool)
  truth[1, 1] = True
  assert _score([[1, 0], [0, 0]], truth)["pointing_game"] == 0.25


def test_shuffled_maps_score_chance():
  # The peak lies in each of 64 patches as often, and the truth is made of
  # patches, so the pointing game is a coin of the truth's share.
  rng = np.random.default_rng(2)
  truth = np.kron(rng.random((8, 8)) < 0.2, np.ones((4, 4))) > 0
  draws = 2000
  hits = np.zeros(draws)
  contrast = np.zeros(draws)
  for i in range(draws):
    shuffled = rng.permutation(64).reshape(8, 8)
    got = _score(shuffled, truth)
    hits[i], contrast[i] = got["pointing_game"], got["cnr"]
  share = truth.mean()
  bound = 4 * np.sqrt(share * (1 - share) / draws)  # of 4 standard errors
  assert abs(hits.mean() - share) < bound
  assert grounding_metrics.chance(truth)[0] == share
  assert abs(contrast.mean()) < 4 * contrast.std() / np.sqrt(draws)


def test_chance_is_the_mean_over_maps_of_noise():
  rng = np.random.default_rng(3)
  truth = np.kron(rng.random((6, 6)) < 0.3, np.ones((16, 16))) > 0
  draws = np.array(
    [
      grounding_metrics.score(rng.random(truth.shape), truth)
      for _ in range(100)
    ]
  )
  expected = grounding_metrics.chance(truth)
  spread = 4 * draws.std(axis=0) / np.sqrt(len(draws))
  # A thousandth for the limit of many pixels: here they are 9,216.
  np.testing.assert_array_less(
    np.abs(draws.mean(axis=0) - expected), spread + 1e-3
  )


@pytest.mark.parametrize(
  ("similarity", "truth", "words"),
  [
    (np.ones((2, 2)), np.zeros((4, 4), bool), "with 0 pixels inside"),
    (np.ones((2, 2)), np.ones((4, 4)), "truth is float64"),
    (np.full((2, 2), np.nan), TRUTH, "holds 4 values that are not finite"),
  ],
)
def test_bad_input(similarity, truth, words):
  with pytest.raises(ValueError, match=words):
    grounding_metrics.score(similarity, truth)


def test_finding_that_fills_the_view_has_no_contrast():
  whole = np.ones((4, 4), bool)
  for similarity in (np.eye(2), np.ones((2, 2))):
    got = _score(similarity, whole)
    assert np.isnan(got["cnr"])
    assert got["pointing_game"] == 1
  # So that every map's mean is over the same items.
  assert np.isnan(grounding_metrics.chance(whole)).tolist() == [
    name == "cnr" for name in grounding_metrics.METRICS
  ]
