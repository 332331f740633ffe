import argparse

import numpy as np
import pytest

from tier_jax.benchmarks import statistics


def _measure(*flags):
  parser = argparse.ArgumentParser()
  statistics.add_flags(parser)
  return statistics.measure(parser.parse_args(flags))


def test_both_runs_are_measured():
  results = _measure(
    "--rows=300", "--patients=200", "--labels=10", "--resamples=20"
  )
  assert [run["resamples"] for run in results["runs"]] == [2, 20]
  assert all(run["seconds"] > 0 for run in results["runs"])
  text = statistics.table(results)
  assert "300 images" in text and len(text.splitlines()) == 5


def test_labels_are_as_skewed_as_said_and_cluster():
  truth, scores, patients = statistics.draw(39_053, 22_000, 20)
  np.testing.assert_allclose(
    truth.mean(axis=0)[[0, 1]], [0.36, 0.157], atol=1e-3
  )
  assert scores[truth == 1].mean() - scores[truth == 0].mean() > 0.9
  # But for one patient cut off at the count, all images of a patient agree.
  carriers = np.bincount(patients, truth[:, 5]) / np.bincount(patients)
  assert np.count_nonzero((carriers > 0) & (carriers < 1)) <= 1


def test_a_flag_out_of_range_is_refused():
  with pytest.raises(ValueError, match="labels is 3, expected at least 10"):
    _measure("--labels=3")
