"""Figures of a benchmark's scores, each with its interval, as JSON values.

An interval is {"value", "low", "high"}: 95 %, percentile, over resampled
patients; low and high are None without resamples.
"""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from tier_jax.evaluators import bootstrap, statistics, zero_shot

SEED = 0
RANKINGS = ("auroc", "average_precision")


def summarise(
  scores: zero_shot.Scores,
  *,
  apart: Collection[str] = (),
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = SEED,
) -> dict[str, Any]:
  """Returns what scores say without a threshold.

  Args:
    scores: of images or studies; patients are what is resampled.
    apart: labels that count towards no macro.
    num_resamples: 0 for no intervals (low and high are then None).
    seed: of the resampling.

  Returns:
    rows, patients: how many.
    macro_auroc, macro_average_precision: intervals with num_labels, those with
      both classes.
    labels: for each label auroc and average_precision (intervals, or None when
      it lacks a class), positives, negatives, redrawn resamples, in_macro.
  """
  draws = bootstrap.ranking_draws(
    scores.truth,
    scores.scores,
    scores.patient_ids,
    num_resamples=num_resamples,
    seed=seed,
  )
  labels = {}
  for i, name in enumerate(scores.labels):
    truth, column = scores.truth[:, i], scores.scores[:, i]
    labels[name] = {
      figure: statistics.estimate(
        getattr(statistics, figure)(truth, column), draws.values[figure][:, i]
      )
      for figure in RANKINGS
    }
    labels[name] |= {
      "positives": int((truth == 1).sum()),
      "negatives": int((truth == 0).sum()),
      "redrawn": int(draws.redrawn[i]),
      "in_macro": name not in apart,
    }
  return {
    "rows": len(scores.image_ids),
    "patients": len(set(scores.patient_ids)),
    **{
      f"macro_{figure}": _macro(labels, figure, draws.values[figure])
      for figure in RANKINGS
    },
    "labels": labels,
  }


def macro_draws(
  labels: Mapping[str, Mapping[str, Any]], draws: np.ndarray
) -> np.ndarray:
  """Returns (R,) means of (R, L) draws over the labels that a macro counts.

  Args:
    labels: as `summarise` returns them, in the order of the draws.
    draws: of one figure.
  """
  counted = np.array([item["in_macro"] for item in labels.values()], bool)
  available = counted & ~np.isnan(draws).all(axis=0)
  return draws[:, available].mean(axis=1) if available.any() else np.empty(0)


def _macro(
  labels: Mapping[str, Mapping[str, Any]], figure: str, draws: np.ndarray
) -> dict[str, Any]:
  value, num_labels = statistics.macro(
    [
      item[figure] and item[figure]["value"]
      for item in labels.values()
      if item["in_macro"]
    ]
  )
  low, high = statistics.interval(macro_draws(labels, draws))
  return {"value": value, "low": low, "high": high, "num_labels": num_labels}
