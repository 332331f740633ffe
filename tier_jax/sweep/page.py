"""What a search found, as a page that fetches nothing."""

from collections.abc import Sequence
from typing import Any

from tier_jax.evaluators import figures
from tier_jax.evaluators.sections import markup


def render(rows: Sequence[dict[str, Any]], num_trials: int) -> str:
  """Returns the page: every weight against score, the table, the best first.

  Args:
    rows: as `search.Sweep.rows` returns them, at least one.
    num_trials: that there are to be.
  """
  columns = {name: [row[name] for row in rows] for name in rows[0]}
  score = columns["score"]
  token, patch = "token_entropy_weight", "patch_entropy_weight"
  pictures = [
    markup.figure(
      f"{y} over {x}",
      figures.scatter(
        columns[x], columns[y], score, x_label=x, y_label=y, score_label="score"
      ),
    )
    for x, y in ((token, patch), (token, "score"), (patch, "score"))
  ]
  lines = []
  for row in sorted(rows, key=lambda row: -row["score"]):
    cells = {**row, "score": f"{row['score']:.4f}"}.values()
    lines.append(markup.row([markup.text(cell) for cell in cells]))
  table = markup.table([markup.text(name) for name in rows[0]], lines)
  return markup.page(
    "Search for the penalty weights",
    f"{len(rows)} of {num_trials} trials, by {rows[0]['metric']} on "
    "validation.",
    [
      markup.Section("Weights and scores", markup.grid("charts", pictures)),
      markup.Section("Trials, the best first", table),
    ],
  )
