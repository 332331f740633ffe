import dataclasses

from tests.evaluators import evaluations
from tier_jax.evaluators import differences, tables


def test_table_prints_figures_counts_and_what_is_missing(tmp_path):
  runs = [
    evaluations.evaluate(tmp_path, name, levels)
    for name, levels in (("good", evaluations.GOOD), ("poor", evaluations.POOR))
  ]
  text = tables.table(runs, differences.of_runs(runs))
  assert "20 images of 10 patients" in text
  assert "10 studies of 10 patients" in text
  assert "macro of 2" in text
  assert "good - poor" in text
  assert "not available, without both classes (3" in text
  edema = next(line for line in text.splitlines() if "Edema" in line)
  assert "10/10" in edema and "1.000 [1.000, 1.000]" in edema


def test_runs_that_were_not_measured_alike_are_said_to_be(tmp_path):
  good = evaluations.evaluate(tmp_path, "good", evaluations.GOOD)
  fewer = evaluations.evaluate(tmp_path, "fewer", evaluations.GOOD[:9])
  lines = tables.table([good, fewer], differences.of_runs([good, fewer]))
  assert lines.count("no difference is given: good and fewer differ in") == 2
  assert "good - fewer" not in lines
  lines = tables.summary([good, good, fewer]).splitlines()
  assert len(lines) == 1 + 3 + 2
  assert lines[-1].startswith("chexpert_study: good and fewer differ in rows")


def test_summary_has_one_line_a_run(tmp_path):
  trained = evaluations.evaluate(tmp_path, "trained", evaluations.GOOD)
  trained = dataclasses.replace(
    trained,
    config={"train": {"batch_size": 32}},
    curves=[
      {"step": 1, "train/pairs_per_second": 100.0, "valid/token_entropy": 9.0},
      {"step": 2, "train/pairs_per_second": 400.0, "train/row_cosine": 0.5},
      {"step": 3, "train/pairs_per_second": 320.0, "valid/token_entropy": 1.5},
    ],
  )
  other = evaluations.evaluate(tmp_path, "other", evaluations.POOR)
  head, first, second = tables.summary([trained, other]).splitlines()
  assert head.split()[:2] == ["chexpert", "chexpert_study"]
  assert head.endswith("ms a step")
  # 32 pairs at the median of 320 pairs a second are 100 ms.
  macros = [
    f"{entry['macro_auroc']['value']:.3f}"
    for entry in trained.metrics["benchmarks"].values()
  ]
  assert first.split() == ["trained", *macros, "1.500", "-", "0.500", "100"]
  assert second.split()[0] == "other" and second.split()[-4:] == ["-"] * 4
