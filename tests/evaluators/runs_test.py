import json

import pytest

from tests.evaluators import evaluations
from tier_jax.evaluators import runs


def test_run_without_results_or_with_a_broken_file_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"run 'x'.*metrics\.json is missing"):
    runs.read("x", tmp_path, tmp_path)
  (tmp_path / "metrics.json").write_text(json.dumps({"benchmarks": {}}))
  assert runs.read("x", tmp_path, tmp_path).curves == []
  (tmp_path / "metrics.jsonl").write_text('{"step": 1}\n{"st')
  assert runs.read("x", tmp_path, tmp_path).curves == [{"step": 1}]
  (tmp_path / "config.json").write_text("{")
  with pytest.raises(ValueError, match=r"config\.json is no JSON"):
    runs.read("x", tmp_path, tmp_path)


def test_scores_are_those_of_images_and_of_studies(tmp_path):
  run = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  assert len(run.scores("chexpert").image_ids) == 20
  assert len(run.scores("chexpert_study").image_ids) == 10
  assert run.scores("chexpert") is run.scores("chexpert")  # read once


def test_scores_of_another_evaluation_are_refused(tmp_path):
  run = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  evaluations.evaluate(tmp_path, "poor", evaluations.POOR)
  path = tmp_path / "good" / "scores_chexpert.csv"
  path.write_bytes((tmp_path / "poor" / "scores_chexpert.csv").read_bytes())
  with pytest.raises(ValueError, match="evaluate again"):
    run.scores("chexpert")
  path.unlink()
  with pytest.raises(ValueError, match="evaluate again"):
    run.scores("chexpert")
