"""ROC curves, and calls at thresholds beside those of readers."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from tier_jax.evaluators import figures, readers, statistics, wording
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
  read = _readers(name, runs)
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
      areas.append(palette.dot(colour) + wording.number(area["value"]))
    uri = figures.roc(lines, _points(label, read))
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
  own, and a place beside each run's ROC curve. "" when there is neither.
  """
  read = _readers(name, runs)
  rows = []
  for label in first["labels"]:
    who = [
      (palette.name(run, runs), _label(run, name, label).get("operating"), "")
      for run in runs
    ]
    who += [
      (
        f"<em>{markup.text(reader)}</em>",
        labels.get(label),
        _below(name, label, reader, runs),
      )
      for reader, labels in read.items()
    ]
    who = [(by, item, below) for by, item, below in who if item]
    for i, (by, item, below) in enumerate(who):
      cells = [
        markup.interval(item[key]) if key in item else "" for key in _FIGURES
      ]
      title = markup.text(label) if i == 0 else ""
      cells += [below] if read else []
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
    "0.9 or more."
  )
  head = ["Label", "Who", *_FIGURES.values()]
  if read:
    head.append("Below the ROC curve")
    note += (
      " Readers' names are in italics. One is below a curve whose sensitivity "
      "at the reader's specificity is higher, which stands in brackets."
    )
  return markup.details(title, f"{note}</p>{markup.table(head, rows)}")


def _readers(name, runs) -> Mapping[str, Any]:
  """Returns the readers of a benchmark, from a run that was set beside them."""
  parts = (run.metrics["benchmarks"].get(name, {}) for run in runs)
  return next((p["readers"] for p in parts if p.get("readers")), {})


def _below(name, label, reader, runs) -> str:
  """Says of each run's ROC curve for a label whether a reader is below it."""
  words = []
  for run in runs:
    read = run.metrics["benchmarks"].get(name, {}).get("readers") or {}
    item = read.get(reader, {}).get(label) or {}
    if "below" in item:
      verdict = "yes" if item["below"] else "no"
      level = wording.number(item["model_sensitivity"])
      dot = palette.dot(palette.colours(runs)[run.name])
      words.append(f"{dot}{verdict} ({level})")
  return " ".join(words)


def _points(label, read) -> list[figures.Point]:
  """Readers' operating points for a label; of many, their mean has a name."""
  points = []
  for reader, labels in read.items():
    item = labels.get(label) or {}
    x, y = ((item.get(key) or {}).get("value") for key in _AXES)
    if x is not None and y is not None:
      points.append(figures.Point(reader, 1 - x, y))
  named = [point for point in points if point.label == readers.MEAN]
  points = [point for point in points if point.label != readers.MEAN]
  if len(points) > _NAMED_READERS:
    points = [
      dataclasses.replace(point, label="readers" if i == 0 else "")
      for i, point in enumerate(points)
    ]
  return points + named


def _label(run, name, label) -> Mapping[str, Any]:
  labels = run.metrics["benchmarks"].get(name, {}).get("labels", {})
  return labels.get(label, {})
