"""What the penalties change: similarities of a report's tokens and patches."""

from collections.abc import Sequence

import numpy as np

from tier_jax.evaluators import figures, protocols, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_COLLAPSE = 0.99  # mean cosine of tokens' rows: all look at the same patches
_MEASURES = {
  "near_zero": "Share below 0.1 in size",
  "mean_max": "A token's largest",
  "row_cosine": "Row cosine",
}
_ENTROPIES = {  # title and decimals
  "token_entropy": ("Token entropy (nats)", 3),
  "patch_entropy": ("Patch entropy (nats)", 3),
  "effective_patches": ("Effective patches", 1),
}
_TEMPERATURES = {"": "its own", "_t1": "1", "_t0.07": "0.07"}


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns distributions laid over one another, and a table of measures."""
  parts = [(run, run.metrics.get("similarity")) for run in runs]
  parts = [(run, part) for run, part in parts if part]
  if not parts:
    return []
  counts = {
    run.name: np.asarray(part["histogram"], np.float64) for run, part in parts
  }
  colours = [palette.colours(runs)[name] for name in counts]
  first = parts[0][1]
  body = (
    f"<p>Every token of {first['pairs']} held-out reports (split "
    f"{markup.text(first['split'])}) against every patch of its own image. The "
    "penalties are meant to gather a token's similarity in few patches. "
    "Row cosine is how alike the tokens' rows are. Effective patches: as many "
    "equally matched ones would have a token's entropy.</p>"
  )
  body += markup.warnings(protocols.notes(parts, prompts=False))
  for run, part in parts:
    value = (part.get("row_cosine") or {}).get("value")
    if value is not None and value > _COLLAPSE:
      body += markup.verdict(
        f"{palette.name(run, runs)}: collapse. A row cosine of "
        f"{wording.number(value)} means that all tokens look at the same "
        "patches, whatever they say."
      )
  picture = figures.histogram(counts, colours)
  measures = markup.table(
    ["Run", *_MEASURES.values()],
    [
      markup.row(
        [
          palette.name(run, runs),
          *(markup.interval(part.get(key)) for key in _MEASURES),
        ]
      )
      for run, part in parts
    ],
  )
  body += palette.legend(runs) + markup.grid(
    "charts",
    [
      markup.figure("Cosine similarities", picture),
      f"<div>{measures}</div>",
    ],
  )
  body += _entropies(parts, runs)
  return [markup.Section("Token-to-patch similarity", body)]


def _entropies(parts, runs) -> str:
  """A table of what depends on the temperature of the softmax."""
  rows = []
  for suffix, title in _TEMPERATURES.items():
    found = [
      (run, part) for run, part in parts if part.get(f"token_entropy{suffix}")
    ]
    for i, (run, part) in enumerate(found):
      cells = [
        markup.interval(part.get(key + suffix), places=places)
        for key, (_, places) in _ENTROPIES.items()
      ]
      own = "" if suffix or "temperature" not in part else part["temperature"]
      name = palette.name(run, runs)
      if own:
        name += f" ({own:g})"
      rows.append(markup.row([title if i == 0 else "", name, *cells]))
  head = ["Loss temperature", "Run", *(name for name, _ in _ENTROPIES.values())]
  return markup.table(head, rows)
