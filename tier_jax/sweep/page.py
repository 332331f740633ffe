"""What a search found, as a page that fetches nothing."""

import html
from collections.abc import Sequence
from typing import Any

from tier_jax.evaluators import figures

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 sans-serif; margin: 2rem auto; max-width: 64rem;
  padding: 0 1rem; color: #1e293b }}
img {{ max-width: 100% }}
table {{ border-collapse: collapse }}
th, td {{ padding: 0.2rem 1rem 0.2rem 0; text-align: left }}
</style>
<h1>{title}</h1>
<p>{count} of {num_trials} trials, by {metric} on validation.</p>
{images}
<table>{rows}</table>
</html>
"""


def render(rows: Sequence[dict[str, Any]], num_trials: int) -> str:
  """Returns the page: every weight against score, the table, the best first.

  Args:
    rows: as `search.Sweep.rows` returns them, at least one.
    num_trials: that there are to be.
  """
  columns = {name: [row[name] for row in rows] for name in rows[0]}
  score = columns["score"]
  token, patch = "token_entropy_weight", "patch_entropy_weight"
  images = [
    figures.scatter(
      columns[x], columns[y], score, x_label=x, y_label=y, score_label="score"
    )
    for x, y in ((token, patch), (token, "score"), (patch, "score"))
  ]
  lines = ["".join(f"<th>{name}</th>" for name in rows[0])]
  for row in sorted(rows, key=lambda row: -row["score"]):
    cells = {**row, "score": f"{row['score']:.4f}"}.values()
    escaped = (html.escape(str(cell)) for cell in cells)
    lines.append("".join(f"<td>{cell}</td>" for cell in escaped))
  return _PAGE.format(
    title="Search for the penalty weights",
    count=len(rows),
    num_trials=num_trials,
    metric=html.escape(rows[0]["metric"]),
    images="\n".join(f'<img src="{image}" alt="">' for image in images),
    rows="\n".join(f"<tr>{line}</tr>" for line in lines),
  )
