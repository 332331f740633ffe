"""Which colour a run has, and how many runs a chart can tell apart.

Runs that differ by their seed alone are named GROUP/SEED, such as tier/0 and
tier/1: they share the group's colour and one entry of the legend.
"""

from collections.abc import Iterable, Sequence

from tier_jax.evaluators import figures
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup

_FEW = 4  # more runs are shown by their macro figures alone


def few(runs: Sequence[runs_lib.Run]) -> bool:
  """Returns whether every label of every run can be shown."""
  return len(runs) <= _FEW


def group(run: runs_lib.Run) -> str:
  """Returns what the run's name says before its last stroke."""
  return run.name.rpartition("/")[0] or run.name


def colours(runs: Sequence[runs_lib.Run]) -> dict[str, str]:
  """Returns the colour of each run by its name."""
  names = list(dict.fromkeys(map(group, runs)))
  return {run.name: figures.run_colour(names.index(group(run))) for run in runs}


def firsts(runs: Iterable[runs_lib.Run]) -> list[runs_lib.Run]:
  """Returns the first run of each group."""
  return list({group(run): run for run in reversed([*runs])}.values())[::-1]


def entry(run: runs_lib.Run, runs: Sequence[runs_lib.Run]) -> str:
  """Returns the run's words in a chart's legend: those of its group, once."""
  return group(run) if run in firsts(runs) else ""


def dot(colour: str) -> str:
  """Returns a small disc in a run's colour."""
  return f'<span class="dot" style="background:{colour}"></span>'


def name(run: runs_lib.Run, runs: Sequence[runs_lib.Run]) -> str:
  """Returns the run's name as HTML, after its disc."""
  return dot(colours(runs)[run.name]) + markup.text(run.name)


def legend(runs: Sequence[runs_lib.Run]) -> str:
  """Returns the discs of the groups with their names; "" for one alone."""
  shown = firsts(runs)
  if len(shown) < 2:
    return ""
  return '<p class="legend">{}</p>'.format(
    "".join(
      f"<span>{dot(colours(runs)[run.name])}{markup.text(group(run))}</span>"
      for run in shown
    )
  )
