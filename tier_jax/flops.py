"""Floating-point operations of the matrix products and convolutions."""

import math
import re
from typing import Any

# Dense bf16 FLOP/s of the makers' data sheets, without sparsity. A GPU's name
# is a word of its device_kind ("NVIDIA H100 80GB HBM3"), a TPU's is all of it.
PEAKS = {
  "A100": 312e12,
  "H100": 989e12,
  "H200": 989e12,
  "B200": 2250e12,
  "TPU v4": 275e12,
  "TPU v5 lite": 197e12,
  "TPU v5e": 197e12,
  "TPU v5": 459e12,
  "TPU v5p": 459e12,
  "TPU v6 lite": 918e12,
  "TPU v6e": 918e12,
}


def peak(device_kind: str) -> float | None:
  """Returns the bf16 FLOP/s of a device, None where it is not known."""
  for name, rate in PEAKS.items():
    if name == device_kind or name in re.split("[ -]", device_kind):
      return rate
  return None


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
