import numpy as np
import pytest
from sklearn import metrics

from tests import coverage
from tier_jax.evaluators import bootstrap, statistics

FIGURES = {
  "auroc": metrics.roc_auc_score,
  "average_precision": metrics.average_precision_score,
  "f1": metrics.f1_score,
  "mcc": metrics.matthews_corrcoef,
  "sensitivity": metrics.recall_score,
  "specificity": lambda *of: metrics.recall_score(*of, pos_label=0),
}


def _naive(truth, patients, num_resamples, seed, figures):
  """Rows of the drawn patients, repeated; a column that lacks a class in them
  waits for the next round. `figures` takes a column's number and its rows."""
  rng = np.random.default_rng(seed)
  names = np.unique(patients)
  rows_of = [np.flatnonzero(patients == name) for name in names]
  values = [{} for _ in range(num_resamples)]
  redrawn = np.zeros(truth.shape[1], int)
  whole = [k for k, column in enumerate(truth.T) if {0, 1} <= {*column}]
  while any(len(row) < len(whole) for row in values):
    for row in values:
      waiting = [k for k in whole if k not in row]
      if not waiting:
        continue
      drawn = rng.integers(len(names), size=len(names))
      rows = np.concatenate([rows_of[i] for i in drawn])
      for k in waiting:
        counted = rows[truth[rows, k] != -1]
        if {0, 1} <= {*truth[counted, k]}:
          row[k] = figures(k, counted)
        else:
          redrawn[k] += 1
  return values, redrawn


def _labels(rng, num_patients):
  """Four labels with ties and gaps: common, rare, one patient's, nobody's."""
  patients = np.repeat(
    np.arange(num_patients), rng.integers(1, 4, num_patients)
  ).astype(str)
  truth = (rng.random((len(patients), 4)) < (0.4, 0.1, 0, 0)).astype(np.int8)
  truth[patients == "7", 2] = 1
  truth[rng.random(truth.shape) < 0.1] = -1
  truth[:, 3] = np.minimum(truth[:, 3], 0)
  scores = np.round(rng.normal(size=truth.shape) + truth, 1)
  return truth, scores.astype(np.float32), patients


@pytest.mark.parametrize("cells", [1, 2**20], ids=["one a chunk", "as it is"])
def test_draws_are_those_of_repeated_rows(monkeypatch, cells):
  monkeypatch.setattr(bootstrap, "_CELLS", cells)
  truth, scores, patients = _labels(np.random.default_rng(0), 25)
  calls = (scores > 0.7).astype(np.int8)
  ranking = bootstrap.ranking_draws(
    truth, scores, patients, num_resamples=12, seed=3
  )
  called = bootstrap.call_draws(
    truth, calls, patients, num_resamples=12, seed=3
  )

  def figures(k, rows):
    return [
      figure(
        truth[rows, k], (scores if name in ranking.values else calls)[rows, k]
      )
      for name, figure in FIGURES.items()
    ]

  expected, redrawn = _naive(truth, patients, 12, 3, figures)
  assert redrawn[2] > 0 and redrawn[3] == 0
  np.testing.assert_array_equal(ranking.redrawn, redrawn)
  np.testing.assert_array_equal(called.redrawn, redrawn)
  draws = {**ranking.values, **called.values}
  assert list(draws) == list(FIGURES)
  for place, (name, values) in enumerate(draws.items()):
    assert np.isnan(values[:, 3]).all(), name
    np.testing.assert_allclose(
      values[:, :3],
      [[row[k][place] for k in range(3)] for row in expected],
      atol=1e-12,
      err_msg=name,
    )


def test_means_are_those_of_repeated_rows():
  rng = np.random.default_rng(1)
  patients = rng.integers(0, 20, 50)
  values = rng.normal(size=(50, 3))
  values[rng.random(values.shape) < 0.3] = np.nan
  values[1:, 1] = np.nan  # one row alone: redrawn until its patient is there
  values[:, 2] = np.nan
  draws = bootstrap.mean_draws(values, patients, num_resamples=30, seed=2)
  rng = np.random.default_rng(2)
  names = np.unique(patients)
  for value in draws[:, 0]:
    drawn = names[rng.integers(len(names), size=len(names))]
    rows = np.concatenate([np.flatnonzero(patients == name) for name in drawn])
    assert value == pytest.approx(np.nanmean(values[rows, 0]), abs=1e-12)
  np.testing.assert_allclose(draws[:, 1], values[0, 1])
  assert np.isnan(draws[:, 2]).all()
  with pytest.raises(ValueError, match="infinite"):
    bootstrap.mean_draws(np.array([[np.inf]]), ["a"])


def test_bootstrap_is_seeded_joint_and_blind_to_scores():
  truth, scores, patients = coverage.sample(np.random.default_rng(2), 50)
  two = np.stack([truth, truth], axis=1)
  both = np.stack([scores, -scores], axis=1)

  def areas(seed):
    draws = bootstrap.ranking_draws(
      two, both, patients, num_resamples=50, seed=seed
    )
    return draws.values["auroc"]

  np.testing.assert_array_equal(areas(1), areas(1))
  assert (areas(1) != areas(2)).any()
  # The mirrored score gives the mirrored area only on the same patients.
  np.testing.assert_allclose(areas(1).sum(axis=1), 1.0)


def test_bootstrap_redraws_a_rare_label_and_reports_a_missing_class():
  truth = np.zeros((20, 2), np.int8)
  truth[0, 0] = 1  # one positive patient: missing in about 1 of e resamples
  scores = np.linspace(0, 1, 40).reshape(20, 2)
  patients = [str(i) for i in range(20)]
  result = bootstrap.ranking_draws(truth, scores, patients, num_resamples=300)
  areas = result.values["auroc"]
  assert np.isfinite(areas[:, 0]).all()
  assert 100 < result.redrawn[0] < 300
  assert np.isnan(areas[:, 1]).all()
  assert result.redrawn[1] == 0
  assert statistics.interval(areas[:, 1]) == (None, None)


def test_no_rows_and_no_resamples_give_no_values():
  nothing = bootstrap.ranking_draws(
    np.zeros((0, 2), np.int8), np.zeros((0, 2)), [], num_resamples=5
  )
  assert np.isnan(nothing.values["auroc"]).all()
  truth, scores, patients = coverage.sample(np.random.default_rng(4), 10)
  none = bootstrap.call_draws(
    truth[:, None], scores[:, None] > 0, patients, num_resamples=0
  )
  assert none.values["f1"].shape == (0, 1)


def test_bootstrap_refuses():
  truth = np.array([[0], [1]])
  with pytest.raises(ValueError, match="1 patients, expected 2"):
    bootstrap.ranking_draws(truth, truth, ["a"])
  with pytest.raises(ValueError, match="other than 1 and 0"):
    bootstrap.call_draws(truth, truth + 1, ["a", "b"])
  with pytest.raises(ValueError, match="expected the same"):
    bootstrap.ranking_draws(truth, truth[:1], ["a", "b"])


def test_intervals_hold_the_truth_where_images_cluster():
  # Nominal 95 %: three standard errors of 150 trials and the small sample;
  # `make coverage` narrows it down.
  for name, share in coverage.coverage(150, 80, 200).items():
    assert 0.88 <= share <= 0.995, name


def test_intervals_that_hold_too_seldom_or_too_often_fail(monkeypatch, capsys):
  shares = {"auroc": 0.95, "f1": 0.9295, "mcc": 0.9705, "mean": 0.93}
  monkeypatch.setattr(coverage, "coverage", lambda *_: dict(shares))
  monkeypatch.setattr("sys.argv", ["coverage", "--patients", "50"])
  with pytest.raises(SystemExit, match="97%: f1 of 50 patients, mcc of 50 pat"):
    coverage.main()
  assert "50 patients" in capsys.readouterr().out
  shares.update(f1=0.95, mcc=0.97)
  coverage.main()


def test_interval_of_images_instead_of_patients_would_be_too_narrow():
  truth, scores, patients = coverage.sample(np.random.default_rng(5), 400)
  widths = [
    np.std(
      bootstrap.ranking_draws(
        truth[:, None], scores[:, None], ids, num_resamples=400
      ).values["auroc"]
    )
    for ids in (patients, np.arange(len(truth)))
  ]
  assert widths[0] > 1.2 * widths[1]
