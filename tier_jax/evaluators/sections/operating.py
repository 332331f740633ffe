"""ROC curves, and calls at thresholds beside those of readers."""

from collections.abc import Mapping, Sequence
from typing import Any

from tier_jax.evaluators import figures, statistics
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_MAX_ROCS = 12  # panels a benchmark, the labels with most positives
_NAMED_READERS = 3  # more would hide a panel's curves
_AXES = ("specificity", "sensitivity")
_FIGURES = {
  "f1": "F1",
  "mcc": "MCC",
  "sensitivity": "Sensitivity",
  "specificity": "Specificity",
}


def rocs(
  name: str, first: Mapping[str, Any], runs: Sequence[runs_lib.Run]
) -> str:
  """Returns ROC curves, a panel a label, with readers as points.

  Args:
    name: of the benchmark.
    first: its entry, of the first run that has it.
    runs: a few.
  """
  scores = [
    run.scores(name) if name in run.metrics["benchmarks"] else None
    for run in runs
  ]
  available = [n for n, item in first["labels"].items() if item["auroc"]]
  shown = sorted(available, key=lambda n: -first["labels"][n]["positives"])
  readers = _readers(name, runs)
  panels = []
  for label in shown[:_MAX_ROCS]:
    lines, areas = [], []
    for run, item in zip(runs, scores, strict=True):
      area = _label(run, name, label).get("auroc")
      if item is None or area is None:
        continue
      column = item.labels.index(label)
      x, y = statistics.roc_curve(item.truth[:, column], item.scores[:, column])
      colour = palette.colours(runs)[run.name]
      lines.append(figures.Line("", x, y, colour))
      areas.append(f"{palette.dot(colour)}{area['value']:.3f}")
    uri = figures.roc(lines, _points(label, readers))
    note = f"<small>{' '.join(areas)}</small>"
    panels.append(markup.figure(label, uri, note))
  if not panels:
    return ""
  note = ""
  if len(available) > len(panels):
    note = (
      f"<p>The {len(panels)} labels with most positives of "
      f"{len(available)}.</p>"
    )
  return f"<h3>ROC curves</h3>{note}{markup.grid('rocs', panels)}"


def table(
  name: str, first: Mapping[str, Any], runs: Sequence[runs_lib.Run]
) -> str:
  """Returns F1, MCC, sensitivity and specificity, folded away.

  Runs are called at thresholds from validation; readers have calls of their
  own. "" when there is neither.
  """
  readers = _readers(name, runs)
  rows = []
  for label in first["labels"]:
    who = [
      (palette.name(run, runs), _label(run, name, label).get("operating"))
      for run in runs
    ]
    who += [
      (f"<em>{markup.text(reader)}</em>", labels.get(label))
      for reader, labels in readers.items()
    ]
    who = [(by, item) for by, item in who if item]
    for i, (by, item) in enumerate(who):
      cells = [markup.interval(item.get(key)) for key in _FIGURES]
      title = markup.text(label) if i == 0 else ""
      rows.append(markup.row([title, by, *cells]))
  if not rows:
    return ""
  split = first.get("thresholds_from")
  title = "F1, MCC, sensitivity and specificity"
  if split:
    title += f" at thresholds chosen on {split}"
  note = (
    '<p class="note">F1 and MCC are each at the threshold that maximises it '
    "there; sensitivity and specificity at the one whose specificity there is "
    "0.9 or more. Readers' names are in italics.</p>"
  )
  return markup.details(
    title, note + markup.table(["Label", "Who", *_FIGURES.values()], rows)
  )


def _readers(name, runs) -> Mapping[str, Any]:
  """Returns the readers of a benchmark, from a run that was set beside them."""
  parts = (run.metrics["benchmarks"].get(name, {}) for run in runs)
  return next((p["readers"] for p in parts if p.get("readers")), {})


def _points(label, readers) -> list[figures.Point]:
  """Readers' operating points for a label."""
  points = []
  for reader, labels in readers.items():
    item = labels.get(label) or {}
    x, y = ((item.get(key) or {}).get("value") for key in _AXES)
    if x is not None and y is not None:
      points.append(figures.Point(reader, 1 - x, y))
  if len(points) <= _NAMED_READERS:
    return points
  return [
    figures.Point("readers" if i == 0 else "", point.x, point.y)
    for i, point in enumerate(points)
  ]


def _label(run, name, label) -> Mapping[str, Any]:
  labels = run.metrics["benchmarks"].get(name, {}).get("labels", {})
  return labels.get(label, {})
