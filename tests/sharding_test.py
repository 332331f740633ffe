"""The mesh: shapes, refusals, and where a batch comes to lie."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from tier_jax import sharding


def test_minus_one_takes_what_fsdp_leaves():
  mesh = sharding.make_mesh(sharding.MeshConfig(-1, 2))
  assert dict(mesh.shape) == {"data": 4, "fsdp": 2}


def test_batch_is_split_over_both_axes():
  mesh = sharding.make_mesh(sharding.MeshConfig(4, 2))
  batch = sharding.put_batch({"x": np.arange(16).reshape(16, 1)}, mesh)
  shards = {
    shard.device: np.asarray(shard.data).ravel().tolist()
    for shard in batch["x"].addressable_shards
  }
  assert sorted(shards.values()) == [[2 * i, 2 * i + 1] for i in range(8)]


def test_largest_dividing_dimension_is_split():
  mesh = sharding.make_mesh(sharding.MeshConfig(2, 4))
  tree = {
    "tall": jax.ShapeDtypeStruct((512, 64), "float32"),
    "odd": jax.ShapeDtypeStruct((511, 64), "float32"),
    "small": jax.ShapeDtypeStruct((64, 64), "float32"),
    "prime": jax.ShapeDtypeStruct((509, 67), "float32"),
  }
  specs = jax.tree.map(
    lambda s: tuple(s.spec), sharding.state_sharding(tree, mesh)
  )
  assert specs["tall"] == ("fsdp", None)
  assert specs["odd"] == (None, "fsdp")
  assert specs["small"] == (None, None)
  assert specs["prime"] == (None, None)


@pytest.mark.parametrize(("data", "fsdp"), [(3, 1), (-1, 3), (4, 4)])
def test_mesh_that_does_not_fit_is_refused(data, fsdp):
  with pytest.raises(ValueError, match="does not fit 8 devices"):
    sharding.make_mesh(sharding.MeshConfig(data, fsdp))


@pytest.mark.parametrize(("data", "fsdp"), [(0, 1), (-2, 1), (1, 0)])
def test_bad_config(data, fsdp):
  with pytest.raises(ValueError, match="mesh.data"):
    sharding.MeshConfig(data, fsdp)


def test_batch_that_devices_do_not_divide_is_refused():
  mesh = sharding.make_mesh(sharding.MeshConfig())
  with pytest.raises(ValueError, match="batch_size 12 is not .* 8 devices"):
    sharding.check_batch_size(12, mesh)
  sharding.check_batch_size(16, mesh)
  with pytest.raises(ValueError, match="8 devices, times train.accumulate 4"):
    sharding.check_batch_size(16, mesh, 4)
  sharding.check_batch_size(32, mesh, 4)


@dataclasses.dataclass(frozen=True)
class Chip:
  """What jax looks at when it lays a mesh over a torus."""

  id: int
  coords: tuple[int, int, int]
  platform: str = "tpu"
  device_kind: str = "TPU v5"
  core_on_chip: int = 0
  process_index: int = 0


@pytest.mark.parametrize("fsdp", [1, 2, 4, 8, 16, 32, 64])
def test_any_shape_of_a_torus(fsdp):
  places = itertools.product(range(4), repeat=3)
  chips = [Chip(i, place) for i, place in enumerate(places)]
  mesh = sharding.make_mesh(sharding.MeshConfig(-1, fsdp), chips)
  assert dict(mesh.shape) == {"data": 64 // fsdp, "fsdp": fsdp}
  assert {chip.id for chip in mesh.devices.flat} == set(range(64))
