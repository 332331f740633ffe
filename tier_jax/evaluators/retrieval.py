"""Retrieval: does an image find its report among a split's, and back?

A study's report is one candidate text, so that a study counts once however many
images it has. Right answers are those of the own study, and of every study
whose text says the same (`texts.normalise`): "No acute process." belongs to
many. Figures depend on how many candidates there are: compare them only over
the same split.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.data import shards, texts
from tier_jax.evaluators import bootstrap, pairs, statistics, zero_shot

CUTS = (1, 5, 10)

_BLOCK = 256  # queries against all candidates at a time
_BATCH = 1024  # texts embedded at a time
# Cosines closer than this are tied: float32 does not tell them apart.
_TIE = 1e-6


def evaluate(
  encoder: zero_shot.Encoder,
  directory: Path,
  split: str,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any] | None:
  """Returns recall at CUTS both ways, with 95 % intervals.

  A query scores 1 at k if a right answer is among its k nearest. Ties are
  broken at random, and what is expected of that is scored: a model that embeds
  all alike scores chance.

  Args:
    encoder: to score.
    directory: of a prepared dataset with reports.
    split: whose images, no laterals, and reports are matched.
    num_resamples, seed: of the bootstrap over the queries' patients; the
      candidates stay.

  Returns:
    split, images, studies; image_to_text and text_to_image: recall@k each and
    median_rank, of the best right answer; chance: the same recalls of a random
    order, both ways. None if the split is not there or has no report.

  Raises:
    ValueError: if the directory is there but no prepared dataset, or a shard
      is damaged.
  """
  if split not in shards.splits(directory):
    return None
  source = shards.open_split(directory, split)
  found = pairs.read(source)
  if not found:
    return None
  studies = list({pair.study_id: pair for pair in found}.values())
  image_embeds = np.concatenate(
    [
      encoder.embed_image_vectors(images)
      for images in pairs.images(
        source, [pair.place for pair in found], encoder.image_size
      )
    ]
  )
  text_embeds = _embed_texts(encoder, [pair.text for pair in studies])
  meanings: dict[str, int] = {}
  image_meanings, text_meanings = (
    np.array(
      [
        meanings.setdefault(texts.normalise(pair.text), len(meanings))
        for pair in rows
      ]
    )
    for rows in (found, studies)
  )
  image_side = image_embeds, image_meanings
  text_side = text_embeds, text_meanings
  result: dict[str, Any] = {
    "split": split,
    "images": len(found),
    "studies": len(studies),
  }
  chance = {}
  for name, queries, candidates, rows in (
    ("image_to_text", image_side, text_side, found),
    ("text_to_image", text_side, image_side, studies),
  ):
    above, tied, right = search(*queries, *candidates)
    hits = recalls(above, tied, right)
    draws = bootstrap.mean_draws(
      hits,
      [pair.patient_id for pair in rows],
      num_resamples=num_resamples,
      seed=seed,
    )
    result[name] = {
      f"recall@{k}": statistics.estimate(float(hits[:, i].mean()), draws[:, i])
      for i, k in enumerate(CUTS)
    }
    # Of `right` among `tied` at random, the first is expected here.
    ranks = above + (tied + 1) / (right + 1)
    result[name]["median_rank"] = float(np.median(ranks))
    counts = np.bincount(candidates[1], minlength=len(meanings))[queries[1]]
    random = recalls(
      np.zeros_like(counts), np.full_like(counts, len(candidates[1])), counts
    )
    means = random.mean(axis=0).tolist()
    chance[name] = {
      f"recall@{k}": mean for k, mean in zip(CUTS, means, strict=True)
    }
  return {**result, "chance": chance}


def search(
  query_embeds: np.ndarray,
  query_meanings: np.ndarray,
  candidate_embeds: np.ndarray,
  candidate_meanings: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns where each query's nearest right answer stands.

  Held at a time are the cosines of a block of queries with all candidates.

  Args:
    query_embeds: (Q, D) unit rows.
    query_meanings: (Q,) int.
    candidate_embeds: (C, D) unit rows.
    candidate_meanings: (C,) int; an equal one is right, and each query has one.

  Returns:
    above: (Q,) how many candidates are nearer than the nearest right one.
    tied: (Q,) how many are as near, itself among them.
    right: (Q,) how many of those are right.
  """
  results = []
  for start in range(0, len(query_embeds), _BLOCK):
    block = slice(start, start + _BLOCK)
    cosines = query_embeds[block] @ candidate_embeds.T
    levels = np.rint(cosines / _TIE).astype(np.int32)  # (block, C)
    own = query_meanings[block, None] == candidate_meanings[None]
    least = np.iinfo(np.int32).min
    best = np.where(own, levels, least).max(axis=1, keepdims=True)
    tied = levels == best
    results.append(
      [
        (levels > best).sum(axis=1),
        tied.sum(axis=1),
        (tied & own).sum(axis=1),
      ]
    )
  above, tied, right = np.concatenate(results, axis=1)
  return above, tied, right


def recalls(
  above: np.ndarray, tied: np.ndarray, right: np.ndarray
) -> np.ndarray:
  """Returns the probability of a right answer among the first CUTS.

  The `tied` ones stand in random order behind those `above`.

  Args:
    above, tied, right: (Q,) as of `search`, right >= 1.

  Returns:
    (Q, len(CUTS)) float64 in [0, 1].
  """
  columns = []
  for k in CUTS:
    missed = np.ones(len(above))
    for place in range(k):
      # The place after `above` and `drawn` others of the tied, all wrong.
      drawn = place - above
      there = (drawn >= 0) & (drawn < tied)
      wrong = np.maximum(tied - right - drawn, 0)
      left = np.where(there, tied - drawn, 1)
      missed *= np.where(there, wrong / left, 1)
    columns.append(1 - missed)
  return np.stack(columns, axis=1)


def _embed_texts(
  encoder: zero_shot.Encoder, words: Sequence[str]
) -> np.ndarray:
  """Returns (N, D); equal texts are embedded once, and so exactly alike."""
  unique, index = np.unique(np.array(words, dtype=object), return_inverse=True)
  embeds = np.concatenate(
    [
      encoder.embed_texts(unique[start : start + _BATCH].tolist()).text_embeds
      for start in range(0, len(unique), _BATCH)
    ]
  )
  return embeds[index]
