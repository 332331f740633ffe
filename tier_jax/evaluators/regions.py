"""Where findings lie in an image as a model sees it, and asking for them."""

import dataclasses
import re
from collections.abc import Iterator

import cv2
import numpy as np

from tier_jax.data import records, shards, transforms
from tier_jax.evaluators import prompts

# A finding's side is told where its parts lie clear of the midline.
_RIGHT, _LEFT = 0.45, 0.55
SIDES = ("left", "right")


@dataclasses.dataclass(frozen=True)
class Item:
  """One finding of one image, and where it lies.

  Attributes:
    finding: as the record names it.
    phrase: the sentence that asks for it.
    mask: (S, S) bool, with some pixels inside.
  """

  finding: str
  phrase: str
  mask: np.ndarray


def outlined(source: shards.Shards) -> list[int]:
  """Returns the places of the records that carry boxes or masks."""
  return [i for i in range(len(source)) if records.read_outlined(source[i])]


def read(
  source: shards.Shards, size: int
) -> Iterator[tuple[records.Record, list[Item]]]:
  """Yields the records of a split with a finding that is outlined in view.

  Args:
    source: the split.
    size: S, the side of the model's images.
  """
  for place in outlined(source):
    record = records.decode(source[place])
    found = [
      Item(finding, phrase(finding, side(mask)), mask)
      for finding, mask in of_record(record, size).items()
    ]
    if found:
      yield record, found


def of_record(record: records.Record, size: int) -> dict[str, np.ndarray]:
  """Returns for each finding with boxes or masks where it lies, (S, S) bool.

  All of a finding's boxes and masks count together; findings come in order of
  their names. One that lies outside the view is left out.

  Args:
    record: with boxes and masks as stored.
    size: S, the side of the model's images.
  """
  found: dict[str, np.ndarray] = {}
  for name, mask in record.masks:
    _add(found, name, transforms.eval_mask(mask, size))
  for name, box in record.boxes:
    shown = transforms.eval_boxes(np.array(box), record.image.shape, size)[0]
    _add(found, name, of_box(shown, size))
  return {name: found[name] for name in sorted(found) if found[name].any()}


def of_box(box: np.ndarray, size: int) -> np.ndarray:
  """Returns the pixels whose centres lie in a box, (S, S) bool.

  Args:
    box: (4,) x0, y0, x1, y1 in pixels.
    size: S.
  """
  x0, y0, x1, y1 = np.ceil(np.asarray(box, np.float64) - 0.5).astype(int)
  mask = np.zeros((size, size), bool)
  mask[max(y0, 0) : y1, max(x0, 0) : x1] = True
  return mask


def side(mask: np.ndarray) -> str:
  """Returns the patient's side on which all parts of a mask lie, "" if none.

  The image's left is the patient's right, as radiographs are read. A part is
  what hangs together; its centre of mass must lie clear of the midline.

  Args:
    mask: (S, S) bool.
  """
  _, _, _, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
  x = (centres[1:, 0] + 0.5) / mask.shape[1]  # the first is what lies outside
  if len(x) and (x < _RIGHT).all():
    return "right"
  return "left" if len(x) and (x > _LEFT).all() else ""


def phrase(finding: str, own_side: str) -> str:
  """Returns the sentence that asks for a finding, of its positive prompts.

  It is the longest that names the side, else the longest that names none, else
  the longest. A report's own sentence would say as much.

  Args:
    finding: a name, as for prompts.
    own_side: one of SIDES, or "".
  """
  sentences = sorted(prompts.for_label(finding).positive, key=len, reverse=True)
  words = {s: set(re.findall(r"\w+", s.lower())) for s in sentences}
  named = [s for s in sentences if own_side in words[s]]
  neutral = [s for s in sentences if not words[s].intersection(SIDES)]
  return (named or neutral or sentences)[0]


def _add(found: dict[str, np.ndarray], name: str, mask: np.ndarray) -> None:
  found[name] = found[name] | mask if name in found else mask
