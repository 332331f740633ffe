"""Charts hold all that they were given, however much there is."""

import base64

import numpy as np
import pytest

from tier_jax.evaluators import figures

TEAL, RED = figures.RUN_COLOURS[0], figures.RUN_COLOURS[9]


def svg(uri):
  return base64.b64decode(uri.partition("base64,")[2]).decode()


def line(label, count, colour=TEAL):
  values = np.arange(count, dtype=float)
  return figures.Line(label, values, values, colour)


def test_no_run_is_left_out_of_the_histogram():
  counts = {f"run{i}": np.arange(4) + i for i in range(12)}
  colours = [figures.run_colour(i) for i in range(12)]
  drawn = svg(figures.histogram(counts, colours))
  for colour in figures.RUN_COLOURS:
    assert colour in drawn
  # The eleventh run takes the first colour again: twice what a third has.
  first, third = (drawn.count(figures.run_colour(i)) for i in (0, 2))
  assert first == 2 * third


def test_ten_runs_are_told_apart():
  assert len({figures.run_colour(i) for i in range(10)}) == 10


def test_a_single_value_is_drawn_as_a_point():
  def drawn(count):
    return svg(figures.chart([line("one", count)], x_label="step"))

  # A marker is a shape that is used where its point lies.
  colour = f"fill: {TEAL}"
  assert colour in drawn(1)
  assert colour not in drawn(3)


def test_legend_holds_the_lines_that_have_a_label():
  lines = [line("", 3), line("tier", 3), line("plain", 3), line("", 3)]
  drawn = svg(figures.chart(lines, x_label="step"))
  assert "tier</text>" in drawn and "plain</text>" in drawn
  one = svg(figures.chart([line("tier", 3), line("", 3)], x_label="step"))
  assert "tier</text>" not in one  # it would tell nothing apart


def test_forest_shows_labels_values_and_where_there_is_no_interval():
  def drawn(low, high, value=0.5):
    rows = [
      figures.ForestRow("Macro", 0.7, 0.6, 0.8, TEAL, bold=True),
      figures.ForestRow("Edema", value, low, high, RED),
      figures.ForestRow("", 0.6, 0.5, 0.7, TEAL),
    ]
    return svg(figures.forest(rows, reference=0.5, x_label="AUROC"))

  whole = drawn(0.4, 0.6)
  for text in ("Macro", "Edema", "AUROC"):
    assert f"{text}</text>" in whole
  # An interval is a line, a value a filled shape.
  assert f"stroke: {RED}; stroke-opacity: 0.4" in whole
  assert f"stroke: {RED}; stroke-opacity: 0.4" not in drawn(None, None)
  assert f"fill: {RED}" in drawn(None, None)
  assert RED not in drawn(None, None, value=None)


def test_forest_grows_with_its_rows():
  def height(count):
    rows = [figures.ForestRow(str(i), 0.5, 0, 1, TEAL) for i in range(count)]
    text = svg(figures.forest(rows, reference=None, x_label="x"))
    return float(text.partition('height="')[2].partition("pt")[0])

  # A row has the room of its text, 9 points and more.
  assert height(50) - height(10) > 40 * 12


def test_roc_names_readers():
  points = [figures.Point("reader A", 0.1, 0.7)]
  drawn = svg(figures.roc([line("ours", 3)], points))
  assert "reader A</text>" in drawn


@pytest.mark.parametrize("scores", [[0.5, None, 0.9], [None] * 3, [0.5] * 3])
def test_scatter_draws_every_trial_and_rings_the_best(scores):
  drawn = svg(
    figures.scatter(
      [0, 0.2, 0.4],
      [0.1, 0.3, 0.5],
      scores,
      x_label="a",
      y_label="b",
      score_label="AUROC",
    )
  )
  scored = sum(score is not None for score in scores)
  assert ("#be185d" in drawn) == bool(scored)
  assert ("AUROC</text>" in drawn) == bool(scored)
  assert drawn.count("stroke: #ffffff; stroke-width: 0.6") >= scored
  assert (figures.GREY in drawn) == (scored < len(scores))


def test_no_name_is_read_as_a_formula():
  name = r"cost $\foo$ & $x_1$"
  written = r"cost $\foo$ &amp; $x_1$</text>"
  row = figures.ForestRow(name, 0.5, 0.4, 0.6, TEAL)
  lines = [line(name, 3), line("b", 3)]
  for uri in (
    figures.forest([row], reference=None, x_label=name),
    figures.chart(lines, x_label="step"),
    figures.roc(lines, [figures.Point(name, 0.1, 0.7)]),
    figures.reliability(lines),
    figures.histogram({name: np.arange(4)}, [TEAL]),
  ):
    assert written in svg(uri)


def test_equal_charts_are_equal_bytes():
  rows = [figures.ForestRow("a", 0.5, 0.4, 0.6, TEAL)]
  first, second = (
    figures.forest(rows, reference=0.5, x_label="x") for _ in range(2)
  )
  assert first == second
