"""What was saved comes back, onto other meshes too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax import checkpointing, sharding
from tier_jax.train_state import TrainState, params_digest

POSITION = {"next": 24}
META = {"config": {"seed": 1}, "tokenizer": "{}"}


def make_state():
  rng = np.random.default_rng(0)
  params = {
    "tower": {"kernel": rng.normal(size=(256, 128)).astype(np.float32)},
    "logit_scale": np.float32(2.5),
  }
  moments = (jax.tree.map(np.zeros_like, params),)
  return TrainState(np.int32(7), params, {}, moments)


def place(state, mesh):
  return jax.tree.map(
    jax.device_put, state, sharding.state_sharding(state, mesh)
  )


def abstract(state, mesh):
  return jax.tree.map(
    lambda x, s: jax.ShapeDtypeStruct(np.shape(x), x.dtype, sharding=s),
    state,
    sharding.state_sharding(state, mesh),
  )


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  path = tmp_path_factory.mktemp("run")
  mesh = sharding.make_mesh(sharding.MeshConfig(2, 4))
  saver = checkpointing.Checkpointer(path)
  for step in (5, 6, 7):
    saver.save(step, place(make_state(), mesh), POSITION, META)
  saver.close()
  return path


@pytest.mark.parametrize("shape", [(2, 4), (1, 4), (1, 1), (8, 1)])
def test_restores_onto_any_mesh(workdir, shape):
  mesh = sharding.make_mesh(
    sharding.MeshConfig(*shape), jax.devices()[: shape[0] * shape[1]]
  )
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  assert reader.all_steps() == [6, 7]  # the newest two are kept
  state, position = reader.restore(7, abstract(make_state(), mesh))
  assert position == POSITION
  jax.tree.map(np.testing.assert_array_equal, state, make_state())
  assert reader.restore_meta(7) == META


def test_parameters_can_be_restored_alone(workdir):
  mesh = sharding.make_mesh(sharding.MeshConfig())
  want = {"params": make_state().params, "batch_stats": {}}
  got = checkpointing.restore_variables(workdir, 7, abstract(want, mesh))
  assert got.keys() == want.keys()
  assert params_digest(got) == params_digest(want)


def test_another_shape_is_an_error(workdir):
  mesh = sharding.make_mesh(sharding.MeshConfig())
  target = abstract(make_state(), mesh)
  target.params["tower"]["kernel"] = jax.ShapeDtypeStruct(
    (256, 64), jnp.float32, sharding=target.params["logit_scale"].sharding
  )
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  with pytest.raises(ValueError, match="shape"):
    reader.restore(7, target)


def test_no_checkpoints_is_an_error(tmp_path):
  with pytest.raises(ValueError, match="holds no checkpoints"):
    checkpointing.Checkpointer(tmp_path, read_only=True)


def test_unfinished_saves_are_removed_and_never_a_step(tmp_path):
  saver = checkpointing.Checkpointer(tmp_path)
  saver.save(1, make_state(), POSITION, META)
  saver.close()
  unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  assert checkpointing.Checkpointer(tmp_path, read_only=True).all_steps() == [1]
  checkpointing.remove_unfinished(tmp_path)
  assert not unfinished.exists()
  assert (tmp_path / "checkpoints" / "1").is_dir()


def test_digest_sees_names_types_and_values():
  params = make_state().params
  digest = params_digest(params)
  assert digest == params_digest(jax.tree.map(jnp.array, params))
  renamed = {"Tower": params["tower"], "logit_scale": params["logit_scale"]}
  assert params_digest(renamed) != digest
  changed = jax.tree.map(np.copy, params)
  changed["tower"]["kernel"][3, 3] += 1e-6
  assert params_digest(changed) != digest
