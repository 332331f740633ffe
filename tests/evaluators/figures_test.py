"""Every run is drawn, however many there are."""

import numpy as np

from tier_jax.evaluators import figures


def test_no_run_is_left_out_of_the_histogram():
  counts = {f"run{i}": np.arange(4) + i for i in range(12)}
  drawn = figures.histogram(counts)
  for colour in figures.RUN_COLOURS:
    assert drawn.count(colour) > 1
  # The eleventh run takes the first colour again: twice what a third has.
  first, third = (drawn.count(figures.run_colour(i)) for i in (0, 2))
  assert first == 2 * third


def test_ten_runs_are_told_apart():
  assert len({figures.run_colour(i) for i in range(10)}) == 10
