"""What the penalties change: how a report's tokens match its image's patches.

All figures are of matching pairs, for a report's content tokens only. Means are
taken within a report first, so that a long one weighs no more than a short one.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from scipy import special

from tier_jax.data import shards
from tier_jax.evaluators import bootstrap, pairs, statistics, zero_shot

NUM_PAIRS = 512
NUM_BINS = 80  # of the histogram over [-1, 1]
NEAR_ZERO = 0.1  # the paper's claim is that most similarities shrink to this
# Beside the temperature of a model's own loss: the paper's, and one at which
# entropies can tell models apart whatever they were trained at.
_COMMON = {"t1": 1.0, "t0.07": 0.07}


def evaluate(
  encoder: zero_shot.Encoder,
  directory: Path,
  temperature: float,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any] | None:
  """Returns the figures of up to NUM_PAIRS held-out pairs, spread evenly.

  Args:
    encoder: to look at.
    directory: of a prepared dataset with reports.
    temperature: of the penalties in the model's loss.
    num_resamples, seed: of the bootstrap over patients.

  Returns:
    split, pairs, temperature; histogram: NUM_BINS counts over [-1, 1]; and the
    mean over reports, with its interval, of each of `measure`; None without a
    held-out split with reports.

  Raises:
    ValueError: if the directory is there but no prepared dataset, a shard is
      damaged, or no temperature.
  """
  if not temperature > 0:
    raise ValueError(f"penalty temperature is {temperature}, expected > 0")
  split = pairs.held_out(directory)
  if split is None:
    return None
  source = shards.open_split(directory, split)
  found = pairs.read(source)
  if not found:
    return None
  chosen = np.linspace(0, len(found) - 1, min(NUM_PAIRS, len(found)))
  found = [found[i] for i in np.round(chosen).astype(int)]

  temperatures = {"": temperature, **_COMMON}
  histogram = np.zeros(NUM_BINS, np.int64)
  rows: list[dict[str, float]] = []
  for images in pairs.images(
    source, [pair.place for pair in found], encoder.image_size
  ):
    _, patch_embeds = encoder.embed_images(images)
    batch = found[len(rows) : len(rows) + len(images)]
    texts = encoder.embed_texts([pair.text for pair in batch])
    for tokens, mask, patches in zip(
      texts.token_embeds, texts.token_mask, patch_embeds, strict=True
    ):
      sims = tokens[np.asarray(mask)].astype(np.float64) @ patches.T
      histogram += np.histogram(
        np.clip(sims, -1, 1), bins=NUM_BINS, range=(-1, 1)
      )[0]
      rows.append(measure(sims, temperatures))

  values = np.array([list(row.values()) for row in rows])
  draws = bootstrap.mean_draws(
    values,
    [pair.patient_id for pair in found],
    num_resamples=num_resamples,
    seed=seed,
  )
  figures = {}
  for i, name in enumerate(rows[0]):
    counted = values[~np.isnan(values[:, i]), i]
    mean = float(counted.mean()) if len(counted) else None
    figures[name] = statistics.estimate(mean, draws[:, i])
  return {
    "split": split,
    "pairs": len(found),
    "temperature": temperature,
    "histogram": histogram.tolist(),
    **figures,
  }


def measure(
  sims: np.ndarray, temperatures: Mapping[str, float]
) -> dict[str, float]:
  """Returns the figures of one pair.

  near_zero: share of the similarities below NEAR_ZERO in size.
  mean_max: mean over tokens of the largest.
  row_cosine: mean cosine between two tokens' rows; near 1 when all tokens look
    at the same patches, which is collapse however low the entropy.
  token_entropy: mean over tokens of the entropy, in nats, of the softmax over
    patches; in [0, log P].
  patch_entropy: mean over patches of that of the softmax over tokens; in
    [0, log T].
  effective_patches: mean over tokens of exp(entropy over patches): as many
    equally matched patches would have this entropy; in [1, P].
  The last three at each temperature, its name behind an underscore.

  Args:
    sims: (T, P) float64 cosines of a report's content tokens with the patches.
    temperatures: name -> divisor of the cosines, > 0; "" stands for none.

  Returns:
    Figures by name. NaN where nothing is counted: all without a token; what
    compares tokens, and both entropies as in the loss, with one alone.
  """
  empty, alone = not len(sims), len(sims) < 2
  figures = {
    "near_zero": np.nan if empty else float((abs(sims) < NEAR_ZERO).mean()),
    "mean_max": np.nan if empty else float(sims.max(axis=1).mean()),
    "row_cosine": np.nan if alone else _row_cosine(sims),
  }
  for name, temperature in temperatures.items():
    suffix = f"_{name}" if name else ""
    over_patches = over_tokens = np.array([np.nan])
    if not alone:
      over_patches = _entropy(sims / temperature, axis=1)  # (T,)
      over_tokens = _entropy(sims / temperature, axis=0)  # (P,)
    figures[f"token_entropy{suffix}"] = float(over_patches.mean())
    figures[f"patch_entropy{suffix}"] = float(over_tokens.mean())
    figures[f"effective_patches{suffix}"] = float(np.exp(over_patches).mean())
  return figures


def _entropy(logits: np.ndarray, axis: int) -> np.ndarray:
  """Entropy in nats of the softmax over an axis."""
  return special.entr(special.softmax(logits, axis=axis)).sum(axis=axis)


def _row_cosine(sims: np.ndarray) -> float:
  norms = np.linalg.norm(sims, axis=1, keepdims=True)
  rows = sims / np.maximum(norms, 1e-6)
  # The sum over pairs of unit rows is |sum of rows|^2 less the diagonal.
  together = (rows.sum(axis=0) ** 2).sum() - (rows * rows).sum()
  return float(together / (len(rows) * (len(rows) - 1)))
