"""Linear probes on frozen image features."""

from collections.abc import Sequence

from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns a table of macro AUROC by the share of labels used."""
  parts = [run.metrics.get("probe") or {} for run in runs]
  names = dict.fromkeys(name for part in parts for name in part)
  shares = list(
    dict.fromkeys(s for part in parts for item in part.values() for s in item)
  )
  rows = []
  for name in names:
    found = [
      (run, part[name])
      for run, part in zip(runs, parts, strict=True)
      if part.get(name)
    ]
    for i, (run, item) in enumerate(found):
      title = markup.text(name) if i == 0 else ""
      cells = [markup.interval(item.get(share)) for share in shares]
      rows.append(markup.row([title, palette.name(run, runs), *cells]))
  if not rows:
    return []
  body = (
    "<p>Macro AUROC of a logistic regression on the frozen image embedding, "
    "trained on a share of the labelled patients.</p>"
  )
  head = [f"{markup.text(share)} of labels" for share in shares]
  body += markup.table(["Benchmark", "Run", *head], rows)
  return [markup.Section("Linear probe", body)]
