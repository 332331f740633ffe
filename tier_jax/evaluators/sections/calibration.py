"""Reliability: how often a stated probability comes true."""

from collections.abc import Mapping, Sequence
from typing import Any

from tier_jax.evaluators import figures, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette


def render(name: str, runs: Sequence[runs_lib.Run]) -> list[str]:
  """Returns the reliability diagram of a benchmark, or nothing."""
  lines, errors, method = [], {}, ""
  for run in runs:
    item = run.metrics["benchmarks"].get(name, {}).get("calibration")
    if not item:
      continue
    method = item["method"]
    bins = [b for b in item["bins"] if b["count"]]
    lines.append(
      figures.Line(
        palette.entry(run, runs),
        [b["confidence"] for b in bins],
        [b["frequency"] for b in bins],
        palette.colours(runs)[run.name],
      )
    )
    errors.setdefault(palette.group(run), []).append(item["ece"])
  if not lines:
    return []
  note = (
    f"<small>All labels pooled. {markup.text(method)}. Expected calibration "
    f"error: {'; '.join(_error(*e) for e in errors.items())}.</small>"
  )
  return [markup.figure("Reliability", figures.reliability(lines), note)]


def _error(name: str, items: Sequence[Mapping[str, Any]]) -> str:
  """Returns the error of a run with its interval, or those of a group."""
  if len(items) == 1:
    return markup.text(f"{name} {wording.interval(items[0])}")
  values = [item["value"] for item in items]
  return markup.text(
    f"{name} {wording.number(min(values))} to {wording.number(max(values))}"
  )
