"""Heat-maps over images, one block an image, one line a run."""

from collections.abc import Sequence

import numpy as np

from tier_jax.evaluators import heatmaps, overlays
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_MAX_RUNS = 4  # a picture more a word, a run and an image


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns the pictures of the runs that left `heatmaps.npz`.

  Of many runs, the first of each group.
  """
  shown = list(runs) if palette.few(runs) else palette.firsts(runs)[:_MAX_RUNS]
  maps = {
    run.name: heatmaps.load(run.directory / "heatmaps.npz")
    for run in shown
    if (run.directory / "heatmaps.npz").is_file()
  }
  if not maps:
    return []
  blocks = []
  first = next(iter(maps.values()))
  for k in range(len(first.images)):
    boxes = first.boxes[first.box_image == k]
    lines = []
    for i, run in enumerate(run for run in shown if run.name in maps):
      item = maps[run.name]
      heading = ""
      if len(maps) > 1:
        heading = f"<h4>{palette.name(run, runs)}</h4>"
      tiles = "".join(_tiles(item, k, boxes, outlined=i == 0))
      lines.append(f'{heading}<div class="row">{tiles}</div>')
    blocks.append(
      f'<div class="case"><h3>{markup.text(first.findings[k])} '
      f"<small>“{markup.text(first.phrases[k])}”</small></h3>"
      f"{''.join(lines)}</div>"
    )
  intro = (
    "<p>Cosine similarity of text tokens with image patches, on held-out "
    "images. Each map has its own colour scale; the numbers below it are its "
    "range. Bright means most similar. A map that misses the outlined extent "
    "did not localise the finding.</p>"
  )
  return [markup.Section("Where the words point", intro + "".join(blocks))]


def _tiles(
  maps: heatmaps.Heatmaps, k: int, boxes: np.ndarray, outlined: bool
) -> list[str]:
  """Returns image `k`, then its map for the sentence and for its words."""
  image = maps.images[k]
  if outlined:
    truth = "outlined: the true extent" if len(boxes) else "no box is known"
    tiles = [_tile(overlays.tile(image, boxes=boxes), "image", truth)]
  else:
    tiles = [_tile(overlays.tile(image), "image", "without outline")]
  named = [("whole sentence", maps.phrase_maps[k])]
  named += [
    (f"“{word}”", word_map)
    for word, word_map in zip(maps.words[k], maps.word_maps[k], strict=True)
    if word
  ]
  for caption, values in named:
    note = f"{values.min():+.2f} to {values.max():+.2f}"
    tiles.append(_tile(overlays.tile(image, values, boxes), caption, note))
  return tiles


def _tile(uri: str, caption: str, note: str) -> str:
  words = markup.text(caption)
  return (
    f'<div><img src="{uri}" alt="{words}" loading="lazy"><b>{words}</b><br>'
    f"{markup.text(note)}</div>"
  )
