"""Retrieval of reports by images and of images by reports."""

from collections.abc import Sequence

from tier_jax.evaluators import protocols, wording
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_DIRECTIONS = {
  "image_to_text": "image to report",
  "text_to_image": "report to image",
}
_RECALLS = ("recall@1", "recall@5", "recall@10")


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns a table of recall at 1, 5 and 10 beside chance."""
  parts = [(run, run.metrics.get("retrieval")) for run in runs]
  parts = [(run, part) for run, part in parts if part]
  if not parts:
    return []
  first = parts[0][1]
  rows = []
  for key, title in _DIRECTIONS.items():
    for i, (run, part) in enumerate(parts):
      item = part[key]
      rows.append(
        markup.row(
          [
            title if i == 0 else "",
            palette.name(run, runs),
            *(markup.interval(item.get(recall)) for recall in _RECALLS),
            wording.number(item.get("median_rank"), places=1),
          ]
        )
      )
  for key, title in _DIRECTIONS.items():
    chance = first["chance"][key]
    cells = [wording.number(chance.get(recall)) for recall in _RECALLS]
    rows.append(markup.row([f"<em>chance, {title}</em>", "", *cells, ""]))
  body = (
    f"<p>{first['images']} images and the reports of {first['studies']} "
    f"studies of split {markup.text(first['split'])}. Recall at k: how often "
    "one of the k nearest is of the same study or says the same.</p>"
  )
  body += markup.warnings(protocols.notes(parts, prompts=False))
  head = ["Query", "Run", *(f"Recall at {r[7:]}" for r in _RECALLS)]
  body += markup.table([*head, "Median rank"], rows)
  return [markup.Section("Retrieval", body)]
