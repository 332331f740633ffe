"""The CheXpert test set's readers, beside the studies that a model scored."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import bootstrap, metrics, readers, zero_shot


def evaluate(
  paths: Sequence[Path],
  studies: zero_shot.Scores,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = metrics.SEED,
) -> dict[str, Any]:
  """Returns what readers called, by reader and label, with intervals.

  The files name studies by the source's ids and records by hashed ones, so
  that rows are not matched one by one: the truth of the files must be, label by
  label, that of as many studies.

  Args:
    paths: of the truth and then of each reader, who is named by the file.
    studies: by study, of the model; its truth alone is looked at.
    num_resamples, seed: of the bootstrap over patients.

  Raises:
    ValueError: if a file is not as `readers.read` wants it, a reader lacks a
      study, or the truth is of other studies.
  """
  if len(paths) < 2:
    raise ValueError(
      f"{len(paths)} files of readers, expected the truth and a reader at least"
    )
  labels = studies.labels
  names, values = readers.read(paths[0], labels)
  if not np.isin(values, (0, 1)).all():
    raise ValueError(f"{paths[0].name} holds a truth other than 0 and 1")
  ours = (studies.truth == 1).sum(axis=0).tolist()
  theirs = values.sum(axis=0).astype(int).tolist()
  if len(names) != len(studies.study_ids) or ours != theirs:
    raise ValueError(
      f"{paths[0].name} holds {len(names)} studies with {theirs} positives of "
      f"{', '.join(labels)}; the dataset {len(studies.study_ids)} with {ours}: "
      "expected the same studies"
    )
  calls = {
    path.stem: readers.align(*readers.read(path, labels), names)
    for path in paths[1:]
  }
  return readers.summarise(
    labels,
    values.astype(np.int8),
    calls,
    [name.rpartition("/")[0] for name in names],  # .../PATIENT/STUDY
    num_resamples=num_resamples,
    seed=seed,
  )
