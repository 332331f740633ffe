"""What can be asked about one image: where a phrase is seen, what is scored."""

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from tier_jax import image_files, inference
from tier_jax.data import transforms
from tier_jax.evaluators import overlays, prompts, zero_shot
from tier_jax.explore import index as index_lib

_PREVIEW_SIDE = 768  # pixels of the shown image's shorter side, at most


@dataclasses.dataclass(frozen=True)
class Opened:
  """An image that was read and embedded.

  Attributes:
    notes: what was done otherwise than the file says, such as "window:absent".
    preview: (H, W) uint8, to be shown.
    image_embed: (D,) float32 unit vector.
    patches: (P, D) float32, as `Encoder.embed_patches` gives them.
  """

  notes: tuple[str, ...]
  preview: np.ndarray
  image_embed: np.ndarray
  patches: np.ndarray


@dataclasses.dataclass(frozen=True)
class Score:
  """What an image got for a finding.

  Attributes:
    finding: its name.
    prompts: the sentences that were compared.
    value: in [-2, 2], as `inference.Model.score` gives it.
    rank: share of the index's images that score lower, in [0, 1]; None without
      an index.
  """

  finding: str
  prompts: prompts.Prompts
  value: float
  rank: float | None


@dataclasses.dataclass(frozen=True)
class Display:
  """How an image is shown; the model sees none of it.

  Attributes:
    centre, width: of the window on grey levels 0 to 255.
    opacity: of the heat-map where it is highest, in [0, 1].
  """

  centre: float = 128.0
  width: float = 256.0
  opacity: float = 0.55


class Explorer:
  """A model, and perhaps an index of what it is to be compared with.

  Attributes:
    model: restored.
    index: None if nothing was indexed.
  """

  def __init__(
    self, model: inference.Model, index: index_lib.Index | None = None
  ):
    """Keeps the vectors of the sentences that were asked about last."""
    self.model = model
    self.index = index
    self._encoder = model.encoder.in_batches_of(1)
    self._direction = functools.lru_cache(64)(self._embed_direction)
    self._classes = functools.lru_cache(8)(self._embed_classes)

  def open(self, path: str | Path) -> Opened:
    """Reads a DICOM, PNG or JPEG, as data_prep does, and embeds it.

    Raises:
      ValueError: if it cannot be used; says why, and nothing of what it holds.
      OSError: if no process can be started that reads it.
    """
    with image_files.Reader(
      [str(path)],
      self._encoder.image_size,
      self.model.rendering,
      preview_side=_PREVIEW_SIDE,
      num_workers=1,
    ) as reader:
      picture = next(reader)
    if picture.square is None or picture.preview is None:
      raise ValueError(
        f"it cannot be read ({picture.reason}), expected a DICOM, PNG or JPEG "
        "of one x-ray"
      )
    square = picture.square[None]
    return Opened(
      picture.notes,
      picture.preview,
      self._encoder.embed_image_vectors(square)[0],
      self._encoder.embed_patches(square)[0],
    )

  def similarity(
    self, opened: Opened, phrase: str, denial: str = ""
  ) -> np.ndarray:
    """Returns where a phrase is seen, (rows, columns) float32.

    Args:
      opened: the image.
      phrase: a sentence, whose cosine with each patch it is.
      denial: a sentence that denies it; given, it is what each patch adds to
        the score, as `inference.Model.similarity_map` has it.

    Raises:
      ValueError: if the phrase is empty.
    """
    direction = self._direction(phrase, denial)
    patches = opened.patches
    if not denial:
      norms = np.linalg.norm(patches, axis=1, keepdims=True)
      patches = patches / np.maximum(norms, 1e-6)
    return (patches @ direction).reshape(self._encoder.grid)

  def draw(
    self,
    opened: Opened,
    similarity: np.ndarray | None,
    display: Display,
  ) -> np.ndarray:
    """Returns an image under a heat-map, or alone, as (H, W, 3) uint8 BGR."""
    grey = window(opened.preview, display.centre, display.width)
    if similarity is None:
      return cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR)
    level = transforms.eval_map(
      overlays.levels(similarity), grey.shape, self._encoder.image_size
    )
    return overlays.paint(grey, level, display.opacity)

  def score(
    self, opened: Opened, asked: Mapping[str, prompts.Prompts]
  ) -> list[Score]:
    """Returns what an image gets for findings, in their order."""
    classes = self._classes(tuple(asked.items()))
    (values,) = zero_shot.score(opened.image_embed[None], classes)
    ranks: list[float | None] = [None] * len(asked)
    if self.index is not None:
      others = zero_shot.score(self.index.vectors.image_embeds, classes)
      ranks = (others < values).mean(axis=0).tolist()
    return [
      Score(name, sentences, float(value), rank)
      for (name, sentences), value, rank in zip(
        asked.items(), values, ranks, strict=True
      )
    ]

  def _embed_direction(self, phrase: str, denial: str) -> np.ndarray:
    vectors = self.model.embed_texts([phrase, *filter(None, [denial])])
    return vectors[0] - vectors[1] if denial else vectors[0]

  def _embed_classes(self, asked) -> np.ndarray:
    return self.model.embed_classes(dict(asked))


def window(image: np.ndarray, centre: float, width: float) -> np.ndarray:
  """Returns (H, W) uint8 with [centre - width / 2, centre + width / 2] spread.

  Args:
    image: (H, W) uint8.
    centre, width: in grey levels; the width is 1 at least.
  """
  width = max(width, 1.0)
  levels = (np.arange(256) + 0.5 - (centre - width / 2)) / width * 256 - 0.5
  table = np.clip(np.round(levels), 0, 255).astype(np.uint8)
  return table[image]


def parse_findings(text: str) -> dict[str, prompts.Prompts]:
  """Returns the sentences of findings, as they are typed.

  A finding a line; below it, sentences that state it begin with "+" and those
  that deny it with "-". One without sentences has those of `prompts.for_label`.

  Raises:
    ValueError: if there is none, one stands twice, has sentences on one side
      only, or a sentence stands above all findings.
  """
  found: dict[str, dict[str, list[str]]] = {}
  sides: dict[str, list[str]] | None = None
  for line in filter(None, map(str.strip, text.splitlines())):
    side = {"+": "positive", "-": "negative"}.get(line[0])
    if side is None:
      if line in found:
        raise ValueError(f"finding {line!r} stands twice")
      sides = found[line] = {"positive": [], "negative": []}
    elif sides is None:
      raise ValueError(
        f"the sentence {line!r} stands above all findings, expected the name "
        "of one first"
      )
    else:
      sides[side].append(line[1:].strip())
  named = {
    name: sides if any(sides.values()) else prompts.for_label(name)
    for name, sides in found.items()
  }
  return prompts.parse(named)


def format_findings(asked: Mapping[str, prompts.Prompts]) -> str:
  """Returns what `parse_findings` reads."""
  blocks = (
    "\n".join(
      [
        name,
        *(f"+ {text}" for text in sentences.positive),
        *(f"- {text}" for text in sentences.negative),
      ]
    )
    for name, sentences in asked.items()
  )
  return "\n\n".join(blocks)
