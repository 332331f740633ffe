"""Heat-maps over images, one block an image, one line a run."""

from collections.abc import Sequence

import numpy as np

from tier_jax.evaluators import heatmaps, overlays
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import markup, palette

_MAX_RUNS = 4  # a picture more a word, a run and an image
_CASES = ("images", "findings", "phrases")  # what a block is about

# Runs that show the very same cases.
_Group = list[tuple[runs_lib.Run, heatmaps.Heatmaps]]


def render(runs: Sequence[runs_lib.Run]) -> list[markup.Section]:
  """Returns the pictures of the runs whose evaluation drew heat-maps.

  Of many runs, the first of each group. Runs that were shown other images, or
  the same ones at another size, have blocks of their own.

  Raises:
    ValueError: if a file is not the one that metrics.json speaks of.
  """
  shown = list(runs) if palette.few(runs) else palette.firsts(runs)[:_MAX_RUNS]
  groups: list[_Group] = []
  for run in shown:
    maps = run.maps()
    if maps is None:
      continue
    alike = (group for group in groups if _same_cases(group[0][1], maps))
    group = next(alike, None)
    if group is None:
      groups.append(group := [])
    group.append((run, maps))
  if not groups:
    return []
  intro = (
    "<p>Cosine similarity of text tokens with image patches, on held-out "
    "images. Each map has its own colour scale; the numbers below it are its "
    "range. Bright means most similar. A map that misses the outlined extent "
    "did not localise the finding.</p>"
  )
  if len(groups) > 1:
    intro += (
      "<p>The runs were not shown the same images at the same size: those that "
      "were stand together.</p>"
    )
  named = sum(map(len, groups)) > 1
  blocks = [
    _block(group, k, runs, named)
    for group in groups
    for k in range(len(group[0][1].images))
  ]
  return [markup.Section("Where the words point", intro + "".join(blocks))]


def _same_cases(first: heatmaps.Heatmaps, second: heatmaps.Heatmaps) -> bool:
  return all(
    np.array_equal(getattr(first, name), getattr(second, name))
    for name in _CASES
  )


def _block(
  group: _Group, k: int, runs: Sequence[runs_lib.Run], named: bool
) -> str:
  """Returns what each run of a group makes of case `k`."""
  first = group[0][1]
  lines = []
  for i, (run, maps) in enumerate(group):
    heading = f"<h4>{palette.name(run, runs)}</h4>" if named else ""
    tiles = "".join(_tiles(maps, k, outlined=i == 0))
    lines.append(f'{heading}<div class="row">{tiles}</div>')
  return (
    f'<div class="case"><h3>{markup.text(first.findings[k])} '
    f"<small>“{markup.text(first.phrases[k])}”</small></h3>"
    f"{''.join(lines)}</div>"
  )


def _tiles(maps: heatmaps.Heatmaps, k: int, outlined: bool) -> list[str]:
  """Returns image `k`, then its map for the sentence and for its words."""
  image, boxes = maps.images[k], maps.boxes[maps.box_image == k]
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
    note = f"{values.min():+z.2f} to {values.max():+z.2f}"
    tiles.append(_tile(overlays.tile(image, values, boxes), caption, note))
  return tiles


def _tile(uri: str, caption: str, note: str) -> str:
  words = markup.text(caption)
  return (
    f'<div><img src="{uri}" alt="{words}" loading="lazy"><b>{words}</b><br>'
    f"{markup.text(note)}</div>"
  )
