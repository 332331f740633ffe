import base64
import copy
import re

import pytest

from tests.evaluators import made_runs
from tier_jax.evaluators.sections import (
  calibration,
  classification,
  operating,
  subgroups,
)

NAME = "chexpert"


@pytest.fixture
def run():
  return copy.deepcopy(made_runs.make("tier", 1))


def entry(run):
  return run.metrics["benchmarks"][NAME]


@pytest.mark.parametrize("section", [calibration, subgroups])
def test_a_part_that_is_missing_or_null_has_no_drawing(run, section):
  part = section.__name__.rpartition(".")[2]
  assert len(section.render(NAME, [run])) == 1
  entry(run)[part] = None
  assert section.render(NAME, [run]) == []
  del entry(run)[part]
  assert section.render(NAME, [run]) == []


def test_table_holds_runs_and_readers(run):
  text = operating.table(NAME, entry(run), [run])
  assert "chosen on validate" in text
  item = entry(run)["labels"]["Edema"]["operating"]["sensitivity"]
  assert f"{item['value']:.3f}" in text
  reader = entry(run)["readers"]["reader B"]["Edema"]["mcc"]
  assert f"{reader['value']:.3f}" in text
  entry(run)["readers"] = None
  assert "reader B" not in operating.table(NAME, entry(run), [run])
  for label in entry(run)["labels"].values():
    label["operating"] = None
  assert operating.table(NAME, entry(run), [run]) == ""


def test_readers_are_named_in_a_panel_only_when_they_are_few(run):
  def drawn():
    uris = re.findall('base64,([^"]*)', operating.rocs(NAME, entry(run), [run]))
    return "".join(base64.b64decode(uri).decode() for uri in uris)

  assert "reader A</text>" in drawn() and "readers</text>" not in drawn()
  readers = entry(run)["readers"]
  readers |= {f"reader {letter}": readers["reader A"] for letter in "CD"}
  assert "reader A</text>" not in drawn() and "readers</text>" in drawn()
  assert "mean reader</text>" in drawn()


def test_readers_stand_below_the_curve_of_each_run_or_not(run):
  other = copy.deepcopy(made_runs.make("plain", 2))
  item = entry(other)["readers"]["reader A"]["Edema"]
  item |= {"below": False, "model_sensitivity": 0.6}
  text = operating.table(NAME, entry(run), [run, other])
  rows = [row for row in text.split("<tr>") if "reader A" in row]
  assert re.findall(r"</span>(\w+ \(.*?\))", rows[0]) != []
  edema = re.findall(r"</span>(yes|no) \((.*?)\)", rows[0])
  assert edema == [("yes", "0.750"), ("no", "0.600")]
  mean = next(row for row in text.split("<tr>") if "mean reader" in row)
  assert "not available" not in mean and mean.count("yes (0.750)") == 2


def test_subgroups_too_small_to_say_are_named(run):
  (text,) = subgroups.render(NAME, [run])
  assert "Too few to say: View AP" in text
  del entry(run)["subgroups"]["view"]["AP"]
  (text,) = subgroups.render(NAME, [run])
  assert "Too few" not in text


def test_calibration_says_a_run_s_error_or_a_group_s_range():
  runs = [made_runs.make(f"tier/{i}", i) for i in range(5)]
  errors = [entry(run)["calibration"]["ece"]["value"] for run in runs]
  (text,) = calibration.render(NAME, runs)
  assert f"tier {min(errors):.3f} to {max(errors):.3f}" in text
  (text,) = calibration.render(NAME, runs[:1])
  assert f"tier {errors[0]:.3f} [" in text


def test_labels_apart_and_labels_without_a_class_are_said(run):
  (section,) = classification.render([run], {})
  assert "No Finding (apart)" in section.body
  assert "Mass (0 / 90)" in section.body
  assert "p, Holm" not in section.body


def test_a_benchmark_of_one_run_alone_stands_beside_the_other_run(run):
  other = copy.deepcopy(run)
  other.metrics["benchmarks"].clear()
  (section,) = classification.summary([other, run], {})
  value = entry(run)["macro_auroc"]["value"]
  assert f"{value:.3f}" in section.body
  assert "not available" in section.body
