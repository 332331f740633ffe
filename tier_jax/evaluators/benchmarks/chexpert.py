"""CheXpert: five labels that radiologists gave to 500 studies.

Irvin et al., CheXpert, AAAI 2019: the competition's five labels. The test set's
labels are of a study and apply to each of its images, frontal and lateral.
Validation serves to choose checkpoints and weights, so it is no result.
"""

import dataclasses

from tier_jax.evaluators.benchmarks import benchmark

TEST = benchmark.Benchmark(
  name="chexpert",
  dataset="chexpert",
  labels=(
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Pleural Effusion",
  ),
  study_level=True,
)

VALIDATE = dataclasses.replace(TEST, split="validate", study_level=False)
