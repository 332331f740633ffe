"""What was saved comes back, onto other meshes too."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax import checkpointing, checksums, sharding
from tier_jax.train_state import TrainState, params_digest

POSITION = {"next": 24}
PROGRESS = {"best": None, "seen": 192}
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
    saver.save(step, place(make_state(), mesh), POSITION, PROGRESS, META)
  saver.close()
  return path


@pytest.mark.parametrize("shape", [(2, 4), (1, 4), (1, 1), (8, 1)])
def test_restores_onto_any_mesh(workdir, shape):
  mesh = sharding.make_mesh(
    sharding.MeshConfig(*shape), jax.devices()[: shape[0] * shape[1]]
  )
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  assert reader.all_steps() == [6, 7]  # the newest two are kept
  state, position, progress = reader.restore(7, abstract(make_state(), mesh))
  assert (position, progress) == (POSITION, PROGRESS)
  jax.tree.map(np.testing.assert_array_equal, state, make_state())
  assert reader.restore_meta(7) == META
  assert reader.restore_progress(7) == PROGRESS


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


def test_reading_says_nothing_when_all_is_well(workdir, caplog):
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  assert reader.latest_sound() == 7
  assert reader.restore_meta(7) == META
  reader.close()
  assert [r.message for r in caplog.records if r.levelname != "INFO"] == []


def test_unfinished_saves_are_removed_and_never_a_step(tmp_path):
  saver = checkpointing.Checkpointer(tmp_path)
  saver.save(1, make_state(), POSITION, PROGRESS, META)
  saver.close()
  unfinished = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
  unfinished.mkdir()
  assert checkpointing.Checkpointer(tmp_path, read_only=True).all_steps() == [1]
  assert checkpointing.Checkpointer(tmp_path).all_steps() == [1]
  assert not unfinished.exists()
  assert (tmp_path / "checkpoints" / "1").is_dir()


@pytest.mark.parametrize(
  ("best", "kept"),
  [
    ([None, None, None, None], [3, 4]),
    ([1, 1, 1, 1], [1, 3, 4]),
    ([1, 2, 2, 2], [2, 3, 4]),
    ([1, 1, 1, 4], [3, 4]),
    ([1, 1, 3, 3], [3, 4]),
  ],
)
def test_the_newest_two_and_the_best_are_kept(tmp_path, best, kept):
  saver = checkpointing.Checkpointer(tmp_path)
  for step, number in enumerate(best, 1):
    saver.save(step, make_state(), POSITION, PROGRESS, META, best=number)
  saver.close()
  assert saver.all_steps() == kept
  for step in kept:
    saver.verify(step)


def test_the_best_is_kept_by_the_run_that_goes_on(tmp_path):
  for step in (1, 2, 3, 4):
    saver = checkpointing.Checkpointer(tmp_path)
    assert saver.latest_sound() == (step - 1 or None)
    saver.save(step, make_state(), POSITION, PROGRESS, META, best=1)
    saver.close()
  assert saver.all_steps() == [1, 3, 4]


@pytest.mark.parametrize("step", [5, 6, 7])
def test_a_save_that_orbax_would_skip_is_an_error(workdir, step):
  saver = checkpointing.Checkpointer(workdir)
  words = rf"step {step} was not saved .* has \[6, 7\], expected a later one"
  with pytest.raises(RuntimeError, match=words):
    saver.save(step, make_state(), POSITION, PROGRESS, META)
  saver.close()
  assert saver.latest_sound() == 7


def test_a_save_that_fails_in_the_background_is_an_error(tmp_path, monkeypatch):
  saver = checkpointing.Checkpointer(tmp_path)
  saver.save(1, make_state(), POSITION, PROGRESS, META)
  saver.wait()

  def fail(directory):
    raise OSError(f"cannot write to {directory.name}")

  monkeypatch.setattr(checksums, "write", fail)
  saver.save(2, make_state(), POSITION, PROGRESS, META)
  directory = tmp_path / "checkpoints"
  words = (
    rf"step 2 could not be written to {directory} \(the last one known to be "
    r"sound: step 1\): cannot write to 2"
  )
  with pytest.raises(OSError, match=words):
    saver.save(3, make_state(), POSITION, PROGRESS, META)
  monkeypatch.undo()
  assert saver.latest_sound() == 1  # and the half of 2 is out of the way
  saver.save(2, make_state(), POSITION, PROGRESS, META)
  saver.close()
  saver.verify(2)


def test_the_checksums_are_those_that_sha256sum_reads(workdir):
  sums = workdir / "checkpoints" / "7" / checksums.NAME
  names = []
  for line in sums.read_text("utf-8").splitlines():
    digest, name = line.split("  ")
    data = (sums.parent / name).read_bytes()
    assert digest == hashlib.sha256(data).hexdigest()
    names.append(name)
  found = [path for path in sums.parent.rglob("*") if path.is_file()]
  found = [path.relative_to(sums.parent).as_posix() for path in found]
  assert names == sorted({*found} - {checksums.NAME})


def test_digest_sees_names_types_and_values():
  params = make_state().params
  digest = params_digest(params)
  assert digest == params_digest(jax.tree.map(jnp.array, params))
  renamed = {"Tower": params["tower"], "logit_scale": params["logit_scale"]}
  assert params_digest(renamed) != digest
  changed = jax.tree.map(np.copy, params)
  changed["tower"]["kernel"][3, 3] += 1e-6
  assert params_digest(changed) != digest
