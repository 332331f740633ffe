"""RSNA Pneumonia Detection Challenge: opacities that suggest pneumonia.

Shih et al., Radiology: Artificial Intelligence 2019. The labels of the
challenge's own test set are not public: these are its labelled images, of which
a hash of the patient makes a tenth `validate` and a fifth `test`.

Labels: "Pneumonia", which is the challenge's target; "No Finding", its class
"Normal", stands apart. The class between them, "No Lung Opacity / Not Normal",
is neither. All are images of NIH ChestX-ray14: a model trained on that set has
seen them. Unit: image. Prompts: prompts.json. Scoring: difference.
"""

from tier_jax.evaluators.benchmarks import benchmark

TEST = benchmark.Benchmark(
  name="rsna",
  dataset="rsna",
  labels=("Pneumonia", "No Finding"),
  apart=("No Finding",),
)
