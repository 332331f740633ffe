import numpy as np
import pytest

from tests.evaluators import evaluations
from tier_jax.evaluators import comparisons, differences


def _area(run, label):
  return run.metrics["benchmarks"]["chexpert"]["labels"][label]["auroc"]


def test_difference_is_paired(tmp_path):
  good, same, poor = (
    evaluations.evaluate(tmp_path, name, levels)
    for name, levels in (
      ("good", evaluations.GOOD),
      ("same", evaluations.GOOD),
      ("poor", evaluations.POOR),
    )
  )
  nothing = differences.benchmark(good, same, "chexpert")
  assert nothing["macro"] == {"value": 0, "low": 0, "high": 0, "p": 1}
  assert nothing["labels"]["Atelectasis"] is None
  found = differences.benchmark(good, poor, "chexpert")
  edema = found["labels"]["Edema"]
  areas = [_area(run, "Edema")["value"] for run in (good, poor)]
  assert edema["value"] == pytest.approx(areas[0] - areas[1])
  assert 0 <= edema["low"] <= edema["value"] <= edema["high"]
  assert found["macro"]["value"] == pytest.approx(
    np.mean(
      [
        _area(good, name)["value"] - _area(poor, name)["value"]
        for name in ("Edema", "Cardiomegaly")
      ]
    )
  )
  nothing = {"benchmarks": {}, "grounding": {}}
  assert differences.of_runs([good]) == {**nothing, "refused": nothing}
  both = differences.of_runs([good, poor])
  assert both["benchmarks"].keys() == {"chexpert", "chexpert_study"}
  assert both["benchmarks"]["chexpert"] == found
  assert both["refused"] == nothing


def test_p_values_are_delong_s_and_holm_s_over_the_labels(tmp_path):
  good = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  poor = evaluations.evaluate(tmp_path, "poor", evaluations.POOR)
  labels = differences.benchmark(good, poor, "chexpert")["labels"]
  one, two = good.scores("chexpert"), poor.scores("chexpert")
  p_values = []
  for name in ("Cardiomegaly", "Edema"):
    i = one.labels.index(name)
    test = comparisons.delong(
      one.truth[:, i], one.scores[:, i], two.scores[:, i], one.patient_ids
    )
    assert test is not None
    assert labels[name]["p"] == test.p_value
    p_values.append(test.p_value)
  smaller, larger = sorted(p_values)
  adjusted = sorted(
    labels[name]["p_holm"] for name in ("Cardiomegaly", "Edema")
  )
  assert adjusted == pytest.approx([2 * smaller, max(2 * smaller, larger)])


def test_runs_on_other_rows_are_refused(tmp_path):
  good = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  fewer = evaluations.evaluate(tmp_path, "fewer", evaluations.GOOD[:9])
  with pytest.raises(
    differences.IncomparableError,
    match=r"good and fewer differ in rows \(20, 18\), patients \(10, 9\) and ",
  ):
    differences.benchmark(good, fewer, "chexpert")
  # A benchmark that is not comparable costs no other.
  found = differences.of_runs([good, fewer])
  assert found["benchmarks"] == {}
  assert found["refused"]["benchmarks"].keys() == {"chexpert", "chexpert_study"}
  # The same counts, and the same manifest, but another truth.
  other = evaluations.evaluate(
    tmp_path, "other", evaluations.GOOD, positive_from=6
  )
  with pytest.raises(
    differences.IncomparableError, match="different images, labels or truths"
  ):
    differences.benchmark(good, other, "chexpert")


def test_a_file_of_another_evaluation_is_an_error(tmp_path):
  runs = [
    evaluations.evaluate(tmp_path, name, evaluations.GOOD) for name in "ab"
  ]
  (tmp_path / "a" / "scores_chexpert.csv").write_text("")
  with pytest.raises(ValueError, match="evaluate again"):
    differences.of_runs(runs)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({}, None),
    ({"scoring": "softmax"}, "differ in scoring (difference, softmax)"),
    ({"split": "validate"}, "differ in split (test, validate)"),
    ({"data_manifest_sha256": "x"}, "differ in prepared data"),
    ({"prompts": "x"}, "differ in prompts"),
    # A table of scores knows no prompts of ours; a split it has.
    ({"scoring": None, "prompts": "x"}, None),
    ({"scoring": None, "split": "validate"}, "differ in split"),
  ],
)
def test_protocols_must_be_alike(tmp_path, change, words):
  first = evaluations.evaluate(tmp_path, "a", evaluations.GOOD)
  second = evaluations.evaluate(tmp_path, "b", evaluations.POOR)
  for key, value in change.items():
    if key == "prompts":
      second.metrics["digests"][key] = value
    else:
      second.metrics["benchmarks"]["chexpert"][key] = value
  for pair in ((first, second), (second, first)):
    found = differences.of_runs(pair)
    assert "chexpert_study" in found["benchmarks"] or "prompts" in change
    refused = found["refused"]["benchmarks"].get("chexpert")
    assert ("chexpert" in found["benchmarks"]) == (words is None)
    assert (refused is None) == (words is None)
    if words and pair[0] is first:
      assert words in refused
