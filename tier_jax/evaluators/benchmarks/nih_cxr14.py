"""NIH ChestX-ray14: fourteen findings mined from reports, the official test.

Wang et al., ChestX-ray8, CVPR 2017: `test_list.txt`, 25,596 images of 2,797
patients. The labels were read off reports by a program, and some are known to
be wrong: figures compare models, not models with readers.

Labels: the fourteen findings; "No Finding" stands apart. Unit: image. Prompts:
prompts.json. Scoring: difference.
"""

from tier_jax.evaluators.benchmarks import benchmark

TEST = benchmark.Benchmark(
  name="nih_cxr14",
  dataset="nih_cxr14",
  labels=(
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Hernia",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
    "No Finding",
  ),
  apart=("No Finding",),
)
