"""Macro AUROC by sex, age band and view."""

from collections.abc import Sequence

from tier_jax.evaluators import figures
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_KINDS = {"sex": "Sex", "age_band": "Age", "view": "View"}


def render(name: str, runs: Sequence[runs_lib.Run]) -> list[str]:
  """Returns the drawing of a benchmark's subgroups, or nothing."""
  parts = [run.metrics["benchmarks"].get(name, {}) for run in runs]
  parts = [part.get("subgroups") or {} for part in parts]
  rows, left_out = [], []
  for kind, title in _KINDS.items():
    values = dict.fromkeys(v for part in parts for v in part.get(kind) or ())
    for value in values:
      items = [(part.get(kind) or {}).get(value) or {} for part in parts]
      areas = [item.get("macro_auroc") or {} for item in items]
      words = f"{title} {value or 'not stated'}"
      if all(area.get("value") is None for area in areas):
        left_out.append(words)
        continue
      patients = next(item["patients"] for item in items if item)
      for i, (run, area) in enumerate(zip(runs, areas, strict=True)):
        rows.append(
          figures.ForestRow(
            f"{words} ({patients})" if i == 0 else "",
            area.get("value"),
            area.get("low"),
            area.get("high"),
            palette.colours(runs)[run.name],
          )
        )
  if not rows:
    return []
  note = (
    "<small>Patients in brackets; each group's own labels with both classes"
  )
  if left_out:
    note += f". Too few to say: {markup.text(', '.join(left_out))}"
  return [
    markup.figure(
      "Subgroups, macro AUROC",
      figures.forest(rows, reference=None, x_label="macro AUROC"),
      f"{note}.</small>",
    )
  ]
