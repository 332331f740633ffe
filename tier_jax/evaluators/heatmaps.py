"""Which patches of an image a sentence and its words point to.

Computed once, with the model at hand, and saved as `heatmaps.npz`, so that the
report page needs no model. Sentences are our own prompts, never a report's, so
that nothing a clinician wrote enters the file.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tier_jax.data import records, shards, transforms
from tier_jax.evaluators import pairs, regions, zero_shot

NUM_IMAGES = 6
NUM_WORDS = 3
# Words that name nothing one could point at.
_STOP_WORDS = frozenset(
  re.findall(
    r"\w+",
    "a an and are at consistent for from in is of on or present the there to "
    "with",
  )
)


@dataclasses.dataclass(frozen=True)
class Heatmaps:
  """Cosine similarities of K images with a sentence each.

  Attributes:
    images: (K, S, S) uint8, as the model sees them.
    findings, phrases: (K,) str, what is looked for and the sentence for it.
    boxes: (M, 4) float32 x0, y0, x1, y1 in pixels of `images`.
    box_image: (M,) int64, the image of each box.
    phrase_maps: (K, rows, columns) float32, mean over the sentence's tokens.
    words: (K, W) str, "" where the sentence has fewer.
    word_maps: (K, W, rows, columns) float32.
  """

  images: np.ndarray
  findings: np.ndarray
  phrases: np.ndarray
  boxes: np.ndarray
  box_image: np.ndarray
  phrase_maps: np.ndarray
  words: np.ndarray
  word_maps: np.ndarray

  def save(self, path: Path) -> None:
    """Writes an .npz file of plain arrays; equal maps give equal bytes."""
    arrays = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(self)
    }
    with path.open("wb") as file:
      np.savez_compressed(file, allow_pickle=False, **arrays)


def load(path: Path) -> Heatmaps:
  """Returns what `Heatmaps.save` wrote; nothing is ever unpickled.

  Raises:
    ValueError: if the file lacks an array.
  """
  names = [field.name for field in dataclasses.fields(Heatmaps)]
  with np.load(path, allow_pickle=False) as arrays:
    missing = set(names) - set(arrays.files)
    if missing:
      raise ValueError(f"{path.name} lacks {', '.join(sorted(missing))}")
    return Heatmaps(**{name: arrays[name] for name in names})


class Cases:
  """A few held-out images to look at, the same for every encoder.

  They are those of a dataset that carry boxes (its `test` split, or else
  `validate`), one a finding in turn; without any, positive images of the
  evaluators' first labels; without any of these, there are none.
  """

  def __init__(
    self,
    directory: Path,
    evaluators: Sequence[zero_shot.ZeroShot],
    image_size: int,
  ):
    """Chooses them, and decodes no others.

    Args:
      directory: of the dataset, which need not be there.
      evaluators: of the benchmarks.
      image_size: side of the encoders' images.

    Raises:
      ValueError: if the directory is there but is no prepared dataset, or a
        shard of it is damaged.
    """
    chosen = _with_boxes(directory) or _positives(evaluators)
    self._findings = [finding for _, finding in chosen]
    self._images, self._boxes, self._phrases = [], [], []
    for record, finding in chosen:
      self._images.append(transforms.eval_image(record.image, image_size))
      own = [box for name, box in record.boxes if name == finding]
      shown = transforms.eval_boxes(
        np.array(own), record.image.shape, image_size
      )
      area = (shown[:, 2] - shown[:, 0]) * (shown[:, 3] - shown[:, 1])
      self._boxes.append(shown[area > 0])
      mask = np.zeros((image_size, image_size), bool)
      for box in shown:
        mask |= regions.of_box(box, image_size)
      self._phrases.append(regions.phrase(finding, regions.side(mask)))

  def compute(self, encoder: zero_shot.Encoder) -> Heatmaps | None:
    """Returns the heat-maps of an encoder, None without any image."""
    if not self._images:
      return None
    images = np.stack(self._images)
    phrase_maps, words, word_maps = _maps(encoder, images, self._phrases)
    counts = [len(boxes) for boxes in self._boxes]
    return Heatmaps(
      images=images,
      findings=np.array(self._findings),
      phrases=np.array(self._phrases),
      boxes=np.concatenate(self._boxes).astype(np.float32),
      box_image=np.repeat(np.arange(len(counts)), counts),
      phrase_maps=phrase_maps,
      words=words,
      word_maps=word_maps,
    )


def _with_boxes(directory: Path) -> list[tuple[records.Record, str]]:
  """Returns held-out images with boxes, no laterals, findings in turn."""
  split = pairs.held_out(directory)
  if split is None:
    return []
  source = shards.open_split(directory, split)
  by_finding: dict[str, list[int]] = {}
  for place in range(len(source)):
    facts = records.read_facts(source[place])
    if facts.view != "lateral":
      for name in {name for name, _ in facts.boxes}:
        by_finding.setdefault(name, []).append(place)
  return [
    (records.decode(source[place]), finding)
    for place, finding in _in_turn(by_finding)
  ]


def _positives(
  evaluators: Sequence[zero_shot.ZeroShot],
) -> list[tuple[records.Record, str]]:
  """Returns positive images of the first benchmark's labels, in turn."""
  for evaluator in evaluators:
    if chosen := _in_turn(evaluator.positives()):
      return [(evaluator.record(row), label) for row, label in chosen]
  return []


def _in_turn(by_finding: Mapping[str, Sequence[int]]) -> list[tuple[int, str]]:
  """Returns up to NUM_IMAGES places, none twice, findings taking turns."""
  chosen: dict[int, str] = {}
  queues = {name: iter(places) for name, places in sorted(by_finding.items())}
  while queues and len(chosen) < NUM_IMAGES:
    for name in list(queues):
      place = next((p for p in queues[name] if p not in chosen), None)
      if place is None:
        del queues[name]
      elif len(chosen) < NUM_IMAGES:
        chosen[place] = name
  return list(chosen.items())


def _maps(
  encoder: zero_shot.Encoder, images: np.ndarray, phrases: Sequence[str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns phrase maps, words and word maps, as `Heatmaps` describes them."""
  _, patch_embeds = encoder.embed_images(images)
  texts = encoder.embed_texts(phrases)
  sims = np.einsum("ktd,kpd->ktp", texts.token_embeds, patch_embeds)
  count, _, num_patches = sims.shape
  words = np.full((count, NUM_WORDS), "", dtype="<U32")
  word_maps = np.zeros((count, NUM_WORDS, num_patches), np.float32)
  phrase_maps = np.zeros((count, num_patches), np.float32)
  for k in range(count):
    counted = np.flatnonzero(texts.token_mask[k])
    if len(counted):
      phrase_maps[k] = sims[k, counted].mean(axis=0)
    groups = _words(texts.tokens[k], texts.token_mask[k])
    for w, (word, positions) in enumerate(groups[:NUM_WORDS]):
      words[k, w] = word
      word_maps[k, w] = sims[k, positions].mean(axis=0)
  grid = encoder.grid
  return (
    phrase_maps.reshape(count, *grid),
    words,
    word_maps.reshape(count, NUM_WORDS, *grid),
  )


def _words(
  tokens: Sequence[str], mask: np.ndarray
) -> list[tuple[str, list[int]]]:
  """Returns the words worth pointing at, with the positions of their pieces.

  A piece that starts with "##" continues the word before it.
  """
  groups: list[tuple[str, list[int]]] = []
  for position, token in enumerate(tokens):
    if not mask[position]:
      continue
    if token.startswith("##") and groups:
      word, positions = groups[-1]
      groups[-1] = word + token[2:], [*positions, position]
    else:
      groups.append((token, [position]))
  return [
    (word, positions)
    for word, positions in groups
    if re.search(r"\w", word) and word.lower() not in _STOP_WORDS
  ]
