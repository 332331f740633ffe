"""Results to one self-contained HTML page, for one run or several.

The page fetches nothing and runs nothing: its pictures are data URIs, and every
text that came from data is escaped. Each part of metrics.json has its section;
one that a run lacks is not shown.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tier_jax.evaluators import protocols, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import (
  classification,
  gallery,
  grounding,
  markup,
  palette,
  probe,
  record,
  retrieval,
  similarity,
  training,
)


def write(
  path: Path,
  runs: Sequence[runs_lib.Run],
  deltas: Mapping[str, Mapping[str, Any]],
) -> None:
  """Writes the page; several runs stand side by side.

  Heat-maps appear for the runs whose directory holds `heatmaps.npz`. Of more
  than four runs, only macro figures are drawn; name them GROUP/SEED to give a
  group one colour.

  Args:
    path: of the page.
    runs: at least one.
    deltas: as `differences.of_runs` gives them, or none.

  Raises:
    ValueError: if there is no run, or a file of one is not the one that was
      evaluated.
  """
  if not runs:
    raise ValueError("runs is empty, expected at least one")
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text(render(runs, deltas), "utf-8")


def render(
  runs: Sequence[runs_lib.Run],
  deltas: Mapping[str, Mapping[str, Any]],
) -> str:
  """Returns the page that `write` writes."""
  sections = [
    *classification.summary(runs, deltas),
    *classification.render(runs, deltas),
    *grounding.render(runs, deltas),
    *similarity.render(runs),
    *retrieval.render(runs),
    *probe.render(runs),
    *gallery.render(runs),
    *training.render(runs),
    *record.render(runs),
  ]
  names = [run.name for run in runs]
  if not palette.few(runs):
    names = list(dict.fromkeys(map(palette.group, runs)))
  return markup.page(
    f"Chest x-ray evaluation: {wording.listing(names)}",
    _protocol(runs),
    sections,
    items=[_about(run, runs) for run in runs],
  )


def _protocol(runs: Sequence[runs_lib.Run]) -> str:
  """Says how the scores came about."""
  words = (
    "Zero-shot: images are scored by whether they lie nearer to sentences that "
    "state a finding than to sentences that deny it. Intervals are 95 %, over "
    "patients."
  )
  # A model whose scores were handed in as a table followed no prompts of ours.
  tables = [
    run.name
    for run in runs
    if None
    in [e.get("scoring", "") for e in run.metrics["benchmarks"].values()]
  ]
  if tables:
    words += f" The scores of {wording.listing(tables)} were made elsewhere."
  if not protocols.same_code(runs):
    words += " Different versions of the code evaluated the runs."
  return words


def _about(run: runs_lib.Run, runs: Sequence[runs_lib.Run]) -> str:
  """A line of the header: the run's name, step and parameters."""
  words = [f"<b>{palette.name(run, runs)}</b>"]
  facts = run.metrics
  if facts.get("step") is not None:
    words.append(f"step {markup.text(facts['step'])}")
  if palette.few(runs) and record.params_words(run):
    words.append(markup.text(record.params_words(run)))
  digest = (facts.get("digests") or {}).get("weights")
  digest = digest or facts.get("params_sha256")
  if digest and palette.few(runs):
    words.append(f"weights <code>{markup.text(str(digest)[:12])}</code>")
  return ", ".join(words)
