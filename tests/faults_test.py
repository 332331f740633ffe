"""What is told of a step that is not finite, and what never is."""

import json

import jax
import numpy as np
import pytest

from tier_jax import faults


class Source:
  """Ten records a shard."""

  def locate(self, index):
    return "a", f"shard-{index // 10}", index % 10


def make_health(examples, norms, finite=False):
  return {
    "finite": np.array(finite),
    "examples": np.array(examples),
    "records": np.arange(18, 18 + len(examples), dtype=np.int32),
    "grad_norms": {k: np.float32(v) for k, v in norms.items()},
  }


def refuse(constant):
  raise AssertionError(f"{constant} is no JSON")


def test_the_dump_has_records_and_norms_in_strict_json(tmp_path):
  norms = {"a": 0.5, "c": np.nan, "b": np.inf}
  health = make_health([True, False, True], norms)
  path = faults.write_dump(tmp_path, 12, health, Source())
  assert path == tmp_path / "faults" / "step_00000012.json"
  dump = json.loads(path.read_text(), parse_constant=refuse)
  places = [("shard-1", 8), ("shard-1", 9), ("shard-2", 0)]
  records = [{"dataset": "a", "shard": s, "index": i} for s, i in places]
  assert dump == {
    "step": 12,
    "finite": False,
    "bad_records": records[1:2],
    "records": records,
    "grad_norms": {"b": "inf", "c": "nan", "a": 0.5},
  }
  assert list(dump["grad_norms"]) == ["b", "c", "a"]


def test_another_dump_of_a_step_lies_beside_the_first(tmp_path):
  for norm in (1.0, 2.0, 1.0):  # the last is known
    health = make_health([True], {"a": norm})
    path = faults.write_dump(tmp_path, 3, health, Source())
    assert json.loads(path.read_text())["grad_norms"] == {"a": norm}
  names = sorted(p.name for p in path.parent.iterdir())
  assert names == ["step_00000003.1.json", "step_00000003.json"]


def test_process_0_alone_writes(tmp_path, monkeypatch):
  monkeypatch.setattr(jax, "process_index", lambda: 1)
  faults.write_dump(tmp_path, 3, make_health([True], {"a": 1.0}), Source())
  assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
  ("examples", "norms", "want"),
  [
    (
      [True, False],
      {"a": 1.0},
      "embeddings of 1 of 2 pairs: a/shard-1#9",
    ),
    (
      [False] * 5,
      {"a": np.nan},
      "embeddings of 5 of 5 pairs: a/shard-1#8, a/shard-1#9, a/shard-2#0, ...; "
      "gradients of 1 of 1 modules: a",
    ),
    (
      [True],
      {"a": 1.0, "b": np.inf},
      "gradients of 1 of 2 modules: b",
    ),
    ([True], {"a": 1.0}, "its loss"),
  ],
)
def test_the_line_names_records_or_modules(examples, norms, want):
  line = faults.describe(make_health(examples, norms), 7, Source())
  assert line == f"step 7 is not finite: {want}"
