"""Whether 95 % intervals hold the truth 95 times in 100, on clustered data.

  python -m tests.coverage --patients 200 500

Patients are sick or not, have one to three images, and their images score
alike; the true figures are integrals. Prints the share of the intervals that
hold each, with its own standard error, and fails when one is out of BOUNDS.
"""

import argparse
import sys

import numpy as np
from scipy import integrate, stats

from tier_jax.evaluators import bootstrap, statistics

PREVALENCE = 0.4
EFFECT = 1.0  # of sickness on a patient's level, whose deviation is 1
NOISE = 0.3  # deviation between the images of a patient
THRESHOLD = 0.5  # of a call
BOUNDS = 0.93, 0.97
# Of patients, where intervals are claimed to hold: of fewer they hold less.
SIZES = 200, 500


def sample(
  rng: np.random.Generator, num_patients: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Returns truth (N,) int8, scores (N,) and patients (N,) of N images."""
  patients = np.repeat(
    np.arange(num_patients), rng.integers(1, 4, num_patients)
  )
  sick = rng.random(num_patients) < PREVALENCE
  level = rng.normal(EFFECT * sick, 1.0)
  scores = level[patients] + rng.normal(0, NOISE, len(patients))
  return sick[patients].astype(np.int8), scores, patients


def true_figures() -> dict[str, float]:
  """Returns what an endless sample would give."""
  spread = np.hypot(1.0, NOISE)
  sick, well = stats.norm(EFFECT, spread), stats.norm(0, spread)

  def precise(score):
    hits = PREVALENCE * sick.sf(score)
    return hits / (hits + (1 - PREVALENCE) * well.sf(score)) * sick.pdf(score)

  shares = np.array([sick.sf(THRESHOLD), well.sf(THRESHOLD)])
  hits, alarms = shares * (PREVALENCE, 1 - PREVALENCE)
  cells = hits, alarms, PREVALENCE - hits, 1 - PREVALENCE - alarms
  return {
    "auroc": float(stats.norm.cdf(EFFECT / (np.sqrt(2) * spread))),
    "average_precision": integrate.quad(precise, -8, 8)[0],
    **dict(
      zip(
        statistics.CALLS,
        statistics.call_figures(np.array(cells)).tolist(),
        strict=True,
      )
    ),
    "mean": PREVALENCE * EFFECT,
  }


def coverage(
  num_simulations: int, num_patients: int, num_resamples: int, seed: int = 0
) -> dict[str, float]:
  """Returns the share of the intervals that hold each of `true_figures`."""
  rng = np.random.default_rng(seed)
  target = true_figures()
  held = dict.fromkeys(target, 0)
  for number in range(num_simulations):
    truth, scores, patients = sample(rng, num_patients)
    settings = {"num_resamples": num_resamples, "seed": number}
    rows = scores[:, None]
    draws = {
      **bootstrap.ranking_draws(
        truth[:, None], rows, patients, **settings
      ).values,
      **bootstrap.call_draws(
        truth[:, None], rows > THRESHOLD, patients, **settings
      ).values,
      "mean": bootstrap.mean_draws(rows, patients, **settings),
    }
    for name, value in target.items():
      low, high = statistics.interval(draws[name][:, 0])
      assert low is not None and high is not None
      held[name] += low <= value <= high
  return {name: count / num_simulations for name, count in held.items()}


def outside(shares: dict[str, float]) -> list[str]:
  """Returns the figures whose share is out of BOUNDS."""
  low, high = BOUNDS
  return [name for name, share in shares.items() if not low <= share <= high]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
  parser.add_argument("--simulations", type=int, default=2000)
  parser.add_argument("--patients", type=int, nargs="+", default=SIZES)
  parser.add_argument("--resamples", type=int, default=1000)
  flags = parser.parse_args()
  failed = []
  for size in flags.patients:
    shares = coverage(flags.simulations, size, flags.resamples)
    print(f"{size} patients, {flags.simulations} simulations")
    for name, share in shares.items():
      error = np.sqrt(share * (1 - share) / flags.simulations)
      print(
        f"  {name:<20}{100 * share:6.2f} % +- {100 * error:.2f}", flush=True
      )
    failed += [f"{name} of {size} patients" for name in outside(shares)]
  if failed:
    low, high = BOUNDS
    sys.exit(f"error: outside {low:.0%} to {high:.0%}: {', '.join(failed)}")


if __name__ == "__main__":
  main()
