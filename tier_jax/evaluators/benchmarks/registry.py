"""Benchmarks by the names that `--benchmark` takes."""

from tier_jax.evaluators.benchmarks import (
  benchmark,
  chexpert,
  nih_cxr14,
  open_i,
  padchest,
  rsna,
  table,
  vindr_cxr,
)

_KNOWN = {
  item.name: item
  for item in (
    chexpert.TEST,
    chexpert.TEST_14,
    nih_cxr14.TEST,
    open_i.TEST,
    padchest.TEST,
    padchest.TEST_192,
    padchest.TEST_RARE,
    rsna.TEST,
    vindr_cxr.TEST,
  )
}
NAMES = (*sorted(_KNOWN), "table:NAME")


def find(name: str) -> benchmark.Benchmark:
  """Returns the benchmark of that name; its study level comes with it.

  Raises:
    ValueError: if there is none; the message lists those there are.
  """
  if name.startswith("table:"):
    return table.make(name.removeprefix("table:"))
  if name not in _KNOWN:
    raise ValueError(
      f"benchmark {name!r} is not known, expected one of {', '.join(NAMES)}"
    )
  return _KNOWN[name]
