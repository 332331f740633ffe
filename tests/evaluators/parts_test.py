import dataclasses

import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import (
  digests,
  grounding_scores,
  parts,
  results,
  runs,
  tables,
  zero_shot,
)
from tier_jax.evaluators.benchmarks import registry

SETTINGS = {"num_resamples": 20, "seed": 0}


def _rows(patients):
  return [
    datasets.record(
      i,
      level=7 * (i % 10),
      labels={"Edema": i % 2},
      findings=f"Edema of the {'right' if i % 2 else 'left'} lung, {i}.",
      boxes=(("Edema", (0, 0, 16, 40)),) if i % 2 else (),
    )
    for i in patients
  ]


@pytest.fixture
def source(tmp_path):
  """Reports and boxes in one dataset, neither in the other."""
  splits = {"test": _rows(range(12)), "validate": _rows(range(20, 26))}
  splits["train"] = _rows(range(40, 60))
  datasets.write(tmp_path / "data" / "ours", splits)
  rows = [datasets.record(i, labels={"Edema": i % 2}) for i in range(4)]
  datasets.write(tmp_path / "data" / "plain", {"test": rows})
  (tmp_path / "data" / "id_key").write_text("no dataset")
  evaluator = zero_shot.ZeroShot(
    registry.find("table:ours"), tmp_path / "data" / "ours"
  )
  return parts.Source(tmp_path / "data", "ours", 1.0, [evaluator])


def test_every_part_that_the_data_allow(source, tmp_path):
  out = tmp_path / "out"
  encoder = datasets.Encoder()
  made = parts.evaluate(encoder, source, parts.NAMES, out, **SETTINGS)
  assert list(made) == list(parts.NAMES)
  manifest = digests.of_file(source.data_dir / "ours" / "manifest.json")
  assert list(made["grounding"]) == ["ours"]
  for entry in (
    made["retrieval"],
    made["similarity"],
    made["grounding"]["ours"],
  ):
    assert entry["split"] == "test"
    assert entry["dataset"] == "ours"
    assert entry["data_manifest_sha256"] == manifest
  assert list(made["probe"]) == ["table:ours"]
  embedded = list(encoder.batches)
  results.evaluate(
    source.benchmarks,
    encoder,
    out,
    {},
    parts=made,
    kept=source.kept,
    **SETTINGS,
  )
  assert encoder.batches == embedded  # of the probe
  run = runs.read("ours", out, out)
  items = run.grounding("ours")
  assert items.findings == ("Edema",) * 6
  assert grounding_scores.read(out / "grounding_ours.csv") is not None
  text = tables.parts(run)
  assert "12 images of 12 studies" in text
  assert "grounding: ours, split test" in text
  assert "similarities: 12 pairs" in text
  (out / "grounding_ours.csv").write_text("x")
  with pytest.raises(ValueError, match="evaluate again"):
    run.grounding("ours")


def test_a_part_that_the_data_do_not_allow_is_none(source, tmp_path):
  bare = parts.Source(source.data_dir, "elsewhere", 1.0, [])
  made = parts.evaluate(
    datasets.Encoder(),
    bare,
    ["retrieval", "similarity", "probe"],
    tmp_path / "out",
    **SETTINGS,
  )
  assert made == {"retrieval": None, "similarity": None, "probe": None}
  with pytest.raises(ValueError, match="part 'x' is none of retrieval, gro"):
    parts.evaluate(datasets.Encoder(), bare, ["x"], tmp_path, **SETTINGS)
  for split in ("train", "validate"):
    asked = [dataclasses.replace(registry.find("table:ours"), split=split)]
    parts.check(parts.DEFAULT, asked)
    with pytest.raises(ValueError, match=f"'{split}' is used in training"):
      parts.check(["probe"], asked)
