"""All that a training step reads and writes."""

import hashlib
from typing import Any

import flax.struct
import jax
import numpy as np
from jax.experimental import multihost_utils


@flax.struct.dataclass
class TrainState:
  """State of a training.

  Randomness is folded from the seed and the step, so that it needs no place
  here.

  Attributes:
    step: () int32, updates made so far.
    params: parameter tree.
    batch_stats: running means and variances of batch norms; {} without any.
    opt_state: of the optimiser.
    ema_params: moving average of the parameters, float32; None when off.
  """

  step: jax.Array
  params: Any
  batch_stats: Any
  opt_state: Any
  ema_params: Any = None

  @property
  def eval_variables(self) -> dict[str, Any]:
    """What evaluation uses: the moving average where there is one.

    Batch statistics are running means already, and stay as they are.
    """
    averaged = self.ema_params is not None
    params = self.ema_params if averaged else self.params
    return {"params": params, "batch_stats": self.batch_stats}


def params_digest(params: Any) -> str:
  """Returns the SHA-256, in hex, of names, shapes, types and bytes in order.

  Equal parameters have equal digests, however they are sharded.
  """
  digest = hashlib.sha256()
  leaves = jax.tree_util.tree_leaves_with_path(params)
  for path, leaf in sorted(
    (jax.tree_util.keystr(path), leaf) for path, leaf in leaves
  ):
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
      leaf = multihost_utils.process_allgather(leaf, tiled=True)
    array = np.ascontiguousarray(jax.device_get(leaf))
    digest.update(f"{path} {array.dtype} {array.shape}\n".encode())
    digest.update(array.tobytes())
  return digest.hexdigest()
