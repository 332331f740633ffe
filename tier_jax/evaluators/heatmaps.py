"""Which patches of an image a sentence and its words point to.

Computed once, with the model at hand, and saved as `heatmaps.npz`, so that the
report page needs no model. Sentences are our own prompts, never a report's, so
that nothing a clinician wrote enters the file.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from tier_jax.data import loader, records, transforms
from tier_jax.evaluators import prompts, zero_shot

NUM_IMAGES = 6
NUM_WORDS = 3
_NUM_PAIRS = 64  # image-report pairs in the histogram
_NUM_BINS = 80
_NEAR_ZERO = 0.1  # the paper's claim is that most similarities shrink to this
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
    histogram: (B,) int64, counts over [-1, 1] of the similarities of report
      tokens with the patches of their own images; all 0 without reports.
    near_zero: () float64, share of those below 0.1 in size; NaN without any.
    mean_max: () float64, mean over tokens of the largest; NaN without any.
  """

  images: np.ndarray
  findings: np.ndarray
  phrases: np.ndarray
  boxes: np.ndarray
  box_image: np.ndarray
  phrase_maps: np.ndarray
  words: np.ndarray
  word_maps: np.ndarray
  histogram: np.ndarray
  near_zero: np.ndarray
  mean_max: np.ndarray

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

  They are those of `data_dir`/mimic_cxr that carry boxes (its `test` split, or
  else `validate`), one a finding in turn; without any, positive images of the
  evaluators' first labels; without any of these, there are none.
  """

  def __init__(
    self,
    data_dir: Path,
    evaluators: Sequence[zero_shot.ZeroShot],
    image_size: int,
  ):
    """Chooses them, and reports for the histogram, once.

    Args:
      data_dir: root of the prepared datasets.
      evaluators: of the benchmarks.
      image_size: side of the encoders' images.
    """
    held_out = list(_held_out(data_dir))
    self._pairs = [
      (transforms.eval_image(r.image, image_size), r.impression or r.findings)
      for r in held_out
      if r.impression or r.findings
    ][:_NUM_PAIRS]
    chosen = _with_boxes(held_out) or _positives(evaluators)
    self._findings = [finding for _, finding in chosen]
    self._images, self._boxes = [], []
    for record, finding in chosen:
      self._images.append(transforms.eval_image(record.image, image_size))
      own = [box for name, box in record.boxes if name == finding]
      shown = transforms.eval_boxes(
        np.array(own), record.image.shape, image_size
      )
      area = (shown[:, 2] - shown[:, 0]) * (shown[:, 3] - shown[:, 1])
      self._boxes.append(shown[area > 0])
    self._phrases = [
      _phrase(finding, own, image_size)
      for finding, own in zip(self._findings, self._boxes, strict=True)
    ]

  def compute(self, encoder: zero_shot.Encoder) -> Heatmaps | None:
    """Returns the heat-maps of an encoder, None without any image."""
    if not self._images:
      return None
    images = np.stack(self._images)
    phrase_maps, words, word_maps = _maps(encoder, images, self._phrases)
    histogram, near_zero, mean_max = _similarities(encoder, self._pairs)
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
      histogram=histogram,
      near_zero=np.array(near_zero),
      mean_max=np.array(mean_max),
    )


def _held_out(data_dir: Path) -> Iterator[records.Record]:
  """Yields records, no laterals, with boxes or, the first few, with a report.

  They are of the first held-out split of mimic_cxr that there is.
  """
  pairs = 0
  for split in ("test", "validate"):
    try:
      source = loader.open_split(data_dir / "mimic_cxr", split)
    except ValueError:
      continue  # the benchmark's own images do
    for i in range(len(source)):
      record = records.decode(source[i])
      if record.view == "lateral":
        continue
      pairs += bool(record.impression or record.findings)
      if record.boxes or pairs <= _NUM_PAIRS:
        yield record
    return


def _with_boxes(
  held_out: Sequence[records.Record],
) -> list[tuple[records.Record, str]]:
  """Returns images with boxes and a finding of each, findings in turn."""
  by_finding: dict[str, list[records.Record]] = {}
  for record in held_out:
    for name in sorted({name for name, _ in record.boxes}):
      by_finding.setdefault(name, []).append(record)
  return _in_turn(by_finding)


def _positives(
  evaluators: Sequence[zero_shot.ZeroShot],
) -> list[tuple[records.Record, str]]:
  """Returns positive images of the first benchmark's labels, in turn."""
  for evaluator in evaluators:
    by_label: dict[str, list[records.Record]] = {}
    for label, rows in evaluator.positives().items():
      by_label[label] = [evaluator.record(i) for i in rows[:NUM_IMAGES]]
    if chosen := _in_turn(by_label):
      return chosen
  return []


def _in_turn(
  by_finding: dict[str, list[records.Record]],
) -> list[tuple[records.Record, str]]:
  """Returns up to NUM_IMAGES images, none twice, findings taking turns."""
  chosen: list[tuple[records.Record, str]] = []
  seen: set[str] = set()
  queues = {name: iter(rows) for name, rows in sorted(by_finding.items())}
  while queues and len(chosen) < NUM_IMAGES:
    for name in list(queues):
      record = next((r for r in queues[name] if r.image_id not in seen), None)
      if record is None:
        del queues[name]
      elif len(chosen) < NUM_IMAGES:
        seen.add(record.image_id)
        chosen.append((record, name))
  return chosen


def _phrase(finding: str, boxes: np.ndarray, size: int) -> str:
  """Returns the longest positive sentence that names the boxes' side, if any.

  The image's left is the patient's right, as radiographs are read.
  """
  centres = (boxes[:, 0] + boxes[:, 2]) / 2
  sides = {"right": centres < 0.45 * size, "left": centres > 0.55 * size}
  own = [side for side, there in sides.items() if len(boxes) and there.all()]
  sentences = sorted(prompts.for_label(finding).positive, key=len, reverse=True)
  words = [set(re.findall(r"\w+", sentence.lower())) for sentence in sentences]
  named = [
    s for s, w in zip(sentences, words, strict=True) if w.intersection(own)
  ]
  neutral = [
    s for s, w in zip(sentences, words, strict=True) if not w & set(sides)
  ]
  return (named or neutral or sentences)[0]


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


def _similarities(
  encoder: zero_shot.Encoder, pairs: Sequence[tuple[np.ndarray, str]]
) -> tuple[np.ndarray, float, float]:
  """Returns histogram, share near zero and mean maximum over report tokens."""
  histogram = np.zeros(_NUM_BINS, np.int64)
  if not pairs:
    return histogram, np.nan, np.nan
  _, patch_embeds = encoder.embed_images(
    np.stack([image for image, _ in pairs])
  )
  texts = encoder.embed_texts([text for _, text in pairs])
  sims = np.einsum("ktd,kpd->ktp", texts.token_embeds, patch_embeds)
  sims = sims[np.asarray(texts.token_mask)]  # (counted tokens, P)
  if not len(sims):
    return histogram, np.nan, np.nan
  histogram, _ = np.histogram(
    np.clip(sims, -1, 1), bins=_NUM_BINS, range=(-1, 1)
  )
  near_zero = float((np.abs(sims) < _NEAR_ZERO).mean())
  return histogram.astype(np.int64), near_zero, float(sims.max(axis=1).mean())
