"""Results to one self-contained HTML page, for one run or several.

The page fetches nothing and runs nothing: its pictures are data URIs, its style
stands in report.html, and every text that came from data is escaped.
"""

import html
import json
import math
import string
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import (
  figures,
  heatmaps,
  overlays,
  results,
  statistics,
)

_MAX_ROCS = 12  # panels a benchmark, the labels with most positives
_FIRST_CURVES = (
  "loss",
  "contrastive_loss",
  "token_entropy",
  "patch_entropy",
  "macro_auroc",
  "logit_scale",
)
_CURVE_TITLES: dict[str, str] = {
  "loss": "Total loss (nats)",
  "contrastive_loss": "Contrastive loss (nats)",
  "token_entropy": "Token entropy over patches (nats)",
  "patch_entropy": "Patch entropy over tokens (nats)",
  "macro_auroc": "Zero-shot macro AUROC, validation",
  "logit_scale": "Logit scale (log)",
}


def write(
  path: Path,
  runs: Sequence[results.Run],
  deltas: Mapping[str, Mapping[str, Any]],
) -> None:
  """Writes the page; several runs stand side by side.

  Heat-maps appear for the runs whose directory holds `heatmaps.npz`.

  Args:
    path: of the page.
    runs: at least one.
    deltas: what `results.differences` gave for them.

  Raises:
    ValueError: if there is no run.
  """
  if not runs:
    raise ValueError("runs is empty, expected at least one")
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(render(runs, deltas), "utf-8")


def render(
  runs: Sequence[results.Run], deltas: Mapping[str, Mapping[str, Any]]
) -> str:
  """Returns the page that `write` writes."""
  package = resources.files("tier_jax.evaluators")
  page = string.Template((package / "report.html").read_text("utf-8"))
  names = " and ".join(run.name for run in runs)
  maps = {
    run.name: heatmaps.load(run.directory / "heatmaps.npz")
    for run in runs
    if (run.directory / "heatmaps.npz").is_file()
  }
  sections = (
    _cards(runs, deltas),
    _tables(runs, deltas),
    _curves(runs),
    _rocs(runs),
    _histogram(maps),
    _cases(maps),
    _provenance(runs),
  )
  return page.substitute(
    title=html.escape(f"Zero-shot chest x-ray evaluation: {names}"),
    subtitle=(
      "Images are scored by whether they lie nearer to sentences that state a "
      "finding than to sentences that deny it; no label was trained on. "
      "Intervals are 95 %, over patients."
    ),
    runs="".join(
      f"<li>{_dot(i)}<b>{html.escape(run.name)}</b>, step "
      f"{html.escape(str(run.metrics.get('step', '?')))}, parameters <code>"
      f"{html.escape(str(run.metrics.get('params_sha256', '?'))[:12])}</code>"
      "</li>"
      for i, run in enumerate(runs)
    ),
    body="\n".join(sections),
  )


def _cards(runs, deltas) -> str:
  """The macro AUROC of each benchmark, large."""
  cards = []
  for name, entry in _benchmarks(runs):
    lines = []
    for i, run in enumerate(runs):
      item = _macro(run, name)
      if item is None or item["value"] is None:
        lines.append(f'<div class="big">{_dot(i)}not available</div>')
        continue
      low, high = item["low"], item["high"]
      bounds = f"{low:.3f} to {high:.3f}" if low is not None else ""
      lines.append(
        f'<div class="big">{_dot(i)}<b>{item["value"]:.3f}</b>'
        f"<span>{bounds}</span></div>"
      )
    if deltas.get(name, {}).get("macro"):
      text = results.interval_text(deltas[name]["macro"], sign=True)
      lines.append(f"<small>difference {html.escape(text)}</small>")
    count = entry["macro_auroc"]["num_labels"]
    labels = "label" if count == 1 else "labels"
    cards.append(
      f'<div class="card"><h3>{html.escape(name)}</h3><small>macro AUROC over '
      f"{count} {labels}, {_rows(entry)}</small>{''.join(lines)}</div>"
    )
  return f'<h2>Results</h2><div class="cards">{"".join(cards)}</div>'


def _tables(runs, deltas) -> str:
  """AUROC of every label with its interval."""
  parts = []
  for name, entry in _benchmarks(runs):
    heads = [run.name for run in runs]
    if name in deltas:
      heads.append(f"{runs[0].name} - {runs[1].name}")
    head = "".join(f"<th>{html.escape(text)}</th>" for text in heads)
    rows, missing = [], []
    for label, item in entry["labels"].items():
      counts = f"{item['positives']} / {item['negatives']}"
      if item["auroc"] is None:
        missing.append(f"{label} ({counts})")
        continue
      areas = [_label(run, name, label) for run in runs]
      delta = deltas[name]["labels"][label] if name in deltas else None
      rows.append(_table_row(label, counts, areas, delta, name in deltas))
    count = entry["macro_auroc"]["num_labels"]
    delta = deltas[name]["macro"] if name in deltas else None
    areas = [_macro(run, name) for run in runs]
    rows.append(
      _table_row(f"Macro of {count}", "", areas, delta, name in deltas, "macro")
    )
    parts.append(
      f"<h2>AUROC: {html.escape(name)}</h2><p>Split "
      f"{html.escape(entry['split'])}, {_rows(entry)}. Counts are of those "
      "with and without the finding; the drawing's tick is chance, 0.5.</p>"
      f'<div class="scroll"><table><thead><tr><th>Label</th><th>+ / -</th>'
      f'<th class="plot">0.4 to 1</th>{head}</tr>'
      f"</thead><tbody>{''.join(rows)}</tbody></table></div>"
    )
    if missing:
      parts.append(
        f"<details><summary>Not available: {len(missing)} labels without both "
        "classes (positive / negative)</summary>"
        f"{html.escape(', '.join(missing))}</details>"
      )
  return "".join(parts)


def _table_row(label, counts, areas, delta, with_delta, css="") -> str:
  cells = [_cell(area) for area in areas]
  if with_delta:
    cells.append(_cell(delta, sign=True))
  cells = "".join(f"<td>{cell}</td>" for cell in cells)
  return (
    f'<tr class="{css}"><th>{html.escape(label)}</th><td>{counts}</td>'
    f'<td class="plot">{_bars(areas)}</td>{cells}</tr>'
  )


def _cell(item, sign=False) -> str:
  value, _, bounds = results.interval_text(item, sign=sign).partition(" [")
  return value + (f" <i>[{bounds}</i>" if bounds else "")


def _bars(areas) -> str:
  """A small drawing of intervals, one line a run."""
  width, step = 130, 11

  def place(value: float) -> float:
    return round((min(max(value, 0.4), 1.0) - 0.4) / 0.6 * (width - 8) + 4, 1)

  height = step * len(areas) + 3
  half = place(0.5)
  marks = [
    f'<line x1="{half}" x2="{half}" y1="0" y2="{height}" stroke="#cbd5e1"/>'
  ]
  for i, area in enumerate(areas):
    if area is None or area["value"] is None:
      continue
    y = step * i + 7
    colour = figures.run_colour(i)
    if area["low"] is not None:
      marks.append(
        f'<line x1="{place(area["low"])}" x2="{place(area["high"])}" y1="{y}" '
        f'y2="{y}" stroke="{colour}" stroke-width="3" stroke-opacity=".35" '
        'stroke-linecap="round"/>'
      )
    marks.append(
      f'<circle cx="{place(area["value"])}" cy="{y}" r="3.6" fill="{colour}"/>'
    )
  return (
    f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
    f'aria-hidden="true">{"".join(marks)}</svg>'
  )


def _curves(runs) -> str:
  """Training curves: the known ones first, the others folded away."""
  panels: dict[str, list[figures.Line]] = {}
  for i, run in enumerate(runs):
    colour = figures.run_colour(i)
    for key in dict.fromkeys(key for row in run.curves for key in row):
      split, _, name = key.partition("/")
      if split not in ("train", "valid") or name.endswith("_gap"):
        continue
      x, y = _series(run.curves, key)
      if not len(x):
        continue
      title = "macro_auroc" if name.endswith("/macro_auroc") else name
      valid = split == "valid"
      label = run.name + (" validation" if valid else "")
      panels.setdefault(title, []).append(
        figures.Line(label, x, y, colour, dashed=valid)
      )
      gap_x, gap = _series(run.curves, f"{key}_gap")
      if i == 0 and len(gap) and len(gap) == len(y):
        panels[title].append(
          figures.Line("ceiling", gap_x, y + gap, "#94a3b8", True)
        )
  if not panels:
    return ""

  def draw(names) -> str:
    return "".join(
      _figure(
        str(_CURVE_TITLES.get(name, name)),
        figures.chart(panels[name], x_label="step"),
      )
      for name in names
    )

  first = [name for name in _FIRST_CURVES if name in panels]
  others = sorted(set(panels) - set(first))
  more = ""
  if others:
    more = (
      f"<details><summary>{len(others)} more curves</summary>"
      f'<div class="charts">{draw(others)}</div></details>'
    )
  return (
    "<h2>Training</h2><p>Entropies are drawn with their ceilings, log of the "
    "number of patches and of tokens: at temperature 1 cosines can lower them "
    f"by no more than 0.475 nats.</p><div class='charts'>{draw(first)}</div>"
    + more
  )


def _series(rows, key) -> tuple[np.ndarray, np.ndarray]:
  points = [
    (row["step"], row[key])
    for row in rows
    if isinstance(row.get(key), int | float) and math.isfinite(row[key])
  ]
  array = np.array(points, np.float64).reshape(-1, 2)
  return array[:, 0], array[:, 1]


def _rocs(runs) -> str:
  """ROC curves, a panel a label."""
  parts = []
  for name, entry in _benchmarks(runs):
    scores = [
      run.scores(name) if name in run.metrics["benchmarks"] else None
      for run in runs
    ]
    available = [
      label for label, item in entry["labels"].items() if item["auroc"]
    ]
    shown = sorted(
      available, key=lambda label: -entry["labels"][label]["positives"]
    )[:_MAX_ROCS]
    panels = []
    for label in shown:
      lines = []
      for i, (run, item) in enumerate(zip(runs, scores, strict=True)):
        area = _label(run, name, label)
        if item is None or area is None:
          continue
        column = item.labels.index(label)
        x, y = statistics.roc_curve(
          item.truth[:, column], item.scores[:, column]
        )
        colour = figures.run_colour(i)
        lines.append(
          figures.Line(f"{run.name} {area['value']:.3f}", x, y, colour)
        )
      panels.append(_figure(label, figures.roc(lines)))
    if panels:
      note = ""
      if len(available) > len(shown):
        note = (
          f"<p>The {len(shown)} labels with most positives of "
          f"{len(available)}.</p>"
        )
      parts.append(
        f"<h2>ROC curves: {html.escape(name)}</h2>{note}"
        f'<div class="rocs">{"".join(panels)}</div>'
      )
  return "".join(parts)


def _histogram(maps: Mapping[str, heatmaps.Heatmaps]) -> str:
  """How many similarities lie near zero."""
  counts = {n: m.histogram for n, m in maps.items() if m.histogram.any()}
  if not counts:
    return ""
  facts = "; ".join(
    f"{name}: {maps[name].near_zero:.1%} below 0.1 in size, a token's largest "
    f"{maps[name].mean_max:.2f} on average"
    for name in counts
  )
  return (
    "<h2>Token-to-patch similarity</h2><p>Every token of held-out reports "
    "against every patch of its own image. The penalties are meant to gather a "
    f"token's similarity in few patches. {html.escape(facts)}.</p>"
    f"<div style='max-width:780px'>"
    f"{_figure('Cosine similarities', figures.histogram(counts, [figures.run_colour(i) for i in range(len(counts))]))}</div>"
  )


def _cases(maps: Mapping[str, heatmaps.Heatmaps]) -> str:
  """Heat-maps over images, one block an image, one line a run."""
  if not maps:
    return ""
  first = next(iter(maps.values()))
  blocks = []
  for k in range(len(first.images)):
    boxes = first.boxes[first.box_image == k]
    truth = "outlined: the true extent" if len(boxes) else "no box is known"
    lines = []
    for i, (name, item) in enumerate(maps.items()):
      tiles = [
        _tile(overlays.tile(item.images[k], boxes=boxes), "image", truth)
        if i == 0
        else _tile(overlays.tile(item.images[k]), "image", "without outline"),
        _map_tile(item, k, item.phrase_maps[k], boxes, "whole sentence"),
      ]
      for word, word_map in zip(item.words[k], item.word_maps[k], strict=True):
        if word:
          tiles.append(_map_tile(item, k, word_map, boxes, f"“{word}”"))
      heading = (
        f"<h3>{_dot(i)}{html.escape(name)}</h3>" if len(maps) > 1 else ""
      )
      lines.append(
        f'<div style="margin-top:12px">{heading}'
        f'<div class="row">{"".join(tiles)}</div></div>'
      )
    blocks.append(
      f'<div class="case"><h3>{html.escape(str(first.findings[k]))} '
      f"<small>“{html.escape(str(first.phrases[k]))}”</small></h3>"
      f"{''.join(lines)}</div>"
    )
  return (
    "<h2>Where the words point</h2><p>Cosine similarity of text tokens with "
    "image patches, on held-out images. Each map has its own colour scale; the "
    "numbers below it are its range. Bright means most similar. A map that "
    "misses the outlined extent did not localise the finding.</p>"
    + "".join(blocks)
  )


def _map_tile(item, k, values, boxes, caption) -> str:
  picture = overlays.tile(item.images[k], values, boxes)
  note = f"{values.min():+.2f} to {values.max():+.2f}"
  return _tile(picture, caption, note)


def _tile(uri: str, caption: str, note: str) -> str:
  text = html.escape(caption)
  return (
    f'<div><img src="{uri}" alt="{text}" loading="lazy"><b>{text}</b><br>'
    f"{html.escape(note)}</div>"
  )


def _provenance(runs) -> str:
  """Digests, settings and configurations."""
  rows = []
  for run in runs:
    facts = {k: v for k, v in run.metrics.items() if k != "benchmarks"}
    for name, entry in run.metrics["benchmarks"].items():
      facts[f"{name} data manifest sha256"] = entry["data_manifest_sha256"]
    rows += [
      f"<tr><td>{html.escape(run.name)}</td><td>{html.escape(name)}</td><td>"
      f"<code>{html.escape(_plain(value))}</code></td></tr>"
      for name, value in facts.items()
    ]
  configs = "".join(
    f"<details><summary>Configuration of {html.escape(run.name)}</summary>"
    f"<pre><code>{html.escape(json.dumps(run.config, indent=2))}</code></pre>"
    "</details>"
    for run in runs
    if run.config
  )
  return (
    "<h2>Where the figures come from</h2><div class='scroll'><table><thead>"
    "<tr><th>Run</th><th>What</th><th>Value</th></tr></thead><tbody>"
    f"{''.join(rows)}</tbody></table></div>{configs}"
  )


def _plain(value: Any) -> str:
  if isinstance(value, Mapping):
    return ", ".join(f"{name} {item}" for name, item in value.items())
  return str(value)


def _figure(caption: str, uri: str) -> str:
  text = html.escape(caption)
  return (
    f'<figure><figcaption>{text}</figcaption><img src="{uri}" alt="{text}">'
    "</figure>"
  )


def _dot(i: int) -> str:
  colour = figures.run_colour(i)
  return f'<span class="dot" style="background:{colour}"></span>'


def _benchmarks(runs) -> Iterator[tuple[str, Mapping[str, Any]]]:
  """Yields each benchmark of any run with the first run's entry for it."""
  names = dict.fromkeys(n for run in runs for n in run.metrics["benchmarks"])
  for name in names:
    yield (
      name,
      next(
        run.metrics["benchmarks"][name]
        for run in runs
        if name in run.metrics["benchmarks"]
      ),
    )


def _macro(run, name) -> Mapping[str, Any] | None:
  return run.metrics["benchmarks"].get(name, {}).get("macro_auroc")


def _label(run, name, label) -> Mapping[str, Any] | None:
  labels = run.metrics["benchmarks"].get(name, {}).get("labels", {})
  return labels.get(label, {}).get("auroc")


def _rows(entry) -> str:
  units = "studies" if entry["unit"] == "study" else "images"
  return f"{entry['rows']} {units} of {entry['patients']} patients"
