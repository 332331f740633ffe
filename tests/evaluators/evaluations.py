"""Small evaluations on disk, for tests of what reads them."""

from tests.evaluators import datasets
from tier_jax.evaluators import results, runs, zero_shot
from tier_jax.evaluators.benchmarks import chexpert


def evaluate(tmp_path, name, levels, positive_from=5):
  """Evaluates patients as bright as `levels`; those from one on have edema."""
  rows = [
    datasets.record(
      patient,
      image=image,
      level=level + 5 * image,
      labels={
        "Edema": int(patient >= positive_from),
        "Cardiomegaly": patient % 2,
      },
    )
    for patient, level in enumerate(levels)
    for image in range(2)
  ]
  directory = datasets.write(tmp_path / name / "chexpert", {"test": rows})
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  results.evaluate(
    [evaluator],
    datasets.Encoder(),
    tmp_path / name,
    {"step": 7},
    num_resamples=200,
  )
  return runs.read(name, tmp_path / name, tmp_path / name)


GOOD = [0, 10, 20, 30, 40, 50, 60, 70, 80, 90]
POOR = [0, 50, 20, 70, 40, 10, 60, 30, 80, 90]
