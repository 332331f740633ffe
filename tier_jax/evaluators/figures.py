"""Charts of the report page, each as a data URI for an <img>.

matplotlib is used through its object interface: no global state, no display.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib import figure

RUN_COLOURS = (
  *("#0f766e", "#c2410c", "#4338ca", "#a16207", "#be185d"),
  *("#0284c7", "#4d7c0f", "#7e22ce", "#475569", "#dc2626"),
)
GREY = "#64748b"  # what a run is compared with: chance, a ceiling, a baseline
_INK, _GRID = "#475569", "#e2e8f0"
# In which all charts are made, as the context of matplotlib's settings.
STYLE: dict[Any, Any] = {
  "svg.hashsalt": "tier-jax",  # equal figures give equal bytes
  "svg.fonttype": "none",
  "text.parse_math": False,  # a name with a $ is no formula
  "font.family": "sans-serif",
  "font.size": 9,
  "text.color": _INK,
  "axes.edgecolor": _GRID,
  "axes.labelcolor": _INK,
  "axes.axisbelow": True,
  "axes.grid": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "grid.color": _GRID,
  "grid.linewidth": 0.7,
  "xtick.color": _INK,
  "ytick.color": _INK,
  "xtick.major.size": 0,
  "ytick.major.size": 0,
  "lines.linewidth": 1.7,
}
_MAX_POINTS = 300  # a curve of more is thinned: the eye sees no difference
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "p")
_FEW_LINES = 8  # more lines are drawn thin, that none is hidden


def run_colour(i: int) -> str:
  """Returns the colour of run number `i`; after ten they come again."""
  return RUN_COLOURS[i % len(RUN_COLOURS)]


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of a chart.

  Attributes:
    label: in the legend; "" keeps it out.
    x, y: (K,) values.
    colour, dashed: how it is drawn.
  """

  label: str
  x: Sequence[float] | np.ndarray
  y: Sequence[float] | np.ndarray
  colour: str
  dashed: bool = False


@dataclasses.dataclass(frozen=True)
class ForestRow:
  """One value of a forest plot.

  Attributes:
    label: beside it; "" sets it close below the row above, as the same
      thing's value in another run.
    value: None leaves the row empty.
    low, high: its interval, or None.
    colour, bold: how it is drawn.
  """

  label: str
  value: float | None
  low: float | None
  high: float | None
  colour: str
  bold: bool = False


@dataclasses.dataclass(frozen=True)
class Point:
  """A reader in an ROC panel: 1 - specificity, sensitivity.

  A label "" keeps it out of the legend; it is then a dot as the first is.
  """

  label: str
  x: float
  y: float


def chart(lines: Sequence[Line], *, x_label: str) -> str:
  """Returns an SVG of lines over steps."""
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = fig.add_subplot()
    few = len(lines) <= _FEW_LINES
    for line in lines:
      x, y = _thin(line.x, line.y)
      axes.plot(
        x,
        y,
        color=line.colour,
        linestyle=(0, (4, 2)) if line.dashed else "-",
        linewidth=1.7 if few else 0.9,
        # One point alone is no line: it would not be seen.
        marker="o" if len(x) == 1 else None,
        label=line.label or "_",
        alpha=0.95 if few else 0.75,
      )
    axes.set_xlabel(x_label)
    axes.margins(x=0.01)
    axes.locator_params(nbins=5)
    if sum(bool(line.label) for line in lines) > 1:
      fig.legend(
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        columnspacing=1,
      )
    return svg(fig)


def forest(
  rows: Sequence[ForestRow], *, reference: float | None, x_label: str
) -> str:
  """Returns an SVG of values with their intervals, the first row on top.

  Args:
    rows: at least one.
    reference: where a line is drawn, such as chance or no difference.
    x_label: what the values are.
  """
  places = np.cumsum([0.5 if not row.label else 1.0 for row in rows])
  height = 0.62 + 0.21 * (places[-1] + 0.6)
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(4.8, height), layout="constrained")
    axes = fig.add_subplot()
    axes.grid(axis="y", visible=False)
    if reference is not None:
      axes.axvline(reference, color=GREY, linewidth=1)
    for row, y in zip(rows, places, strict=True):
      if row.value is None:
        continue
      if row.low is not None and row.high is not None:
        axes.plot(
          [row.low, row.high],
          [y, y],
          color=row.colour,
          linewidth=3 if row.bold else 2,
          alpha=0.4,
          solid_capstyle="round",
        )
      axes.plot(
        row.value,
        y,
        marker="D" if row.bold else "o",
        markersize=5,
        color=row.colour,
      )
    named = [(y, row) for row, y in zip(rows, places, strict=True) if row.label]
    axes.set_yticks([y for y, _ in named], [row.label for _, row in named])
    for tick, (_, row) in zip(axes.get_yticklabels(), named, strict=True):
      tick.set_fontweight("bold" if row.bold else "normal")
    axes.set_ylim(places[-1] + 0.7, places[0] - 0.7)
    axes.locator_params(axis="x", nbins=6)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(x_label)
    return svg(fig)


def roc(curves: Sequence[Line], points: Sequence[Point] = ()) -> str:
  """Returns an SVG of ROC curves, and of readers' points with a legend.

  The curves have none: it would lie over them.
  """
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(2.1, 2.1), layout="constrained")
    axes = fig.add_subplot(aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
    _diagonal(axes)
    for line in curves:
      x, y = _thin(line.x, line.y)
      axes.plot(x, y, color=line.colour)
    marks = iter(_MARKERS)
    for point in points:
      axes.plot(
        point.x,
        point.y,
        marker=next(marks, "o") if point.label else "o",
        markersize=5,
        color="#0f172a",
        markeredgecolor="white",
        markeredgewidth=0.7,
        linestyle="none",
        label=point.label or "_",
      )
    _unit_square(axes, "1 - specificity", "sensitivity")
    if points:
      axes.legend(
        loc="lower right",
        fontsize=7,
        handlelength=0.8,
        edgecolor="none",
        borderpad=0.1,
      )
    return svg(fig)


def reliability(curves: Sequence[Line]) -> str:
  """Returns an SVG of observed frequency over stated probability."""
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(4.8, 3.6), layout="constrained")
    axes = fig.add_subplot(aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
    _diagonal(axes)
    few = len(curves) <= _FEW_LINES
    for line in curves:
      axes.plot(
        line.x,
        line.y,
        color=line.colour,
        label=line.label or "_",
        marker="o",
        markersize=4 if few else 2,
        linewidth=1.4 if few else 0.8,
      )
    _unit_square(axes, "stated probability", "share with the finding")
    if any(line.label for line in curves):
      axes.legend(loc="upper left", frameon=False, fontsize=8, handlelength=1.2)
    return svg(fig)


def histogram(counts: Mapping[str, np.ndarray], colours: Sequence[str]) -> str:
  """Returns an SVG of histograms over cosine similarity, one a run."""
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(4.8, 2.7), layout="constrained")
    axes = fig.add_subplot()
    few = len(counts) <= _FEW_LINES
    for (name, values), colour in zip(counts.items(), colours, strict=True):
      edges = np.linspace(-1, 1, len(values) + 1)
      share = np.asarray(values) / max(np.sum(values), 1)
      if few:
        axes.stairs(share, edges, fill=True, color=colour, alpha=0.18)
      axes.stairs(
        share,
        edges,
        color=colour,
        linewidth=1.5 if few else 0.8,
        label=name if few else "_",
      )
    axes.set_xlim(-1, 1)
    axes.set_xlabel("cosine of a report's token with a patch of its image")
    axes.set_ylabel("share")
    if few:
      axes.legend(frameon=False, fontsize=8)
    return svg(fig)


def scatter(
  x: Sequence[float],
  y: Sequence[float],
  scores: Sequence[float | None],
  *,
  x_label: str,
  y_label: str,
  score_label: str,
) -> str:
  """Returns an SVG of points coloured by score; a ring marks the best.

  Args:
    x, y: (N,) where the points lie.
    scores: (N,) higher is better; None draws an empty point.
    x_label, y_label, score_label: what each is.
  """
  with mpl.rc_context(STYLE):
    fig = figure.Figure(figsize=(4.8, 3.7), layout="constrained")
    axes = fig.add_subplot()
    values = np.array([np.nan if s is None else s for s in scores], np.float64)
    scored = np.isfinite(values)
    places = np.column_stack([x, y])  # (N, 2)
    axes.scatter(*places[~scored].T, s=34, facecolors="none", edgecolors=GREY)
    if scored.any():
      drawn = axes.scatter(
        *places[scored].T,
        c=values[scored],
        s=44,
        cmap="viridis",
        edgecolors="white",
        linewidths=0.6,
      )
      bar = fig.colorbar(drawn, ax=axes, label=score_label)
      bar.outline.set_visible(False)
      axes.scatter(
        *places[int(np.nanargmax(values))],
        s=130,
        facecolors="none",
        edgecolors="#be185d",
        linewidths=1.6,
      )
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    return svg(fig)


def _diagonal(axes) -> None:
  axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)


def _unit_square(axes, x_label: str, y_label: str) -> None:
  axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
  axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
  axes.set_xlabel(x_label)
  axes.set_ylabel(y_label)


def _thin(x, y) -> tuple[np.ndarray, np.ndarray]:
  x, y = np.asarray(x), np.asarray(y)
  if len(x) <= _MAX_POINTS:
    return x, y
  keep = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).astype(int))
  return x[keep], y[keep]


def svg(fig: figure.Figure) -> str:
  """Returns a figure, made under `STYLE`, as a data URI."""
  buffer = io.BytesIO()
  fig.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
  text = base64.b64encode(buffer.getvalue()).decode("ascii")
  return f"data:image/svg+xml;base64,{text}"
