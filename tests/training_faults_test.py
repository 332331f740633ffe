"""What a training does when something breaks, from the loop's first step on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

from tests import mounts, trainings
from tier_jax import (
  checkpointing,
  preemption,
  prefetch,
  train,
  train_step,
  watchdog,
)
from tier_jax.data import loader, pair_source

ROOT = Path(__file__).parents[1]
BAD_STEPS = (6, 8)  # where the first poisoned batches are


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
  """The environment by which other processes share what is compiled too."""
  with trainings.compiled_once(tmp_path_factory):
    yield trainings.compile_environment(tmp_path_factory)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return trainings.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def order(data_dir):
  """The records of the first twelve batches."""
  return trainings.order(trainings.config(data_dir), 12)


@pytest.fixture(scope="module")
def unbroken(data_dir, tmp_path_factory):
  """The workdir of a training that nothing happened to."""
  workdir = tmp_path_factory.mktemp("unbroken") / "run"
  train.train_and_evaluate(trainings.config(data_dir), workdir)
  return workdir


@pytest.fixture
def batches(monkeypatch):
  return trainings.Batches(monkeypatch)


@pytest.fixture
def poison(monkeypatch, order):
  """NaN in the image embeddings of two records, on the devices."""
  bad = [order[step - 1][0] for step in BAD_STEPS]
  encode = train_step._encode

  def poisoned(params, batch_stats, batch, key, *rest):
    output, batch_stats = encode(params, batch_stats, batch, key, *rest)
    if key is not None:  # it trains
      hit = jnp.isin(batch["record"], jnp.array(bad))[:, None]
      embeds = jnp.where(hit, jnp.nan, output.image_embeds)
      output = output.replace(image_embeds=embeds)
    return output, batch_stats

  monkeypatch.setattr(train_step, "_encode", poisoned)
  return bad


def run(data_dir, workdir, **changes):
  train.train_and_evaluate(trainings.config(data_dir, **changes), workdir)


def stop(data_dir, workdir, **changes):
  """Runs a training that is preempted."""
  with pytest.raises(SystemExit) as error:
    run(data_dir, workdir, **changes)
  assert error.value.code == preemption.EXIT_CODE == 75


def preempt():
  os.kill(os.getpid(), signal.SIGTERM)


def rows(workdir):
  """Returns the logged scalars but for those that time and place decide."""
  measured = ("_second", "_seconds", "_wait", "_gib", "mfu")
  lines = (workdir / "metrics.jsonl").read_text().splitlines()
  return [
    {k: v for k, v in json.loads(line).items() if not k.endswith(measured)}
    for line in lines
  ]


def progress(workdir):
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  return reader.restore_progress(reader.latest_sound())


def assert_dumped(workdir, name, record):
  dump = json.loads((workdir / "faults" / f"{name}.json").read_text())
  assert dump["bad_records"] == [
    {"dataset": "mimic_cxr", "shard": trainings.SHARD, "index": record}
  ]
  assert len(dump["records"]) == trainings.BATCH


@pytest.mark.parametrize("log_every", [1, 4])
def test_abort_ends_at_the_step_or_the_next(
  data_dir, tmp_path, poison, batches, log_every
):
  words = f"step 6 is not finite: .* 1 of 8 pairs: .*{trainings.SHARD}"
  with pytest.raises(FloatingPointError, match=f"{words}#{poison[0]};"):
    run(data_dir, tmp_path, log_every=log_every)
  assert len(batches.records) == (6 if log_every == 1 else 7)
  assert_dumped(tmp_path, "step_00000006", poison[0])
  trainings.assert_sound(tmp_path, [4, 5])
  assert progress(tmp_path)["faults"] == 0


def test_skip_leaves_out_the_updates_and_goes_on(
  data_dir, tmp_path, unbroken, poison, batches, order
):
  run(data_dir, tmp_path, on_nonfinite="skip", checkpoint_every=3)
  assert batches.records == order[:8]
  trainings.assert_sound(tmp_path, [6, 8])
  for step, record in zip(BAD_STEPS, poison, strict=True):
    assert_dumped(tmp_path, f"step_{step:08d}", record)
  # Until then it was the unbroken run, and then it goes on.
  assert trainings.digest(tmp_path, 6) == trainings.digest(unbroken, 5)
  assert trainings.digest(tmp_path, 8) != trainings.digest(tmp_path, 6)
  assert progress(tmp_path)["faults"] == 2


class Without:
  """An iterator that leaves out some batches, by number."""

  def __init__(self, iterator, numbers):
    self._iterator, self._numbers, self._count = iterator, numbers, 0
    self.get_state, self.close = iterator.get_state, iterator.close

  def __next__(self):
    self._count += 1
    batch = next(self._iterator)
    return next(self) if self._count in self._numbers else batch


def test_rewind_goes_on_from_the_checkpoint_after_the_bad_batch(
  data_dir, tmp_path, poison, batches, order, monkeypatch
):
  changes = {"checkpoint_every": 4, "eval_every": 8, "log_every": 4}
  broken, whole = tmp_path / "broken", tmp_path / "whole"
  run(data_dir, broken, on_nonfinite="rewind", **changes)
  # Found one step later, each time: back to step 4, and on after the bad batch.
  assert batches.records == order[:7] + order[6:9] + order[8:12]
  assert_dumped(broken, "step_00000006", poison[0])
  assert_dumped(broken, "step_00000006.1", poison[1])
  trainings.assert_sound(broken, [4, 8])
  assert progress(broken)["faults"] == 2
  assert [row["step"] for row in rows(broken)] == [4, 8]
  # As if only these batches had been there.
  make = loader.train_iterator
  monkeypatch.setattr(
    loader,
    "train_iterator",
    lambda *args, **kwargs: Without(make(*args, **kwargs), (5, 6, 7, 8)),
  )
  run(data_dir, whole, **changes)
  assert trainings.digest(whole) == trainings.digest(broken)
  assert rows(whole) == rows(broken)


@pytest.mark.parametrize(
  ("policy", "last", "saved", "fails"), [("skip", 7, 7, 8), ("rewind", 7, 6, 8)]
)
def test_a_restart_goes_on_counting(
  data_dir, tmp_path, poison, batches, policy, last, saved, fails
):
  batches.at(last, preempt)
  changes = {"on_nonfinite": policy, "max_faults": 1}
  stop(data_dir, tmp_path, **changes)
  assert progress(tmp_path)["faults"] == 1
  reader = checkpointing.Checkpointer(tmp_path, read_only=True)
  assert reader.latest_sound() == saved
  words = f"#{poison[1]}; .* once more than train.max_faults 1"
  with pytest.raises(FloatingPointError, match=words):
    run(data_dir, tmp_path, **changes)
  assert len(batches.records) == fails
  trainings.assert_sound(tmp_path, [4, 5, saved])


@pytest.mark.parametrize(
  ("policy", "words"),
  [
    ("abort", "step 1 is not finite: gradients of 1 of .*: text_head;"),
    ("rewind", "there is no checkpoint to rewind to"),
  ],
)
def test_a_gradient_that_is_not_finite_names_its_module(
  data_dir, tmp_path, monkeypatch, policy, words
):
  encode = train_step._encode

  @jax.custom_vjp
  def same(x):
    return x

  same.defvjp(lambda x: (x, None), lambda _, g: (g * jnp.nan,))

  def poisoned(params, *rest):
    head = jax.tree.map(same, params["text_head"])
    return encode({**params, "text_head": head}, *rest)

  monkeypatch.setattr(train_step, "_encode", poisoned)
  with pytest.raises(FloatingPointError, match=words):
    run(data_dir, tmp_path, on_nonfinite=policy)
  dump = json.loads((tmp_path / "faults/step_00000001.json").read_text())
  assert dump["bad_records"] == []
  norms = dump["grad_norms"]
  assert next(iter(norms.items())) == ("text_head", "nan")
  assert all(isinstance(norm, float) for norm in list(norms.values())[1:])
  trainings.assert_sound(tmp_path, [])


def test_a_preempted_training_ends_as_if_it_had_not_been(
  data_dir, tmp_path, unbroken, batches, order
):
  batches.at(3, preempt)
  stop(data_dir, tmp_path)
  trainings.assert_sound(tmp_path, [3])
  run(data_dir, tmp_path)
  assert batches.records == order[:8]
  assert trainings.digest(tmp_path) == trainings.digest(unbroken)
  assert rows(tmp_path) == rows(unbroken)


def test_an_evaluation_that_is_preempted_is_done_at_the_restart(
  data_dir, tmp_path, unbroken, batches, order, monkeypatch
):
  evaluated = loader.eval_batches

  def interrupted(*args, **kwargs):
    for batch in evaluated(*args, **kwargs):
      preempt()
      yield batch

  with monkeypatch.context() as context:
    context.setattr(loader, "eval_batches", interrupted)
    for _ in range(2):  # the one of the restart too
      stop(data_dir, tmp_path)
  trainings.assert_sound(tmp_path, [4])
  assert [row["step"] for row in rows(tmp_path)] == [1, 2, 3]

  # A kill after it, and before the next checkpoint: it is done once more.
  def die():
    raise KeyboardInterrupt

  batches.at(5, die)
  with pytest.raises(KeyboardInterrupt):
    run(data_dir, tmp_path)
  assert rows(tmp_path) == rows(unbroken)[:4]
  run(data_dir, tmp_path)
  assert batches.records == order[:5] + order[4:8]
  assert trainings.digest(tmp_path) == trainings.digest(unbroken)
  assert rows(tmp_path) == rows(unbroken)
  assert progress(tmp_path) == progress(unbroken)


def test_a_rewind_to_a_pending_evaluation_does_not_do_it_again(
  data_dir, tmp_path, poison, batches, monkeypatch
):
  changes = {"on_nonfinite": "rewind", "checkpoint_every": 8}
  with monkeypatch.context() as context:
    context.setattr(loader, "eval_batches", lambda *_, **__: [preempt()])
    batches.at(4, preempt)
    stop(data_dir, tmp_path, **changes)
  assert progress(tmp_path)["pending"]
  run(data_dir, tmp_path, **changes)
  assert progress(tmp_path)["pending"] is None
  assert progress(tmp_path)["best"]
  assert [row["step"] for row in rows(tmp_path)] == list(range(1, 9))


def test_a_killed_loader_thread_ends_the_training(
  data_dir, tmp_path, unbroken, order, monkeypatch
):
  read = pair_source.PairSource.read

  def dying(source, index, **rest):
    if index == order[6][-1]:  # more than the validation split has
      raise SystemExit(0)
    return read(source, index, **rest)

  monkeypatch.setattr(pair_source.PairSource, "read", dying)
  with pytest.raises(RuntimeError, match="reading batches ended by SystemExit"):
    run(data_dir, tmp_path)
  trainings.assert_sound(tmp_path, [4, 5])


def test_a_truncated_shard_is_refused_before_any_work(data_dir, tmp_path):
  copy = shutil.copytree(data_dir, tmp_path / "data")
  path = copy / "mimic_cxr" / trainings.SHARD
  path.write_bytes(path.read_bytes()[:-100])
  with pytest.raises(ValueError, match=f"shard .*{trainings.SHARD} does not"):
    run(copy, tmp_path / "run")
  assert not (tmp_path / "run").exists()


def test_a_shard_deleted_during_the_training_is_read_to_the_end(
  data_dir, tmp_path, unbroken, batches
):
  copy = shutil.copytree(data_dir, tmp_path / "data")
  workdir = tmp_path / "run"
  batches.at(2, (copy / "mimic_cxr" / trainings.SHARD).unlink)
  run(copy, workdir)
  assert trainings.digest(workdir) == trainings.digest(unbroken)
  with pytest.raises(ValueError, match=f"lacks shard {trainings.SHARD}"):
    run(copy, workdir)
  trainings.assert_sound(workdir, [5, 8])


def start(compiled, *command):
  return subprocess.run(
    command,
    cwd=ROOT,
    env={
      **os.environ,
      "JAX_PLATFORMS": "cpu",
      "JAX_NUM_CPU_DEVICES": "2",  # as trainings here have
      **compiled,
    },
    capture_output=True,
    text=True,
    timeout=120,
    check=False,
  )


def test_a_training_that_hangs_is_ended_and_says_where(
  compiled, data_dir, tmp_path
):
  main = (sys.executable, "-m", "tests.training_faults_test")
  done = start(compiled, *main, str(data_dir), str(tmp_path))
  assert done.returncode == watchdog.EXIT_CODE == 76, done.stderr[-3000:]
  assert " in never_ends" in (tmp_path / "stacks.txt").read_text()


def hang(data_dir, workdir):
  """A training whose third batch never comes."""
  put, count = prefetch.sharding.put_batch, [0]

  def never_ends():
    threading.Event().wait()

  def put_batch(*args):
    count[0] += 1
    if count[0] == 3:
      never_ends()
    return put(*args)

  prefetch.sharding.put_batch = put_batch
  run(data_dir, workdir, watchdog_minutes=0.03)


def launch(compiled, data_dir, directory, mount, *beside, **changes):
  """Runs launch/train.py in `directory`/run, on what `mount` mounts there.

  What is in it at the end is copied to `directory`/kept: a file system of the
  namespace's own is gone with it. `beside` are lines of a script to run first.
  """
  workdir, config = directory / "run", directory / "config.py"
  workdir.mkdir()
  trainings.write_config(trainings.config(data_dir, **changes), config)
  mounts.need(mount.format(workdir))
  lines = (
    *(line.format(workdir) for line in (mount, *beside)),
    '"$@"',
    "code=$?",
    f"cp -r {workdir} {directory}/kept",
    "exit $code",
  )
  return start(
    compiled,
    *(*mounts.IN_NAMESPACE, "\n".join(lines), "sh", sys.executable),
    *("launch/train.py", f"--config={config}", f"--workdir={workdir}"),
  )


def test_a_disk_that_fills_ends_the_training_and_spares_the_checkpoint(
  compiled, data_dir, tmp_path
):
  mount = "mount -t tmpfs -o size=64m none {}"
  # Something else fills it once the first checkpoint is there.
  beside = (
    "(",
    "until [ -e {}/checkpoints/3/SHA256SUMS ]; do sleep 0.01; done",
    "dd if=/dev/zero of={}/other",
    ") 2>&- &",
  )
  changes = {"checkpoint_every": 3, "eval_every": 8}
  done = launch(compiled, data_dir, tmp_path, mount, *beside, **changes)
  assert done.returncode == 1
  # The array store's own threads may print stacks; the last word is ours.
  last = done.stderr.splitlines()[-1]
  assert re.fullmatch("error: .*No space left.*", last), done.stderr[-2000:]
  kept = checkpointing.Checkpointer(tmp_path / "kept", read_only=True)
  assert kept.latest_sound() in (3, 6)


def test_a_workdir_that_cannot_be_written_is_refused(
  compiled, data_dir, tmp_path
):
  mount = "mount --bind {0} {0} && mount -o remount,ro,bind {0}"
  done = launch(compiled, data_dir, tmp_path, mount)
  assert done.returncode == 1
  last = done.stderr.splitlines()[-1]
  words = "error: workdir .* cannot be written: .*Read-only file system.*"
  assert re.fullmatch(words, last)
  assert "Traceback" not in done.stderr
  assert "step 1/" not in done.stderr
  assert not list((tmp_path / "kept").iterdir())


if __name__ == "__main__":
  hang(*map(Path, sys.argv[1:]))
