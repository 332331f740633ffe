"""Scores of image files: a table that grows as they are read, and pictures."""

import collections
import csv
import dataclasses
import itertools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from data_prep import progress
from tier_jax import image_files, inference
from tier_jax.data import transforms
from tier_jax.evaluators import encoder as encoder_lib
from tier_jax.evaluators import prompts, zero_shot

OK = "ok"
_FIXED = ("path", "status", "notes")
_PREVIEW_SIDE = 512  # pixels of a heat-map's shorter side, at most


@dataclasses.dataclass(frozen=True)
class Counts:
  """How many files came to what.

  Attributes:
    scored: images with a row of scores.
    left_out: why the others have none -> how many.
  """

  scored: int
  left_out: Mapping[str, int]


def predict(
  model: inference.Model,
  paths: Mapping[str, str],
  asked: Mapping[str, prompts.Prompts],
  output: Path,
  heatmaps: Path | None = None,
) -> Counts:
  """Scores files and writes a row each.

  The table has the columns path (as it was given), status ("ok", or why there
  is no score), notes (what was done otherwise than the file says, joined by
  blanks) and then one a label, as `inference.Model.score` has them. It grows
  under the name OUTPUT.part, where what there is remains if something ends the
  work, and is renamed when it is whole.

  Args:
    model: restored.
    paths: as `image_files.find` returns them.
    asked: the sentences of each label.
    output: the .csv file; what lies there is replaced.
    heatmaps: folder for pictures, ROW_COLUMN_LABEL.png, by the table's rows and
      labels from 1: in colour, what each place adds to the score. The colours
      span each picture's own range.

  Raises:
    ValueError: if a label would be a column of the table's own.
    OSError: if something cannot be written.
  """
  if clash := set(_FIXED).intersection(asked):
    raise ValueError(
      f"prompts name a label {min(clash)!r}, which is a column of the table"
    )
  # No more than there are images: a batch is computed whole.
  batch = min(inference.BATCH_SIZE, 1 << (len(paths) - 1).bit_length())
  encoder = model.encoder.in_batches_of(batch)
  for folder in (output.parent, *filter(None, [heatmaps])):
    folder.mkdir(parents=True, exist_ok=True)
  unfinished = output.with_name(f"{output.name}.part")
  left_out: collections.Counter[str] = collections.Counter()
  scored = 0
  with (
    image_files.Reader(
      paths,
      encoder.image_size,
      model.rendering,
      preview_side=_PREVIEW_SIDE if heatmaps else 0,
      ahead=2 * batch,
    ) as reader,
    # A path that is no UTF-8 comes back as the bytes that it was.
    unfinished.open(
      "w", encoding="utf-8", errors="surrogateescape", newline=""
    ) as file,
    progress.Counter(len(paths)) as counter,
  ):
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([*_FIXED, *asked])
    classes = model.embed_classes(asked)
    row = 0
    while pictures := list(itertools.islice(reader, batch)):
      scores, maps = _score(encoder, classes, pictures, bool(heatmaps))
      for picture, cells, places in zip(pictures, scores, maps, strict=True):
        row += 1
        writer.writerow(
          [
            paths[picture.path],
            picture.reason or OK,
            " ".join(picture.notes),
            *([""] * len(asked) if cells is None else map(str, cells)),
          ]
        )
        if cells is None:
          left_out[picture.reason] += 1
          continue
        scored += 1
        if heatmaps:
          _draw(heatmaps, row, asked, picture, places, encoder.image_size)
      file.flush()
      counter.add(len(pictures))
  os.replace(unfinished, output)
  return Counts(scored, left_out)


def _score(
  encoder: encoder_lib.Encoder,
  classes: np.ndarray,
  pictures: Sequence[image_files.Picture],
  with_maps: bool,
) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
  """Returns (L,) scores and (L, rows, columns) maps of each picture."""
  scores: list[np.ndarray | None] = [None] * len(pictures)
  maps = scores.copy()
  there = {
    i: picture.square
    for i, picture in enumerate(pictures)
    if picture.square is not None
  }
  if not there:
    return scores, maps
  squares = np.stack(list(there.values()))
  values = zero_shot.score(encoder.embed_image_vectors(squares), classes)
  # With their norms: what a patch adds to the score, see evaluators.grounding.
  patches = encoder.embed_patches(squares) if with_maps else None
  for k, i in enumerate(there):
    scores[i] = values[k]
    if patches is not None:
      places = (classes[0] - classes[1]) @ patches[k].T
      maps[i] = places.reshape(-1, *encoder.grid)
  return scores, maps


def _draw(folder, row, asked, picture, maps, size) -> None:
  from tier_jax.evaluators import overlays  # matplotlib takes a second

  for column, (name, grid) in enumerate(zip(asked, maps, strict=True), 1):
    level = transforms.eval_map(
      overlays.levels(grid), picture.preview.shape, size
    )
    label = re.sub(r"[^A-Za-z0-9]+", "_", name)[:64]
    _, data = cv2.imencode(".png", overlays.paint(picture.preview, level))
    path = folder / f"{row:06d}_{column:02d}_{label}.png"
    path.write_bytes(data.tobytes())
