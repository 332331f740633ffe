"""Charts that only a study has; the others are the report's."""

import dataclasses
from collections.abc import Mapping, Sequence

import matplotlib as mpl
from matplotlib import figure

from tier_jax.evaluators import figures

_SPREAD = 0.015  # of a line's marks in log10, that intervals do not overlap


@dataclasses.dataclass(frozen=True)
class Mean:
  """A value at `x` > 0 with its interval, None without one."""

  x: float
  value: float
  low: float | None
  high: float | None


def paired(
  arms: Mapping[str, str],
  seeds: Sequence[Sequence[float | None]],
  *,
  y_label: str,
  reference: float | None,
) -> str:
  """Returns an SVG of a line a seed, from arm to arm.

  Args:
    arms: name -> colour of its dots, the baseline first.
    seeds: of each seed the value in every arm, None where it has none.
    y_label: what the values are.
    reference: where a line is drawn, or None.
  """
  with mpl.rc_context(figures.STYLE):
    fig = figure.Figure(figsize=(4.2, 2.9), layout="constrained")
    axes = fig.add_subplot()
    axes.grid(axis="x", visible=False)
    if reference is not None:
      axes.axhline(reference, color=figures.GREY, linestyle=(0, (4, 2)))
    for values in seeds:
      there = [(x, y) for x, y in enumerate(values) if y is not None]
      axes.plot(*zip(*there, strict=True), color="#94a3b8", linewidth=1)
    for x, colour in enumerate(arms.values()):
      column = [y for values in seeds if (y := values[x]) is not None]
      axes.plot(
        [x] * len(column),
        column,
        linestyle="none",
        marker="o",
        markersize=5.5,
        markeredgecolor="white",
        markeredgewidth=0.7,
        color=colour,
      )
    axes.set_xticks(range(len(arms)), list(arms))
    axes.set_xlim(-0.4, len(arms) - 0.6)
    axes.set_ylabel(y_label)
    return figures.svg(fig)


def trend(lines: Mapping[str, Sequence[Mean]], *, x_label: str) -> str:
  """Returns an SVG of differences over a logarithmic axis, with intervals.

  Args:
    lines: name -> its means, one at least.
    x_label: what the axis is.
  """
  with mpl.rc_context(figures.STYLE):
    fig = figure.Figure(figsize=(4.8, 3.3), layout="constrained")
    axes = fig.add_subplot(xscale="log")
    axes.axhline(0, color=figures.GREY, linewidth=1)
    for i, (name, means) in enumerate(lines.items()):
      aside = 10 ** (_SPREAD * (i - (len(lines) - 1) / 2))
      colour = figures.run_colour(i)
      for mean in means:
        if mean.low is not None and mean.high is not None:
          axes.plot(
            [mean.x * aside] * 2,
            [mean.low, mean.high],
            color=colour,
            linewidth=2.5,
            alpha=0.4,
            solid_capstyle="round",
          )
      axes.plot(
        [mean.x * aside for mean in means],
        [mean.value for mean in means],
        color=colour,
        marker="o",
        markersize=4.5,
        linewidth=1.2,
        label=name,
      )
    ticks = sorted({mean.x for means in lines.values() for mean in means})
    axes.set_xticks(ticks, [f"{x:g}" for x in ticks])
    axes.minorticks_off()
    axes.set_xlabel(x_label)
    axes.set_ylabel("difference")
    fig.legend(
      loc="outside upper left",
      ncols=3,
      frameon=False,
      fontsize=8,
      handlelength=1.6,
    )
    return figures.svg(fig)
