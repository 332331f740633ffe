"""What the benchmarks share: interleaved rounds, medians, machine, table.

Everything is measured in turn, round after round, as other programs may be at
work. Two figures are given: the median of the rounds, its ratios taken within
a round, and the best round, that is, the least disturbed. Many short rounds do
better than few long ones on a machine that is shared.
"""

import importlib.metadata
import os
import platform
import statistics
import sys
from collections.abc import Callable, Mapping
from typing import Any

PACKAGES = ("jax", "flax", "grain", "opencv-python-headless", "tier-jax")

Ratios = Mapping[str, tuple[str, str]]  # name -> (above, below the line)


def interleave(
  cells: Mapping[str, Callable[[], float]], num_rounds: int
) -> dict[str, list[float]]:
  """Returns what each cell gave in each round; all cells take turns.

  Raises:
    ValueError: if there is not at least one round.
  """
  if num_rounds < 1:
    raise ValueError(f"rounds is {num_rounds}, expected at least 1")
  rates: dict[str, list[float]] = {name: [] for name in cells}
  for turn in range(num_rounds):
    for name, cell in cells.items():
      rates[name].append(cell())
    shown = ", ".join(f"{name} {rates[name][-1]:.4g}" for name in rates)
    print(
      f"round {turn + 1} of {num_rounds}: {shown}", file=sys.stderr, flush=True
    )
  return rates


def summarise(
  rates: Mapping[str, list[float]], ratios: Ratios
) -> dict[str, dict]:
  """Returns medians and bests of the rates, and the ratios of either kind.

  Args:
    rates: cell -> so many a second, one a round.
    ratios: of cells; those of cells that were not measured are left out.
  """
  best = {cell: max(values) for cell, values in rates.items()}
  known = {
    name: cells for name, cells in ratios.items() if rates.keys() >= {*cells}
  }
  return {
    "median": {
      "rates": {cell: statistics.median(v) for cell, v in rates.items()},
      "ratios": {
        name: statistics.median(
          a / b for a, b in zip(rates[top], rates[bottom], strict=True)
        )
        for name, (top, bottom) in known.items()
      },
    },
    "best": {
      "rates": best,
      "ratios": {
        name: best[top] / best[bottom] for name, (top, bottom) in known.items()
      },
    },
  }


def machine() -> dict[str, Any]:
  """Returns what was measured on: Python, machine, cores, versions."""
  versions = {name: importlib.metadata.version(name) for name in PACKAGES}
  return {
    "python": platform.python_version(),
    "machine": platform.machine(),
    "cores": len(os.sched_getaffinity(0)),
    "versions": versions,
  }


def table(results: Mapping[str, Any]) -> str:
  """Returns the table of a result that holds these keys.

  `about`: a line on what was measured; `unit` of the rates; `machine`; and
  what `summarise` gives. `floors`: by ratio, what it should reach; optional.
  `notes`: name -> figure, shown as they are; optional.
  """
  about = results["machine"]
  versions = ", ".join(f"{k} {v}" for k, v in about["versions"].items())
  lines = [
    results["about"],
    f"{about['machine']}, {about['cores']} cores, Python {about['python']}, "
    + ", ".join([*filter(None, [about.get("devices")]), versions]),
    "",
    f"{results['unit']:<36}{'median':>12}{'best':>12}",
  ]
  for cell in results["median"]["rates"]:
    median, best = (results[k]["rates"][cell] for k in ("median", "best"))
    lines.append(f"{cell:<36}{median:>12.4g}{best:>12.4g}")
  lines += ["", f"{'ratio':<36}{'median':>12}{'best':>12}{'at least':>12}"]
  for ratio in results["median"]["ratios"]:
    median, best = (results[k]["ratios"][ratio] for k in ("median", "best"))
    floor = results.get("floors", {}).get(ratio)
    lines.append(
      f"{ratio:<36}{median:>12.3f}{best:>12.3f}"
      + (f"{floor:>12.3f}" if floor is not None else "")
    )
  notes = results.get("notes", {})
  lines += ["", *(f"{name}: {value}" for name, value in notes.items())]
  return "\n".join(lines).rstrip()
