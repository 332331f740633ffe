import pytest

from tier_jax.benchmarks import data_prep, rounds


def test_ratios_are_taken_within_rounds_and_of_the_best():
  rates = {cell: [1.0, 1.0, 1.0] for cell, _, _ in data_prep.CELLS}
  # The second and third rounds were disturbed, each in another cell.
  rates |= {"whole_2": [8.0, 4.0, 6.0], "bare_2": [10.0, 8.0, 2.0]}
  found = rounds.summarise(rates, data_prep.RATIOS)
  assert found["median"]["rates"]["bare_2"] == 8
  assert found["median"]["ratios"]["whole_2 / bare_2"] == 0.8  # .8, .5, 3
  assert found["best"]["ratios"]["whole_2 / bare_2"] == 0.8
  assert found["median"]["ratios"]["whole_2 / whole"] == 6
  assert found["best"]["ratios"]["whole_2 / whole"] == 8
  del rates["least"], rates["least_2"]
  found = rounds.summarise(rates, data_prep.RATIOS)["median"]["ratios"]
  assert list(found) == [
    "whole / bare",
    "whole_2 / bare_2",
    "whole / grey",
    "whole_2 / whole",
    "bare_2 / bare",
  ]


def test_cells_take_turns():
  order = []
  cells = {name: lambda name=name: order.append(name) or 1.0 for name in "ab"}
  assert rounds.interleave(cells, 2) == {"a": [1.0, 1.0], "b": [1.0, 1.0]}
  assert order == ["a", "b", "a", "b"]
  with pytest.raises(ValueError, match="rounds is 0, expected at least 1"):
    rounds.interleave(cells, 0)


def test_the_table_shows_ratios_beside_what_they_should_reach():
  rates = {"part": [3.0, 5.0, 4.0], "least": [5.0, 5.0, 10.0]}
  results = {
    "about": "two things",
    "unit": "things a second",
    "machine": rounds.machine(),
    **rounds.summarise(rates, {"part / least": ("part", "least")}),
    "floors": {"part / least": 0.9},
    "notes": {"bytes": 7},
  }
  lines = rounds.table(results).splitlines()
  assert lines[0] == "two things"
  assert "jax " in lines[1]
  assert [line.split()[-3:] for line in lines if line.startswith("part")] == [
    ["part", "4", "5"],
    ["0.600", "0.500", "0.900"],
  ]
  assert lines[-1] == "bytes: 7"
