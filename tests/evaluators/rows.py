"""Truth and scores of made-up rows, for what takes them from any model."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Rows:
  """What `thresholds.Rows` asks for."""

  labels: tuple[str, ...]
  image_ids: tuple[str, ...]
  patient_ids: tuple[str, ...]
  truth: np.ndarray
  scores: np.ndarray


def draw(
  seed: int,
  prefix: str,
  num_rows: int = 60,
  labels: tuple[str, ...] = ("Edema", "Fracture"),
) -> Rows:
  """Two images a patient; of all labels but the first nothing is present."""
  rng = np.random.default_rng(seed)
  truth = rng.integers(0, 2, (num_rows, len(labels)))
  truth[:, 1:] = 0
  scores = rng.normal(size=truth.shape) + truth
  return Rows(
    labels=labels,
    image_ids=tuple(f"{prefix}{i}" for i in range(num_rows)),
    patient_ids=tuple(f"{prefix}{i // 2}" for i in range(num_rows)),
    truth=truth.astype(np.int8),
    scores=np.round(scores, 1).astype(np.float32),
  )
