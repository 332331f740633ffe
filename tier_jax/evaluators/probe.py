"""A linear probe: how much do frozen image embeddings tell of the labels?

One logistic regression a label, on the embeddings in the joint space, trained
on 1, 10 and 100 % of the train split's patients.
"""

import dataclasses
from typing import Any

import numpy as np
from sklearn import linear_model, preprocessing

from tier_jax.evaluators import bootstrap, metrics, statistics, zero_shot
from tier_jax.evaluators.benchmarks import benchmark as benchmarks

SHARES = {"1%": 0.01, "10%": 0.1, "100%": 1.0}

# Of inverse regularisation, for features scaled to variance 1.
_STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclasses.dataclass(frozen=True)
class Split:
  """What is known of a split.

  Attributes:
    embeds: (N, D) float32 image embeddings.
    truth: (N, L) int8, 1 present, 0 absent, -1 not counted.
  """

  embeds: np.ndarray
  truth: np.ndarray


def evaluate(
  encoder: zero_shot.Encoder,
  evaluator: zero_shot.ZeroShot,
  *,
  kept: zero_shot.Kept | None = None,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = 0,
) -> dict[str, Any] | None:
  """Returns the macro AUROC of a benchmark for each of SHARES.

  A share is of the patients with a stated label; the smaller ones lie within
  the larger. One regularisation for all labels is chosen by macro AUROC on
  `validate`. A label of which a share holds one class alone is scored alike for
  all images, AUROC 0.5: every share is averaged over the same labels.

  Args:
    encoder: whose image embeddings are probed.
    evaluator: of the benchmark, for its labels and the split to score.
    kept: embeddings of the encoder, as `zero_shot.ZeroShot.embed` takes them.
    num_resamples: of the bootstrap over patients.
    seed: of the bootstrap and of which patients a share takes.

  Returns:
    For each share value, low, high, num_labels, and patients and strength (1 /
    regularisation) of the training; None if the dataset lacks labelled train
    or validate splits.

  Raises:
    ValueError: as `check`.
  """
  benchmark = evaluator.benchmark
  check(benchmark)
  train, validate = evaluator.sibling("train"), evaluator.sibling("validate")
  if train is None or validate is None:
    return None
  splits = [
    Split(item.embed(encoder, kept), item.unscored.truth)
    for item in (train, validate)
  ]
  embeds = evaluator.embed(encoder, kept)
  counted = [
    i
    for i, name in enumerate(evaluator.unscored.labels)
    if name not in benchmark.apart
  ]
  patients = np.array(train.unscored.patient_ids)
  labelled = np.unique(patients[(splits[0].truth != -1).any(axis=1)])
  order = np.random.default_rng(seed).permutation(labelled)
  result = {}
  for name, share in SHARES.items():
    # Rounded down, but not to none.
    chosen = order[: max(int(share * len(order)), 1)]
    rows = np.isin(patients, chosen)
    part = Split(splits[0].embeds[rows], splits[0].truth[rows])
    scores, strength = fit_and_score(part, splits[1], embeds, counted)
    summary = metrics.summarise(
      dataclasses.replace(evaluator.unscored, scores=scores),
      apart=benchmark.apart,
      num_resamples=num_resamples,
      seed=seed,
    )
    result[name] = {
      **summary["macro_auroc"],
      "patients": len(chosen),
      "strength": strength,
    }
  return result


def check(benchmark: benchmarks.Benchmark) -> None:
  """Raises ValueError if the benchmark's split is used up in training."""
  if benchmark.split in ("train", "validate"):
    raise ValueError(
      f"benchmark {benchmark.name!r}: the split {benchmark.split!r} is used in "
      "training a probe, expected another to score"
    )


def fit_and_score(
  train: Split, validate: Split, embeds: np.ndarray, counted: list[int]
) -> tuple[np.ndarray, float]:
  """Returns scores of images, and the strength that was best on `validate`.

  Args:
    train: to fit on; what is not counted for a label is left out.
    validate: to choose on.
    embeds: (N, D) of the images to score.
    counted: the labels whose mean AUROC on `validate` decides.

  Returns:
    scores: (N, L) float32 log odds; 0 for a label of which `train` holds one
      class alone.
    strength: of the smallest of equal ones.
  """
  scaler = preprocessing.StandardScaler().fit(train.embeds)
  features = scaler.transform(train.embeds)
  others = [scaler.transform(validate.embeds), scaler.transform(embeds)]
  num_labels = train.truth.shape[1]
  best = -np.inf, 0.0, np.zeros((len(embeds), num_labels), np.float32)
  for strength in _STRENGTHS:
    # Of validate, and of the images to score.
    scores = [np.zeros((len(x), num_labels), np.float32) for x in others]
    for i in range(num_labels):
      rows = train.truth[:, i] != -1
      truth = train.truth[rows, i]
      if len(np.unique(truth)) < 2:
        continue
      model = linear_model.LogisticRegression(C=strength, max_iter=1000)
      model.fit(features[rows], truth)
      for x, column in zip(others, scores, strict=True):
        column[:, i] = model.decision_function(x)
    areas = [
      statistics.auroc(validate.truth[:, i], scores[0][:, i]) for i in counted
    ]
    mean, _ = statistics.macro(areas)
    if (0.0 if mean is None else mean) > best[0]:
      best = 0.0 if mean is None else mean, strength, scores[1]
  _, strength, scores = best
  return scores, strength
