"""Floating-point operations of the matrix products and convolutions."""

import math
from typing import Any


def count(jaxpr: Any) -> int:
  """Returns the FLOPs of a jaxpr's products, over all devices.

  A multiplication and an addition count one each; everything but products is
  left out, as it is from the peak of a chip's matrix units. Scans count as
  often as they run; a loop of unknown length and each branch count once.

  Args:
    jaxpr: closed or not, as from `jax.stages.Traced.jaxpr`.
  """
  jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
  total = 0
  for equation in jaxpr.eqns:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
      (contracted, _), _ = params["dimension_numbers"]
      shape = equation.invars[0].aval.shape
      inner = math.prod(shape[i] for i in contracted)
      total += 2 * math.prod(equation.outvars[0].aval.shape) * inner
    elif name == "conv_general_dilated":
      kernel = equation.invars[1].aval.shape
      features = kernel[params["dimension_numbers"].rhs_spec[0]]
      out = math.prod(equation.outvars[0].aval.shape)
      # The gradient of a strided convolution lays zeros between its inputs.
      zeros = math.prod(params["lhs_dilation"])
      total += 2 * out * math.prod(kernel) // features // zeros
    else:
      times = params["length"] if name == "scan" else 1
      if name == "shard_map":
        times = params["mesh"].size
      elif name == "pallas_call":
        times = math.prod(params["grid_mapping"].grid)
      total += times * sum(count(inner) for inner in _inner(params))
  return total


def _inner(params):
  for value in params.values():
    for item in value if isinstance(value, (tuple, list)) else (value,):
      if hasattr(getattr(item, "jaxpr", item), "eqns"):
        yield item
