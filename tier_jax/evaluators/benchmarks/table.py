"""Any dataset that `data_prep table` prepared: `table:NAME`.

Every label that the split's records state is scored on images; those with both
classes count towards the macro. A blank label leaves the image out for it.
"""

import re

from tier_jax.evaluators.benchmarks import benchmark


def make(dataset: str) -> benchmark.Benchmark:
  """Returns the benchmark of the dataset directory of that name.

  Raises:
    ValueError: if the name is not one plain directory name.
  """
  if not re.fullmatch(r"\w[\w.-]*", dataset):
    raise ValueError(
      f"benchmark 'table:{dataset}': expected table:NAME, where NAME is a "
      "directory in the data root (letters, digits, '_', '-', '.')"
    )
  return benchmark.Benchmark(name=f"table:{dataset}", dataset=dataset)
