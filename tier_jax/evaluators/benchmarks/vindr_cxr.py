"""VinDr-CXR: what five radiologists agreed on, the official test.

Nguyen et al., VinDr-CXR, Scientific Data 2022: 3,000 frontal images. Patients
are not named, so that each image counts as one: intervals are those of
independent images, and narrower than the truth if patients recur.

Labels: the local and global labels of the tables but "Other lesion" and "Other
disease", which no sentence can ask for; "No finding" stands apart. Several have
a handful of positives in the test set, some perhaps none: those without both
classes count in no macro. Unit: image. Prompts: prompts.json. Scoring:
difference.
"""

from tier_jax.evaluators.benchmarks import benchmark

TEST = benchmark.Benchmark(
  name="vindr_cxr",
  dataset="vindr_cxr",
  labels=(
    "Aortic enlargement",
    "Atelectasis",
    "Calcification",
    "Cardiomegaly",
    "Clavicle fracture",
    "Consolidation",
    "Edema",
    "Emphysema",
    "Enlarged PA",
    "ILD",
    "Infiltration",
    "Lung Opacity",
    "Lung cavity",
    "Lung cyst",
    "Mediastinal shift",
    "Nodule/Mass",
    "Pleural effusion",
    "Pleural thickening",
    "Pneumothorax",
    "Pulmonary fibrosis",
    "Rib fracture",
    "COPD",
    "Lung tumor",
    "Pneumonia",
    "Tuberculosis",
    "No finding",
  ),
  apart=("No finding",),
)
