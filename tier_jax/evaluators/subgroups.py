"""The macro AUROC within groups of patients: sex, age, view."""

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np

from tier_jax.evaluators import metrics, zero_shot

MIN_PATIENTS = 10  # of fewer, an interval would say more than it knows


def summarise(
  scores: zero_shot.Scores,
  *,
  apart: Collection[str],
  num_resamples: int,
  seed: int,
) -> dict[str, dict[str, Any]]:
  """Returns attribute -> group -> rows, patients, macro_auroc.

  A group of fewer than `MIN_PATIENTS` patients, or in which no label has both
  classes, has None as macro_auroc. Rows whose group is unknown are in none. A
  group's macro may be over fewer labels than the whole's: num_labels says so.

  Args:
    scores: of images or studies.
    apart, num_resamples, seed: as in `metrics.summarise`.
  """
  return {
    attribute: {
      group: _group(
        _select(scores, np.asarray(values) == group), apart, num_resamples, seed
      )
      for group in sorted(set(values) - {""})
    }
    for attribute, values in scores.groups.items()
  }


def _group(scores, apart, num_resamples, seed) -> dict[str, Any]:
  patients = len(set(scores.patient_ids))
  if patients < MIN_PATIENTS:
    macro = None
  else:
    macro = metrics.summarise(
      scores, apart=apart, num_resamples=num_resamples, seed=seed
    )["macro_auroc"]
    macro = macro if macro["num_labels"] else None
  return {
    "rows": len(scores.image_ids),
    "patients": patients,
    "macro_auroc": macro,
  }


def _select(scores: zero_shot.Scores, rows: np.ndarray) -> zero_shot.Scores:
  """Returns the rows that are True."""
  kept = np.flatnonzero(rows).tolist()
  return dataclasses.replace(
    scores,
    image_ids=tuple(scores.image_ids[i] for i in kept),
    study_ids=tuple(scores.study_ids[i] for i in kept),
    patient_ids=tuple(scores.patient_ids[i] for i in kept),
    truth=scores.truth[kept],
    scores=scores.scores[kept],
    groups={
      name: tuple(values[i] for i in kept)
      for name, values in scores.groups.items()
    },
  )
