"""One mesh with two axes, and where batch and state lie on it.

The batch is split over both axes. Parameters and optimiser moments are split
over `fsdp` by a function of the tree, so that no annotation stands in a model;
`fsdp=1` is plain data parallelism.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

# Leaves smaller than this are replicated: their gather would cost more than
# the memory they take.
_MIN_SHARDED_SIZE = 2**14


@dataclasses.dataclass(frozen=True)
class MeshConfig:
  """Shape of the device mesh.

  Attributes:
    data: devices along the `data` axis; -1 takes what `fsdp` leaves.
    fsdp: devices along the `fsdp` axis.
  """

  data: int = -1
  fsdp: int = 1

  def __post_init__(self):
    if self.data == 0 or self.data < -1 or self.fsdp < 1:
      raise ValueError(
        f"mesh.data {self.data} and mesh.fsdp {self.fsdp}: expected -1 or "
        ">= 1, and >= 1"
      )


def make_mesh(
  config: MeshConfig, devices: Sequence[Any] | None = None
) -> jax.sharding.Mesh:
  """Returns the (data, fsdp) mesh over the given or all devices.

  Raises:
    ValueError: if the shape does not use up the devices.
  """
  devices = jax.devices() if devices is None else devices
  data = len(devices) // config.fsdp if config.data == -1 else config.data
  if data * config.fsdp != len(devices):
    raise ValueError(
      f"mesh (data={config.data}, fsdp={config.fsdp}) does not fit "
      f"{len(devices)} devices"
    )
  # Neighbours on the wires are neighbours on the mesh; `jax.make_mesh` would
  # refuse shapes such as (8, 8) of a 4 x 4 x 4 torus.
  grid = mesh_utils.create_device_mesh(
    (data, config.fsdp), devices, allow_split_physical_axes=True
  )
  # Auto is spelt out: under Explicit the (B, B) logits of two sharded
  # embeddings are a type error.
  return jax.sharding.Mesh(
    grid, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2
  )


def batch_sharding(mesh: jax.sharding.Mesh) -> NamedSharding:
  """Returns how a batch lies: its first axis split over all devices."""
  return NamedSharding(mesh, PartitionSpec(("data", "fsdp")))


def state_sharding(abstract_state: Any, mesh: jax.sharding.Mesh) -> Any:
  """Returns a tree of shardings for parameters, moments and what goes along.

  Each large leaf is split over `fsdp` along its largest dimension that
  divides; small ones are replicated.
  """
  fsdp = mesh.shape["fsdp"]

  def leaf_sharding(leaf):
    spec: list[str | None] = [None] * len(leaf.shape)
    if fsdp > 1 and math.prod(leaf.shape) >= _MIN_SHARDED_SIZE:
      for axis in np.argsort(leaf.shape, kind="stable")[::-1]:
        if leaf.shape[axis] % fsdp == 0:
          spec[axis] = "fsdp"
          break
    return NamedSharding(mesh, PartitionSpec(*spec))

  return jax.tree.map(leaf_sharding, abstract_state)


def check_batch_size(
  batch_size: int, mesh: jax.sharding.Mesh, accumulate: int = 1
) -> None:
  """Raises ValueError unless the devices divide each part of the batch."""
  if batch_size < 1 or batch_size % (mesh.size * accumulate):
    parts = f", times train.accumulate {accumulate}" if accumulate > 1 else ""
    raise ValueError(
      f"batch_size {batch_size} is not a positive multiple of the "
      f"{mesh.size} devices{parts}"
    )


def put_batch(
  batch: dict[str, np.ndarray], mesh: jax.sharding.Mesh
) -> dict[str, jax.Array]:
  """Returns global arrays of which this process holds `batch`."""
  where = batch_sharding(mesh)
  return {
    name: jax.make_array_from_process_local_data(where, value)
    for name, value in batch.items()
  }
