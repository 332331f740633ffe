"""Open-i, the Indiana University collection: terms that reports are indexed by.

Demner-Fushman et al., JAMIA 2016: 3,955 reports with 7,470 images. A program
indexed each report; of its terms data_prep makes the eighteen labels of Cohen
et al., TorchXRayVision, MIDL 2022 (Apache-2.0), 1 or 0. "Granuloma" holds the
calcified ones too. Others score all reports; here it is the split `test`, a
tenth, so that a model may train on the rest.

Labels: the eighteen. Unit: image. Prompts: prompts.json. Scoring: difference.
"""

from tier_jax.evaluators.benchmarks import benchmark

TEST = benchmark.Benchmark(
  name="open_i",
  dataset="open_i",
  labels=(
    "Atelectasis",
    "Calcified Granuloma",
    "Cardiomegaly",
    "Edema",
    "Effusion",
    "Emphysema",
    "Fibrosis",
    "Fracture",
    "Granuloma",
    "Hernia",
    "Infiltration",
    "Lung Lesion",
    "Lung Opacity",
    "Mass",
    "Nodule",
    "Pleural_Thickening",
    "Pneumonia",
    "Pneumothorax",
  ),
)
