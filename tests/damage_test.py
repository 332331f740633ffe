"""Damage to what lies on the disk is found, and never used."""

import os
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image

from data_prep import build, items
from data_prep import verify as data_verify
from tests import checkpointing_test, mounts
from tier_jax import checkpointing, checksums

FLIPS = 256
SUMS = checksums.NAME


def save(saver, step, state=None):
  state = checkpointing_test.make_state() if state is None else state
  saver.save(step, state, {"next": step}, {"best": None}, {})


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
  """A workdir of the steps 1 and 2."""
  workdir = tmp_path_factory.mktemp("saved")
  saver = checkpointing.Checkpointer(workdir)
  for step in (1, 2):
    save(saver, step)
  saver.close()
  return workdir


@pytest.fixture
def workdir(saved, tmp_path):
  """A copy that a test may damage."""
  return shutil.copytree(saved, tmp_path / "run")


def flips(paths):
  """Yields each path while one random bit of it is flipped."""
  rng = np.random.default_rng(0)
  for _ in range(FLIPS):
    path = paths[rng.integers(len(paths))]
    sound = path.read_bytes()
    damaged = bytearray(sound)
    damaged[rng.integers(len(damaged))] ^= 1 << rng.integers(8)
    path.write_bytes(damaged)
    yield path
    path.write_bytes(sound)


def files(directory):
  return sorted(path for path in directory.rglob("*") if path.is_file())


def contents(directory):
  return {
    path.relative_to(directory): path.read_bytes() for path in files(directory)
  }


def test_every_flipped_bit_of_a_checkpoint_is_found(workdir):
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  step = workdir / "checkpoints" / "2"
  hit = set()
  for path in flips(files(step)):
    hit.add(path)
    with pytest.raises(ValueError, match="step 2 in .* is damaged"):
      reader.verify(2)
  assert hit == set(files(step))
  assert step / SUMS in hit
  reader.verify(2)  # it is the flips that were found


def test_every_flipped_bit_of_a_shard_is_found(tmp_path, capsys):
  rng = np.random.default_rng(0)
  found = []
  for number in range(4):
    path = tmp_path / f"{number}.png"
    Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(path)
    name = str(number)
    found.append(
      items.Item((path.name,), "test", name, name, "p", labels={"A": 1})
    )
  dataset = tmp_path / "out" / "ours"
  plan = items.Plan("ours", tmp_path, found)
  build.build(plan, dataset, key=bytes(32), shard_records=2)
  shards = sorted(dataset.glob("*.array_record-*"))
  assert len(shards) == 2
  for path in flips(shards):
    assert data_verify.verify(dataset) == [
      f"{path.name}: its bytes have changed"
    ]
  assert data_verify.verify(dataset) == []
  capsys.readouterr()


def array_file(step):
  return max(files(step / "state"), key=lambda path: path.stat().st_size)


def cut(step):
  path = array_file(step)
  path.write_bytes(path.read_bytes()[:-1])


def swap(step):
  lines = (step / SUMS).read_bytes().splitlines(keepends=True)
  (step / SUMS).write_bytes(b"".join(reversed(lines)))


def repeat(step):
  lines = (step / SUMS).read_bytes().splitlines(keepends=True)
  (step / SUMS).write_bytes(b"".join([lines[0], *lines]))


def empty(step):
  shutil.rmtree(step)
  step.mkdir()


def replace_by_file(step):
  shutil.rmtree(step)
  step.write_bytes(b"")


@pytest.mark.parametrize(
  ("damage", "words"),
  [
    (cut, "the bytes of state/.* have changed"),
    (lambda step: array_file(step).unlink(), "state/.* is missing"),
    (lambda step: (step / "x").touch(), f"x is not listed in {SUMS}"),
    (lambda step: (step / "x").symlink_to("y"), f"x is not listed in {SUMS}"),
    (lambda step: (step / SUMS).unlink(), f"{SUMS} is missing"),
    (lambda step: (step / SUMS).write_bytes(b""), f"{SUMS} is damaged"),
    (swap, f"{SUMS} is damaged: its lines are not sorted"),
    (repeat, f"{SUMS} is damaged: its lines are not sorted"),
    (empty, f"{SUMS} is missing"),
    (replace_by_file, "it is not a directory"),
  ],
)
def test_the_step_before_a_damaged_one_is_used(workdir, damage, words, caplog):
  step = workdir / "checkpoints" / "2"
  damage(step)
  before = contents(step)
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  with pytest.raises(ValueError, match=f"step 2 in .* is damaged: {words}"):
    reader.verify(2)
  assert reader.latest_sound() == 1
  assert step.exists()  # a reader moves nothing

  saver = checkpointing.Checkpointer(workdir)
  with caplog.at_level("WARNING"):
    assert saver.latest_sound() == 1
  assert f"moved to {workdir / 'damaged' / '2'}" in caplog.text
  assert not step.exists()
  assert contents(workdir / "damaged" / "2") == before
  save(saver, 2)
  assert saver.latest_sound() == 2
  saver.close()


def test_a_second_damaged_step_of_a_number_has_a_place_too(workdir):
  saver = checkpointing.Checkpointer(workdir)
  for name in ("2", "2.1"):
    cut(workdir / "checkpoints" / "2")
    assert saver.latest_sound() == 1
    assert (workdir / "damaged" / name / SUMS).is_file()
    save(saver, 2)
    saver.wait()
  saver.close()


def test_nothing_sound_is_none(workdir):
  for step in (1, 2):
    cut(workdir / "checkpoints" / str(step))
  saver = checkpointing.Checkpointer(workdir)
  assert saver.latest_sound() is None
  assert saver.all_steps() == []
  save(saver, 1)
  saver.close()
  saver.verify(1)


def run(*arguments, mount=None):
  """Runs `main` in a process, after `mount` in a namespace of its own."""
  command = [sys.executable, "-m", "tests.damage_test", *map(str, arguments)]
  if mount is not None:
    mounts.need(mount)
    command = [*mounts.IN_NAMESPACE, f'{mount} && exec "$@"', "sh", *command]
  return subprocess.Popen(
    command,
    cwd=Path(__file__).parents[1],
    env=os.environ | {"JAX_PLATFORMS": "cpu"},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def finish(process, code=0):
  _, errors = process.communicate(timeout=120)
  assert process.returncode == code, errors[-3000:]


@pytest.mark.parametrize("moment", ["unnamed", "unsummed", "half_summed"])
def test_a_killed_save_is_never_a_step(workdir, moment):
  finish(run("killed", workdir, moment), -signal.SIGKILL)
  assert len(list((workdir / "checkpoints").iterdir())) == 3  # it had begun
  assert not (workdir / "checkpoints" / "3" / SUMS).exists()
  saver = checkpointing.Checkpointer(workdir)
  assert saver.latest_sound() == 2
  assert saver.all_steps() == [1, 2]  # older ones go after a step is whole
  assert (workdir / "damaged" / "3").exists() == (moment != "unnamed")
  names = {path.name for path in (workdir / "checkpoints").iterdir()}
  assert names == {"1", "2"}
  save(saver, 3)
  saver.close()
  saver.verify(3)


def killed(workdir, moment):
  """Dies while it saves step 3."""

  def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

  saver = checkpointing.Checkpointer(workdir)
  if moment == "unnamed":
    Path.rename = os.rename = os.replace = die
  elif moment == "unsummed":
    checksums.write = die
  else:
    os.fsync = die
  save(saver, 3)
  saver.close()


def test_a_full_disk_is_an_error_and_spares_the_step_before(tmp_path):
  mount = f"mount -t tmpfs -o size=4m none '{tmp_path}'"
  finish(run("full", tmp_path, mount=mount))


def full(workdir):
  saver = checkpointing.Checkpointer(workdir)
  save(saver, 1)
  saver.wait()
  noise = np.random.default_rng(0).normal(size=2**21).astype(np.float32)
  state = checkpointing_test.make_state().replace(params={"w": noise})
  with pytest.raises(OSError, match=r"step 2 .*sound: step 1\).*No space left"):
    save(saver, 2, state)
    saver.close()
  # What was written of it is removed.
  saver = checkpointing.Checkpointer(workdir)
  assert saver.latest_sound() == 1
  save(saver, 2)
  saver.close()
  saver.verify(2)


def test_a_disk_full_of_others_is_an_error_at_opening(tmp_path):
  mount = f"mount -t tmpfs -o size=1m none '{tmp_path}'"
  finish(run("crowded", tmp_path, mount=mount))


def crowded(workdir):
  (Path(workdir) / "other").write_bytes(bytes(2**20 - 4096))
  checkpointing.Checkpointer(workdir).close()
  with (
    pytest.raises(OSError, match="No space left"),
    (Path(workdir) / "more").open("wb") as file,
  ):
    file.write(bytes(2**20))
  with pytest.raises(ValueError, match="cannot be written: .*No space left"):
    checkpointing.Checkpointer(workdir)


def test_a_read_only_directory_is_an_error_at_opening(workdir):
  bind = f"mount --bind '{workdir}' '{workdir}'"
  mount = f"{bind} && mount -o remount,ro,bind '{workdir}'"
  finish(run("read_only", workdir, mount=mount))


def read_only(workdir):
  for path in (workdir, Path(workdir) / "new"):
    words = f"workdir {path} cannot be written: .*Read-only file system"
    with pytest.raises(ValueError, match=words):
      checkpointing.Checkpointer(path)
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  assert reader.latest_sound() == 2


def test_a_file_in_place_of_the_workdir_is_an_error_at_opening(tmp_path):
  (tmp_path / "run").touch()
  with pytest.raises(ValueError, match="workdir .*run cannot be written"):
    checkpointing.Checkpointer(tmp_path / "run")


def test_two_processes_agree_on_the_step_and_on_what_is_damaged(workdir):
  cut(workdir / "checkpoints" / "2")
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
  processes = [run("one_of_two", workdir, port, index) for index in range(2)]
  for process in processes:
    finish(process)
  assert (workdir / "damaged" / "2" / SUMS).is_file()
  assert (workdir / "checkpoints" / "2" / SUMS).is_file()


def one_of_two(workdir, port, index):
  jax.distributed.initialize(
    f"127.0.0.1:{port}",
    num_processes=2,
    process_id=int(index),
    initialization_timeout=60,
  )
  saver = checkpointing.Checkpointer(workdir)
  assert saver.latest_sound() == 1
  save(saver, 2)
  assert saver.latest_sound() == 2
  saver.close()


if __name__ == "__main__":
  globals()[sys.argv[1]](*sys.argv[2:])
