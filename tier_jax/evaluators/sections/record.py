"""Where the figures come from: digests, settings and configurations."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

# Shown as sections of their own.
_PARTS = ("benchmarks", "retrieval", "grounding", "similarity", "probe")
_PARAMS = {
  "ema": "the moving average (EMA) of the parameters",
  "raw": "the parameters themselves, not their moving average",
}
# A local path and the folder that it lies in: a page that is passed on should
# not tell whose machine it was made on. Addresses such as gs:// stay.
_FOLDER = re.compile(r"(?:(?<![\w:/.])~?/|\b[A-Za-z]:\\)(?:[^\s/\\=,]+[/\\])+")


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns a table of facts a run, and its configuration folded away."""
  rows = []
  for run in runs:
    facts = {k: v for k, v in run.metrics.items() if k not in _PARTS}
    for i, (name, value) in enumerate(_flat(facts)):
      title = palette.name(run, runs) if i == 0 else ""
      if name == "params":
        value = _PARAMS.get(value, value)
      words = markup.text(_without_folders(str(value)))
      rows.append(
        markup.row([title, markup.text(name), f"<code>{words}</code>"])
      )
    for name, entry in run.metrics["benchmarks"].items():
      digest = markup.text(entry["data_manifest_sha256"])
      rows.append(
        markup.row(
          ["", f"manifest of {markup.text(name)}", f"<code>{digest}</code>"]
        )
      )
  table = markup.table(["Run", "What", "Value"], rows)
  if not palette.few(runs):
    table = markup.details(f"Facts of {len(runs)} runs", table)
  configs = "".join(
    markup.details(
      f"Configuration of {run.name}",
      "<pre><code>"
      f"{markup.text(json.dumps(_shown(run.config), indent=2))}</code></pre>",
    )
    for run in runs
    if run.config
  )
  return [markup.Section("Where the figures come from", table + configs)]


def params_words(run: runs_lib.Run) -> str:
  """Returns which parameters were scored, in words; "" when not known."""
  kind = run.metrics.get("params")
  return "" if kind is None else str(_PARAMS.get(kind, kind))


def _flat(facts: Mapping[str, Any], above: str = "") -> Iterator[Any]:
  """Yields the name and value of each fact, those in others by both names."""
  for name, value in facts.items():
    if isinstance(value, Mapping):
      yield from _flat(value, f"{above}{name}: ")
    elif value is not None:
      yield above + name, value


def _shown(value: Any) -> Any:
  """Returns a configuration with local folders left out."""
  if isinstance(value, Mapping):
    return {name: _shown(item) for name, item in value.items()}
  if isinstance(value, list):
    return [_shown(item) for item in value]
  return _without_folders(value) if isinstance(value, str) else value


def _without_folders(words: str) -> str:
  return _FOLDER.sub("", words)
