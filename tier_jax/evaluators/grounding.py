"""Grounding: does a model's map of a finding lie where the finding is?

Each finding that a record outlines is one item. It is asked for by one of our
own sentences, which names the side where the finding lies on one side only, as
the report's would. Maps of three kinds are scored: `phrase`, the cosines of the
sentence's vector with the image's patches; `token`, the mean of those of its
tokens; and `contrast`, the patches' products with the sentence less those with
the sentences that deny the finding, which is what each patch adds to the
zero-shot score where the image's vector is the patches' mean: so patches keep
their norms (the authors' own heat-maps are less that of "No Finding"). Beside
them stand what knows the finding but sees no image: `prior`, the most common
place of the finding, and `prior_of_phrase`, of what is asked for by the same
sentence, side and all; and `random`, which knows nothing.
"""

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.data import shards, transforms
from tier_jax.evaluators import (
  bootstrap,
  grounding_metrics,
  grounding_scores,
  location_prior,
  prompts,
  regions,
  zero_shot,
)
from tier_jax.evaluators.grounding_metrics import METRICS
from tier_jax.evaluators.grounding_scores import ASKED, MAPS

_BATCH = 64  # images decoded at a time


def evaluate(
  encoder: zero_shot.Encoder,
  directory: Path,
  split: str,
  scores_path: Path,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any] | None:
  """Scores all items of a split, writes them, and returns their summary.

  Args:
    encoder: to score.
    directory: of a prepared dataset.
    split: to score.
    scores_path: of the CSV to write.
    num_resamples, seed: of the bootstrap over patients.

  Returns:
    split, prior_from (the split that the priors are means of, or None),
    prior_rows (items a finding's prior is the mean of), and what
    `grounding_scores.summarise` returns; None if no record of the split
    outlines a finding in view.

  Raises:
    ValueError: if the directory is no prepared dataset, or a shard is damaged.
  """
  if split not in shards.splits(directory):
    return None
  if not regions.outlined(shards.open_split(directory, split)):
    return None  # before a search for a prior
  prior = location_prior.fit(directory, split, encoder.image_size)
  scores = score(encoder, directory, split, prior)
  if scores is None:
    return None
  grounding_scores.write(scores_path, scores)
  return {
    "split": split,
    "prior_from": prior and prior.split,
    "prior_rows": dict(prior.rows) if prior else {},
    **grounding_scores.summarise(
      scores, num_resamples=num_resamples, seed=seed
    ),
  }


def score(
  encoder: zero_shot.Encoder,
  directory: Path,
  split: str,
  prior: location_prior.LocationPrior | None,
) -> grounding_scores.Scores | None:
  """Returns the scores of all items of a split, None if none is in view.

  Args:
    encoder: to score.
    directory: of a prepared dataset.
    split: to score.
    prior: of another split; without it the priors' scores are NaN.

  Raises:
    ValueError: if the split is not there, a shard is damaged, or the prior was
      taken from the split.
  """
  if prior is not None and prior.split == split:
    raise ValueError(
      f"the location prior was taken from {split!r}, which is to be scored: "
      "expected one of another split"
    )
  source = shards.open_split(directory, split)
  ids: list[tuple[str, str, str]] = []
  values: dict[str, list[np.ndarray]] = {name: [] for name in MAPS}
  vectors: dict[str, np.ndarray] = {}
  found = regions.read(source, encoder.image_size)
  while batch := list(itertools.islice(found, _BATCH)):
    _add_vectors(vectors, encoder, [i for _, items in batch for i in items])
    batch_patches = encoder.embed_patches(
      np.stack(
        [
          transforms.eval_image(record.image, encoder.image_size)
          for record, _ in batch
        ]
      )
    )
    for (record, items), patches in zip(batch, batch_patches, strict=True):
      norms = np.linalg.norm(patches, axis=1, keepdims=True)
      unit = patches / np.maximum(norms, 1e-6)
      for item in items:
        ids.append((record.image_id, record.patient_id, item.finding))
        maps = {
          name: (seen @ vector).reshape(encoder.grid)
          for name, seen, vector in zip(
            ASKED, (unit, unit, patches), vectors[item.phrase], strict=True
          )
        }
        if prior is not None and item.finding in prior.by_finding:
          maps["prior"] = prior.by_finding[item.finding]
          # A sentence that no fitted item had tells no more than the finding.
          maps["prior_of_phrase"] = prior.by_phrase.get(
            item.phrase, maps["prior"]
          )
        for name in MAPS[:-1]:
          values[name].append(
            grounding_metrics.score(maps[name], item.mask)
            if name in maps
            else np.full(len(METRICS), np.nan)
          )
        values["random"].append(grounding_metrics.chance(item.mask))
  if not ids:
    return None
  image_ids, patient_ids, findings = zip(*ids, strict=True)
  return grounding_scores.Scores(
    image_ids=image_ids,
    patient_ids=patient_ids,
    findings=findings,
    values={name: np.stack(rows) for name, rows in values.items()},
  )


def _add_vectors(
  vectors: dict[str, np.ndarray],
  encoder: zero_shot.Encoder,
  items: Sequence[regions.Item],
) -> None:
  """Adds the (3, D) vectors of new sentences, which give the ASKED maps.

  The mean of the tokens' cosines is the cosine with their mean, unscaled.
  """
  new = {i.phrase: i.finding for i in items if i.phrase not in vectors}
  if not new:
    return
  denials = [
    zero_shot.class_embed(
      list(encoder.embed_texts(prompts.for_label(finding).negative).text_embeds)
    )
    for finding in new.values()
  ]
  texts = encoder.embed_texts(list(new))
  weights = np.asarray(texts.token_mask, np.float32)
  weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1)
  means = np.einsum("nt,ntd->nd", weights, texts.token_embeds)
  vectors.update(
    zip(
      new,
      np.stack(
        [texts.text_embeds, means, texts.text_embeds - np.stack(denials)],
        axis=1,
      ),
      strict=True,
    )
  )
