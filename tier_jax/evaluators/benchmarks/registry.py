"""Benchmarks by the names that `--benchmark` takes."""

from tier_jax.evaluators.benchmarks import benchmark, chexpert, padchest, table

_KNOWN = {item.name: item for item in (chexpert.TEST, padchest.TEST)}


def find(name: str) -> benchmark.Benchmark:
  """Returns the benchmark of that name; its study level comes with it.

  Raises:
    ValueError: if there is none; the message lists those there are.
  """
  if name.startswith("table:"):
    return table.make(name.removeprefix("table:"))
  if name not in _KNOWN:
    known = ", ".join(sorted(_KNOWN))
    raise ValueError(
      f"benchmark {name!r} is not known, expected one of {known}, table:NAME"
    )
  return _KNOWN[name]
