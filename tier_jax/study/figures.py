"""Which figures of an evaluation a study compares, and where each stands."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from tier_jax.evaluators import wording

# The dataset whose outlined findings are pointed at.
GROUNDED = "mimic_cxr"


@dataclasses.dataclass(frozen=True)
class Figure:
  """A number of metrics.json.

  Attributes:
    title: shown to readers.
    group: the figures drawn on one axis, by what it counts.
    path: keys to its interval.
  """

  title: str
  group: str
  path: tuple[str, ...]


_SCORED = "zero-shot and retrieval"
_GROUNDING = "grounding"
_SIMILARITY = "similarities"
_ENTROPY = "entropies (nats)"
_PATCHES = "effective patches"


def _figures() -> dict[str, Figure]:
  found = {
    "chexpert_auroc": Figure(
      "CheXpert macro AUROC",
      _SCORED,
      ("benchmarks", "chexpert", "macro_auroc"),
    ),
    "padchest_auroc": Figure(
      "PadChest macro AUROC",
      _SCORED,
      ("benchmarks", "padchest", "macro_auroc"),
    ),
    "image_to_text": Figure(
      "recall@1, image to text",
      _SCORED,
      ("retrieval", "image_to_text", "recall@1"),
    ),
    "text_to_image": Figure(
      "recall@1, text to image",
      _SCORED,
      ("retrieval", "text_to_image", "recall@1"),
    ),
  }
  grounded = "grounding", GROUNDED
  for metric, title in wording.GROUNDING.items():
    found[metric] = Figure(
      title,
      _GROUNDING,
      (*grounded, "maps", "contrast", "macro", metric),
    )
  for name in ("phrase", "token"):
    found[f"{name}_pointing_game"] = Figure(
      f"pointing game, {name} alone",
      _GROUNDING,
      (*grounded, "maps", name, "macro", "pointing_game"),
    )
  found["above_prior"] = Figure(
    "pointing game above the prior",
    _GROUNDING,
    (*grounded, "contrast_against_prior", "pointing_game"),
  )
  for key, title in (
    ("near_zero", "share near zero"),
    ("mean_max", "a token's largest cosine"),
    ("row_cosine", "row cosine"),
  ):
    found[key] = Figure(title, _SIMILARITY, ("similarity", key))
  # At common temperatures: arms may have been trained at different ones.
  for key, title, group in (
    ("token_entropy", "token entropy", _ENTROPY),
    ("patch_entropy", "patch entropy", _ENTROPY),
    ("effective_patches", "effective patches", _PATCHES),
  ):
    for name, at in (("t1", "1"), ("t0.07", "0.07")):
      found[f"{key}_{name}"] = Figure(
        f"{title} at {at}", group, ("similarity", f"{key}_{name}")
      )
  return found


FIGURES = _figures()
# What is tested, and adjusted for being several; the others describe.
PRIMARY = ("chexpert_auroc", "pointing_game")
# Shown where many arms leave room for no more.
HEADLINE = (
  *("chexpert_auroc", "padchest_auroc", "pointing_game", "token_pointing_game"),
  *("near_zero", "row_cosine", "token_entropy_t0.07"),
)


def find(metrics: Mapping[str, Any], path: tuple[str, ...]) -> float | None:
  """Returns the value of an interval in metrics.json, None if it is not there.

  Raises:
    ValueError: if it is no finite number.
  """
  item: Any = metrics
  for key in (*path, "value"):
    if not isinstance(item, Mapping) or item.get(key) is None:
      return None
    item = item[key]
  if not isinstance(item, int | float) or not math.isfinite(item):
    raise ValueError(f"metrics.json: {'/'.join(path)} is no finite number")
  return float(item)
