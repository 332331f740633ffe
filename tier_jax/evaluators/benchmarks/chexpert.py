"""CheXpert: labels that radiologists gave to 500 studies.

Irvin et al., CheXpert, AAAI 2019. The test set's labels are of a study and
apply to each of its images, frontal and lateral. Validation serves to choose
checkpoints, weights and thresholds, so it is no result.

Labels: the competition's five (`chexpert`), or all fourteen (`chexpert_14`), of
which "No Finding" stands apart: it is the absence of most of the others.
Unit: image, and study. Prompts: prompts.json. Scoring: difference.
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

TEST_14 = dataclasses.replace(
  TEST,
  name="chexpert_14",
  labels=(
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Enlarged Cardiomediastinum",
    "Fracture",
    "Lung Lesion",
    "Lung Opacity",
    "No Finding",
    "Pleural Effusion",
    "Pleural Other",
    "Pneumonia",
    "Pneumothorax",
    "Support Devices",
  ),
  apart=("No Finding",),
)
