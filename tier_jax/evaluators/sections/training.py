"""Training curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tier_jax.evaluators import figures
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

# Shown first and in this order; the others are folded away.
_TITLES = {
  "loss": "Total loss (nats)",
  "contrastive_loss": "Contrastive loss (nats)",
  "token_entropy": "Token entropy over patches (nats)",
  "patch_entropy": "Patch entropy over tokens (nats)",
  "macro_auroc": "Zero-shot macro AUROC, validation",
  "logit_scale": "Logit scale (log)",
}


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns the training's curves, none without any."""
  panels: dict[str, list[figures.Line]] = {}
  for i, run in enumerate(runs):
    colour = palette.colours(runs)[run.name]
    entry = palette.entry(run, runs)
    for key in dict.fromkeys(key for row in run.curves for key in row):
      split, _, name = key.partition("/")
      if split not in ("train", "valid") or name.endswith("_gap"):
        continue
      x, y = _series(run.curves, key)
      if not len(x):
        continue
      title = "macro_auroc" if name.endswith("/macro_auroc") else name
      valid = split == "valid"
      label = f"{entry} validation" if entry and valid else entry
      lines = panels.setdefault(title, [])
      lines.append(figures.Line(label, x, y, colour, dashed=valid))
      gap_x, gap = _series(run.curves, f"{key}_gap")
      if i == 0 and len(gap) and len(gap) == len(y):
        lines.append(
          figures.Line("ceiling", gap_x, y + gap, figures.GREY, True)
        )
  if not panels:
    return []
  first = [name for name in _TITLES if name in panels]
  others = sorted(set(panels) - set(first))
  body = (
    "<p>Entropies are drawn with their ceilings, log of the number of patches "
    "and of tokens: at temperature 1 cosines can lower them by no more than "
    "0.475 nats.</p>" + _grid(first, panels)
  )
  if others:
    body += markup.details(f"More curves: {len(others)}", _grid(others, panels))
  return [markup.Section("Training", body)]


def _grid(
  names: Sequence[str], panels: Mapping[str, Sequence[figures.Line]]
) -> str:
  return markup.grid(
    "curves",
    [
      markup.figure(
        _TITLES.get(name, name), figures.chart(panels[name], x_label="step")
      )
      for name in names
    ],
  )


def _series(
  rows: Sequence[Mapping[str, Any]], key: str
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the steps and values of what was logged and is finite."""
  points = [
    (row["step"], row[key])
    for row in rows
    if isinstance(row.get(key), int | float) and math.isfinite(row[key])
  ]
  array = np.array(points, np.float64).reshape(-1, 2)
  return array[:, 0], array[:, 1]
