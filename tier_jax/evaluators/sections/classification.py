"""Zero-shot classification: macro figures of all, labels of a few runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tier_jax.evaluators import figures, protocols, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import (
  calibration,
  markup,
  operating,
  palette,
  subgroups,
)

_MAX_LABELS = 24  # rows of the drawing; the table has them all

Deltas = Mapping[str, Mapping[str, Any]]


def summary(
  runs: Sequence[runs_lib.Run], deltas: Deltas
) -> list[markup.Section]:
  """Returns the macro AUROC of each benchmark, large.

  Args:
    runs: at least one.
    deltas: as `differences.of_runs` gives them, or none.
  """
  parts = []
  for name, first in benchmarks(runs):
    title = f"{name}: macro AUROC"
    about = f"{_macro_of(first)}, {_rows(first)}"
    if _notes(name, runs, deltas):
      about += ". Not measured alike: see below"
    note = f"<small>{about}</small>"
    if palette.few(runs):
      parts.append(_card(name, note, runs, deltas))
      continue
    rows = [_forest_row(run.name, _macro(run, name), run, runs) for run in runs]
    uri = figures.forest(rows, reference=None, x_label="macro AUROC")
    parts.append(markup.figure(title, uri, note))
  css = "cards" if palette.few(runs) else "charts"
  note = ""
  if not palette.few(runs):
    note = (
      "<p>More than four runs: their labels, ROC curves and subgroups are on "
      "each run's own page.</p>"
    )
  if not parts:
    return []
  return [markup.Section("Results", note + markup.grid(css, parts))]


def render(
  runs: Sequence[runs_lib.Run], deltas: Deltas
) -> list[markup.Section]:
  """Returns a section a benchmark; `runs` and `deltas` as in `summary`."""
  found = []
  for name, first in benchmarks(runs):
    few = palette.few(runs)
    delta = deltas.get("benchmarks", {}).get(name)
    pictures = []
    if few:
      pictures.append(_forest(name, first, runs))
      pictures += subgroups.render(name, runs)
    pictures += calibration.render(name, runs)
    notes = markup.warnings(_notes(name, runs, deltas))
    body = [_intro(first), notes, palette.legend(runs)]
    body.append(markup.grid("columns", pictures))
    if few:
      body.append(_table(name, first, runs, delta))
      body.append(operating.table(name, first, runs))
      body.append(operating.rocs(name, first, runs))
    else:
      body.append(_values(name, first, runs))
    found.append(markup.Section(name, "".join(body)))
  return found


def benchmarks(
  runs: Sequence[runs_lib.Run],
) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Yields each benchmark of any run with the first run's entry for it."""
  for name in dict.fromkeys(n for r in runs for n in r.metrics["benchmarks"]):
    entries = (run.metrics["benchmarks"].get(name) for run in runs)
    yield name, next(entry for entry in entries if entry)


def _notes(name, runs, deltas) -> list[str]:
  """Says which runs were not measured alike, and why none is subtracted."""
  entries = [(run, run.metrics["benchmarks"].get(name)) for run in runs]
  return protocols.notes(
    [(run, entry) for run, entry in entries if entry],
    prompts=True,
    refused=deltas.get("refused", {}).get("benchmarks", {}).get(name),
  )


def _card(name, note, runs, deltas) -> str:
  lines = []
  for run in runs:
    item = _macro(run, name)
    dot = palette.dot(palette.colours(runs)[run.name])
    if item is None or item["value"] is None:
      lines.append(f'<div class="big">{dot}not available</div>')
      continue
    bounds = ""
    if item["low"] is not None:
      low, high = (wording.number(item[key]) for key in ("low", "high"))
      bounds = f"{low} to {high}"
    lines.append(
      f'<div class="big">{dot}<b>{wording.number(item["value"])}</b>'
      f"<span>{bounds}</span></div>"
    )
  delta = deltas.get("benchmarks", {}).get(name, {}).get("macro")
  if delta:
    lines.append(
      "<small>difference "
      f"{wording.interval(delta, sign=True)}, the same patients</small>"
    )
  return (
    f'<div class="card"><h3>{markup.text(name)}</h3>{note}'
    f"{''.join(lines)}</div>"
  )


def _intro(entry) -> str:
  scoring = entry.get("scoring")
  how = f", scored by <code>{markup.text(scoring)}</code>" if scoring else ""
  return (
    f"<p>Split {markup.text(entry['split'])}, {_rows(entry)}{how}. "
    "AUROC 0.5 is chance.</p>"
  )


def _forest(name, first, runs) -> str:
  """A drawing of the macro AUROC and the labels with most positives."""
  available = [n for n, item in first["labels"].items() if item["auroc"]]
  shown = set(_most_positives(first, available)[:_MAX_LABELS])
  rows = []
  for i, run in enumerate(runs):
    title = _macro_of(first).capitalize() if i == 0 else ""
    rows.append(_forest_row(title, _macro(run, name), run, runs, bold=True))
  for label in [n for n in available if n in shown]:
    for i, run in enumerate(runs):
      title = _label_name(label, first) if i == 0 else ""
      rows.append(_forest_row(title, _label(run, name, label), run, runs))
  caption = "AUROC with 95 % intervals"
  if len(shown) < len(available):
    caption += f", the {len(shown)} most frequent of {len(available)} labels"
  return markup.figure(
    caption, figures.forest(rows, reference=0.5, x_label="AUROC")
  )


def _forest_row(title, item, run, runs, bold=False) -> figures.ForestRow:
  item = item or {"value": None, "low": None, "high": None}
  return figures.ForestRow(
    title,
    item["value"],
    item["low"],
    item["high"],
    palette.colours(runs)[run.name],
    bold,
  )


def _table(name, first, runs, delta) -> str:
  """Every label: AUROC, difference of two runs, average precision."""
  precise = [
    run for run in runs if _macro(run, name, "average_precision") is not None
  ]
  tested = delta and any(
    item and "p" in item for item in delta["labels"].values()
  )
  head = ["Label", "+ / -"]
  head += [_head("AUROC", run, runs) for run in runs]
  if delta:
    head.append(f"{markup.text(runs[0].name)} - {markup.text(runs[1].name)}")
  if tested:
    head += ["p", "p, Holm"]
  head += [_head("AP", run, runs) for run in precise]

  def cells(auroc, change, precision) -> list[str]:
    found = [markup.interval(item) for item in auroc]
    if delta:
      found.append(markup.interval(change, sign=True))
    if tested:
      tests = change or {}
      found += [markup.p_value(tests.get(key)) for key in ("p", "p_holm")]
    return found + [markup.interval(item) for item in precision]

  rows = [
    markup.row(
      [
        _macro_of(first).capitalize(),
        "",
        *cells(
          [_macro(run, name) for run in runs],
          delta and delta["macro"],
          [_macro(run, name, "average_precision") for run in precise],
        ),
      ],
      strong=True,
    )
  ]
  missing = []
  for label, item in first["labels"].items():
    counts = f"{item['positives']} / {item['negatives']}"
    if item["auroc"] is None:
      missing.append(f"{label} ({counts})")
      continue
    figures_ = cells(
      [_label(run, name, label) for run in runs],
      delta and delta["labels"].get(label),
      [_label(run, name, label, "average_precision") for run in precise],
    )
    title = markup.text(_label_name(label, first))
    rows.append(markup.row([title, counts, *figures_]))
  body = markup.table(head, rows)
  notes = ["+ / - counts those with and without the finding."]
  if precise:
    notes.append("AP is average precision; its chance level is the prevalence.")
  if tested:
    notes.append(
      "p is of no difference: DeLong's, and the macro's from the paired "
      "bootstrap; Holm's correction is over the labels."
    )
  body += f'<p class="note">{" ".join(notes)}</p>'
  if missing:
    body += markup.details(
      f"Not available, for want of both classes: {len(missing)} (positive / "
      "negative)",
      markup.text(", ".join(missing)),
    )
  return body


def _values(name, first, runs) -> str:
  """Every label of many runs, without intervals, folded away."""
  head = ["AUROC", *(palette.name(run, runs) for run in runs)]
  rows = []
  for label, item in first["labels"].items():
    if item["auroc"]:
      areas = [_label(run, name, label) for run in runs]
      rows.append(
        markup.row(
          [
            markup.text(_label_name(label, first)),
            *(
              wording.number(area["value"] if area else None) for area in areas
            ),
          ]
        )
      )
  return markup.details(
    f"AUROC of {len(rows)} labels", markup.table(head, rows)
  )


def _head(what, run, runs) -> str:
  return what if len(runs) == 1 else f"{what} {palette.name(run, runs)}"


def _most_positives(entry, labels) -> list[str]:
  return sorted(labels, key=lambda n: -entry["labels"][n]["positives"])


def _macro(run, name, what="auroc") -> Mapping[str, Any] | None:
  return run.metrics["benchmarks"].get(name, {}).get(f"macro_{what}")


def _label(run, name, label, what="auroc") -> Mapping[str, Any] | None:
  labels = run.metrics["benchmarks"].get(name, {}).get("labels", {})
  return labels.get(label, {}).get(what)


def _label_name(label, entry) -> str:
  apart = not entry["labels"][label].get("in_macro", True)
  return f"{label} (apart)" if apart else label


def _macro_of(entry) -> str:
  count = entry["macro_auroc"]["num_labels"]
  return f"macro of {count} {'label' if count == 1 else 'labels'}"


def _rows(entry) -> str:
  units = "studies" if entry["unit"] == "study" else "images"
  return f"{entry['rows']} {units} of {entry['patients']} patients"
