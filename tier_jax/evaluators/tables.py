"""Figures of evaluated runs as plain text."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tier_jax.evaluators import protocols, wording
from tier_jax.evaluators import runs as runs_lib


def table(
  runs: Sequence[runs_lib.Run], deltas: Mapping[str, Mapping[str, Any]]
) -> str:
  """Returns the figures of one or more runs as plain text.

  Args:
    runs: at least one.
    deltas: as `differences.of_runs` gives them, or none.
  """
  lines = []
  changes = deltas.get("benchmarks", {})
  refused = deltas.get("refused", {}).get("benchmarks", {})
  names = dict.fromkeys(n for run in runs for n in run.metrics["benchmarks"])
  for name in names:
    entries = [run.metrics["benchmarks"].get(name) for run in runs]
    entry = next(entry for entry in entries if entry)
    units = "studies" if entry["unit"] == "study" else "images"
    lines.append(
      f"{name}: AUROC [95 % interval], split {entry['split']}, "
      f"{entry['rows']} {units} of {entry['patients']} patients"
    )
    heads = [run.name for run in runs]
    if name in refused:
      lines.append(f"  no difference is given: {refused[name]}")
    if name in changes:
      heads.append(f"{runs[0].name} - {runs[1].name}")
    pad = " " * 46
    lines.append(pad + "pos/neg".rjust(11) + _row(heads))
    missing = []
    for label, item in entry["labels"].items():
      counts = f"{item['positives']}/{item['negatives']}"
      if item["auroc"] is None:
        missing.append(f"{label} {counts}")
        continue
      cells = [
        wording.interval(e and e["labels"].get(label, {}).get("auroc"))
        for e in entries
      ]
      if name in changes:
        change = changes[name]["labels"][label]
        cells.append(wording.interval(change, sign=True))
      lines.append(f"  {label[:44]:44}" + counts.rjust(11) + _row(cells))
    cells = [wording.interval(e and e["macro_auroc"]) for e in entries]
    if name in changes:
      cells.append(wording.interval(changes[name]["macro"], sign=True))
    macro = f"macro of {entry['macro_auroc']['num_labels']}"
    lines.append(f"  {macro:44}" + " " * 11 + _row(cells))
    if missing:
      lines.append(
        f"  not available, without both classes ({len(missing)}, positive/"
        f"negative): {', '.join(missing[:8])}"
        + (", ..." if len(missing) > 8 else "")
      )
    lines.append("")
  return "\n".join(lines)


def parts(run: runs_lib.Run) -> str:
  """Returns what a run measured beside classification as plain text.

  Of grounding, what a phrase's map scores beside the location prior and chance.
  """
  lines = []
  retrieval = run.metrics.get("retrieval")
  if retrieval:
    lines.append(
      f"retrieval: {retrieval['images']} images of {retrieval['studies']} "
      f"studies, split {retrieval['split']}"
    )
    for way in ("image_to_text", "text_to_image", "chance"):
      cells = [
        f"{name} {_figure(item)}"
        for name, item in retrieval[way].items()
        if name.startswith("recall")
      ]
      lines.append(f"  {way.replace('_', ' '):16}" + "   ".join(cells))
  for name, entry in (run.metrics.get("grounding") or {}).items():
    maps = {
      **entry["maps"],
      "prior": entry["prior"],
      "random": entry["random"],
    }
    lines.append(f"grounding: {name}, split {entry['split']}")
    for title, item in maps.items():
      if item:
        cells = [
          f"{metric} {_figure(item['macro'][metric])}"
          for metric in wording.GROUNDING
        ]
        lines.append(f"  {title:16}" + "   ".join(cells))
  similarity = run.metrics.get("similarity")
  if similarity:
    cells = [
      f"{name.replace('_', ' ')} {_figure(similarity[name])}"
      for name in ("near_zero", "token_entropy", "patch_entropy", "row_cosine")
    ]
    lines.append(f"similarities: {similarity['pairs']} pairs")
    lines.append("  " + "   ".join(cells))
  return "\n".join(lines)


def summary(runs: Sequence[runs_lib.Run]) -> str:
  """Returns one line a run as plain text: scores, entropies and speed.

  Entropies (nats) are those of the last validation, the cosine between tokens'
  rows of similarities that of the last logged training batch, and milliseconds
  a step the median over what was logged. What a run has not is "-". Below stand
  the runs that were not measured alike.
  """
  names = list(
    dict.fromkeys(n for run in runs for n in run.metrics["benchmarks"])
  )
  heads = ["token entropy", "patch entropy", "row cosine", "ms a step"]
  rows = [["", *names, *heads]]
  for run in runs:
    entries = [run.metrics["benchmarks"].get(name) for name in names]
    values = [entry and entry["macro_auroc"]["value"] for entry in entries]
    values += [
      _last(run.curves, "valid/token_entropy"),
      _last(run.curves, "valid/patch_entropy"),
      _last(run.curves, "train/row_cosine"),
    ]
    cells = [wording.number(value) for value in values]
    rates = [
      row["train/pairs_per_second"]
      for row in run.curves
      if "train/pairs_per_second" in row
    ]
    step = "-"
    if rates and run.config:
      step = f"{1e3 * run.config['train']['batch_size'] / np.median(rates):.0f}"
    rows.append([run.name, *cells, step])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  lines = [
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  ]
  for name in names:
    entries = [(run, run.metrics["benchmarks"].get(name)) for run in runs]
    entries = [(run, entry) for run, entry in entries if entry]
    notes = protocols.notes(entries, prompts=True)
    lines += [f"{name}: {note}" for note in notes]
  return "\n".join(lines)


def _figure(item: Mapping[str, float | None] | float | None) -> str:
  if isinstance(item, Mapping) or item is None:
    return wording.interval(item)
  return wording.number(item)  # a chance level has no interval


def _row(cells: Sequence[str]) -> str:
  return "".join(cell.rjust(26) for cell in cells)


def _last(curves, name):
  return next((row[name] for row in reversed(curves) if name in row), None)
