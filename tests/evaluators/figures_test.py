"""Every run is drawn, however many there are."""

import base64

import numpy as np

from tier_jax.evaluators import figures


def svg(uri):
  return base64.b64decode(uri.partition("base64,")[2]).decode()


def test_no_run_is_left_out_of_the_histogram():
  counts = {f"run{i}": np.arange(4) + i for i in range(12)}
  drawn = svg(figures.histogram(counts))
  for colour in figures.RUN_COLOURS:
    assert drawn.count(colour) > 1
  # The eleventh run takes the first colour again: twice what a third has.
  first, third = (drawn.count(figures.run_colour(i)) for i in (0, 2))
  assert first == 2 * third


def test_ten_runs_are_told_apart():
  assert len({figures.run_colour(i) for i in range(10)}) == 10


def test_a_single_value_is_drawn_as_a_point():
  def drawn(count):
    values = np.arange(count, dtype=float)
    line = figures.Line("one", values, values, "#0f766e")
    return svg(figures.chart([line], x_label="step"))

  # A marker is a shape that is used where its point lies.
  colour = "fill: #0f766e"
  assert colour in drawn(1)
  assert colour not in drawn(3)
