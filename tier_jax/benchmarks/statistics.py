"""The bootstrap over patients at PadChest's size: seconds and memory.

Truth and scores are drawn: several images of some patients, labels
from a third of all images down to a handful, as skewed as PadChest's. Memory is
the rise of the process's peak while the bootstrap runs, for as many resamples
as asked and for a tenth of them: flat means that the two hardly differ.
"""

import argparse
import resource
import time

import numpy as np

from tier_jax.benchmarks import rounds
from tier_jax.evaluators import bootstrap

_FLAGS = {
  "rows": (39_053, "images"),
  "patients": (22_000, "patients"),
  "labels": (192, "labels"),
  "resamples": (bootstrap.NUM_RESAMPLES, "of the patients"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  for name, (default, text) in _FLAGS.items():
    parser.add_argument(
      f"--{name}",
      type=int,
      default=default,
      help=f"{text} (default: %(default)s)",
    )


def measure(arguments: argparse.Namespace) -> dict:
  """Returns seconds and the rise of the peak memory, in MB.

  Raises:
    ValueError: if a flag is out of range.
  """
  for name in _FLAGS:
    if getattr(arguments, name) < 10:
      raise ValueError(
        f"{name} is {getattr(arguments, name)}, expected at least 10"
      )
  truth, scores, patients = draw(
    arguments.rows, arguments.patients, arguments.labels
  )
  results = {
    "machine": rounds.machine(),
    **{name: getattr(arguments, name) for name in _FLAGS},
    "positives": int(truth.sum()),
    "runs": [],
  }
  # The small run first: a peak never falls.
  for num_resamples in (arguments.resamples // 10, arguments.resamples):
    before, start = _peak_mb(), time.perf_counter()
    draws = bootstrap.ranking_draws(
      truth, scores, patients, num_resamples=num_resamples
    )
    results["runs"].append(
      {
        "resamples": num_resamples,
        "seconds": time.perf_counter() - start,
        "peak_rise_mb": _peak_mb() - before,
        "redrawn": int(draws.redrawn.sum()),
      }
    )
  return results


def table(results: dict) -> str:
  """Returns the table of what `measure` gave."""
  about = results["machine"]
  lines = [
    f"{results['rows']} images, {results['patients']} patients, "
    f"{results['labels']} labels, {results['positives']} positives, "
    f"{about['cores']} cores",
    "",
    f"{'resamples':>10}{'seconds':>10}{'peak + MB':>12}{'redrawn':>10}",
  ]
  lines += [
    f"{run['resamples']:>10}{run['seconds']:>10.1f}"
    f"{run['peak_rise_mb']:>12.0f}{run['redrawn']:>10}"
    for run in results["runs"]
  ]
  return "\n".join(lines)


def draw(
  num_rows: int, num_patients: int, num_labels: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns truth (N, L) int8, scores (N, L) float32 and patients (N,).

  Prevalence falls from 36 % (PadChest's "normal") to some 0.07 % with the
  power 1.2 of a label's rank.
  """
  rng = np.random.default_rng(0)
  num_patients = min(num_patients, num_rows)
  more = rng.integers(num_patients, size=num_rows - num_patients)
  patients = np.concatenate([np.arange(num_patients), more])
  truth = np.zeros((num_rows, num_labels), np.int8)
  for i in range(num_labels):
    share = 0.36 / (i + 1) ** 1.2
    # All images of the patients that have it, so that they cluster.
    order = rng.permutation(num_patients)[patients]
    positives = np.argsort(order, kind="stable")[
      : max(int(share * num_rows), 1)
    ]
    truth[positives, i] = 1
  scores = truth + rng.normal(size=truth.shape)
  return truth, scores.astype(np.float32), patients


def _peak_mb() -> float:
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
