"""The parts of the inspection page that show pictures."""

import collections
import html
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from data_prep import markup, survey
from tier_jax.data import records

_TILES = 16  # a sheet: with a dozen sheets the page stays below 3 MB
_TILE, _LARGE_TILE = 168, 256  # pixels of the longer side
_CASES = 6
_GREY_SAMPLE = 200  # images a view
_GREY_BINS = 64
_SIZES = 8

# Two image ids and how many bits of their perceptual hashes differ.
Pair = tuple[str, str, int]


def sheets(data_dir: Path, counts: survey.Survey) -> str:
  """Contact sheets by split and view."""
  parts = []
  for name, split in counts.splits.items():
    for view in records.VIEWS:
      places = split.places.get(view, [])
      if not places:
        continue
      tiles = [
        markup.tile(record, _TILE, _present(record.labels))
        for record in survey.read_at(data_dir, survey.spread(places, _TILES))
      ]
      parts.append(
        f"<h3>{html.escape(name)}, {view} "
        f"<small>{len(tiles)} of {len(places):,}</small></h3>"
        f'<div class="sheet">{"".join(tiles)}</div>'
      )
  return (
    "<h2>Contact sheets</h2><p>Bones bright, the heart on the image's right, "
    "nothing cut off, no text burned in? Below each: the labels stated "
    "present.</p>" + "".join(parts)
  )


def outlines(data_dir: Path, counts: survey.Survey) -> str:
  """Images with their boxes and masks."""
  parts = []
  for name, split in counts.splits.items():
    if not split.outlined:
      continue
    tiles = []
    for record in survey.read_at(
      data_dir, survey.spread(split.outlined, _TILES // 2)
    ):
      names = [label for label, _ in (*record.boxes, *record.masks)]
      tiles.append(
        markup.tile(record, _LARGE_TILE, ", ".join(dict.fromkeys(names)), True)
      )
    named = "; ".join(
      f"{kind}: "
      + ", ".join(f"{label} {n:,}" for label, n in found.most_common())
      for kind, found in (("boxes", split.boxes), ("masks", split.masks))
      if found
    )
    parts.append(
      f"<h3>{html.escape(name)} <small>{len(tiles)} of "
      f"{len(split.outlined):,} images</small></h3>"
      f"<p>{html.escape(named)}</p>"
      f'<div class="sheet large">{"".join(tiles)}</div>'
    )
  if not parts:
    return ""
  return (
    "<h2>Boxes and masks</h2><p>Boxes are green, masks orange. Does each sit "
    "on its finding?</p>" + "".join(parts)
  )


def near_duplicates(
  data_dir: Path, pairs: Sequence[Pair], places: Mapping[str, survey.Place]
) -> str:
  """Returns pairs of images across splits that look alike, side by side.

  Args:
    data_dir: the dataset.
    pairs: of images; those that no record has are left out.
    places: image id -> where the record lies.
  """
  blocks = []
  for image_id, other_id, distance in pairs:
    if image_id not in places or other_id not in places:
      continue
    both = [places[image_id], places[other_id]]
    tiles = "".join(
      markup.tile(record, _TILE, record.image_id[: markup.ID_DIGITS])
      for record in survey.read_at(data_dir, both)
    )
    blocks.append(
      f'<div class="pair"><b>{html.escape(str(distance))} of 64 bits differ</b>'
      f'<div class="sheet">{tiles}</div></div>'
    )
  if not blocks:
    return ""
  return (
    "<h2>Alike across splits</h2><p>The pairs whose perceptual hashes differ "
    "least. Chest radiographs are much alike: is it one picture, or one "
    f'patient?</p><div class="cards">{"".join(blocks)}</div>'
  )


def cases(data_dir: Path, counts: survey.Survey) -> str:
  """A few records whole: picture, text, labels."""
  with_text = [name for name, split in counts.splits.items() if split.texts]
  blocks = []
  for name in with_text:
    places = survey.spread(
      counts.splits[name].texts, max(1, _CASES // len(with_text))
    )
    for record in survey.read_at(data_dir, places):
      texts = "".join(
        f"<p><b>{section}</b><br>{html.escape(getattr(record, section))}</p>"
        for section in survey.SECTIONS
        if getattr(record, section)
      )
      blocks.append(
        f'<div class="case">{markup.tile(record, _LARGE_TILE, "")}<div>'
        f"<small>{html.escape(name)}, {markup.describe(record)}</small>{texts}"
        f"<p><small>{html.escape(_stated(record.labels))}</small></p></div>"
        "</div>"
      )
  if not blocks:
    return ""
  return (
    "<h2>Examples</h2><p>Does the text speak of the picture, and do the labels "
    "say what the text says?</p>" + "".join(blocks)
  )


def pictures(data_dir: Path, counts: survey.Survey) -> str:
  """Sizes and grey values."""
  sizes: collections.Counter[tuple[int, int]] = collections.Counter()
  places: dict[str, list[survey.Place]] = {}
  for split in counts.splits.values():
    sizes.update(split.sizes)
    for view, found in split.places.items():
      places.setdefault(view, []).extend(found)
  total = sizes.total()
  rows = [
    f"<tr><th>{width} x {height}</th><td>{markup.share(count, total)}</td>"
    f"<td>{markup.bar([(count, markup.ACCENT)], total)}</td></tr>"
    for (width, height), count in sorted(
      sizes.items(), key=lambda item: (-item[1], item[0])
    )[:_SIZES]
  ]
  shorter = sorted({min(size) for size in sizes})
  extent = " to ".join(map(str, dict.fromkeys((shorter[0], shorter[-1]))))
  greys, rows_of_greys = [], []
  for view, colour in zip(records.VIEWS, markup.COLOURS, strict=True):
    if view not in places:
      continue
    sample = survey.read_at(data_dir, survey.spread(places[view], _GREY_SAMPLE))
    levels = np.mean([_grey_levels(record.image) for record in sample], axis=0)
    greys.append((view, colour, levels.reshape(_GREY_BINS, -1).sum(axis=1)))
    rows_of_greys.append(
      f"<tr><th>{view}</th><td>{len(sample)}</td>"
      f"<td>{levels @ np.arange(256):.0f}</td><td>{levels[0]:.1%}</td>"
      f"<td>{levels[255]:.1%}</td></tr>"
    )
  charts = _aspect_chart(counts) + markup.chart(
    "Grey values: share of pixels",
    np.linspace(0, 256, _GREY_BINS + 1),
    greys,
    # A black border must not flatten the rest.
    top=max(1.25 * heights[1:-1].max() for _, _, heights in greys),
  )
  grey_head = "<th>View</th><th>Images</th><th>Mean grey value</th>"
  grey_head += "<th>Pixels at 0</th><th>Pixels at 255</th>"
  head = "<th>Width x height, most common first</th><th>Images</th><th></th>"
  return (
    f"<h2>Pictures</h2><p>Different sizes: {len(sizes):,}. Shorter side, in "
    f"pixels: {extent}. Grey values are means over images spread evenly; a "
    "black border may stand out of the chart.</p>"
    f'<div class="charts">{charts}</div>'
    f"{markup.table(grey_head, rows_of_greys)}{markup.table(head, rows)}"
  )


def _grey_levels(image: np.ndarray) -> np.ndarray:
  """Returns (256,) the share of the pixels at each level."""
  return np.bincount(image.ravel(), minlength=256) / image.size


def _aspect_chart(counts: survey.Survey) -> str:
  edges = np.linspace(0.5, 1.6, 45)
  lines = []
  for (name, split), colour in zip(
    counts.splits.items(), markup.COLOURS, strict=False
  ):
    ratios = np.array([width / height for width, height in split.sizes])
    heights, _ = np.histogram(
      np.clip(ratios, edges[0], edges[-1]),
      edges,
      weights=list(split.sizes.values()),
    )
    lines.append((name, colour, heights / split.records))
  return markup.chart("Width over height: share of images", edges, lines)


def _present(labels: Mapping[str, int]) -> str:
  return ", ".join(name for name, value in labels.items() if value == 1)


def _stated(labels: Mapping[str, int]) -> str:
  words = {1: "present", 0: "absent", -1: "uncertain"}
  return "; ".join(
    f"{word}: {', '.join(names)}"
    for value, word in words.items()
    if (names := [name for name, found in labels.items() if found == value])
  )
