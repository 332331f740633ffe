"""Two processes of four devices against one of eight, through checkpoints."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from absl import logging

from tests import scale, trainings
from tier_jax import checkpointing, metric_writer, preemption, prefetch
from tier_jax import train as train_lib

pytestmark = pytest.mark.usefixtures("unoptimized")

SETTINGS = {
  "plain": scale.Setting(4, 2),
  "all": scale.Setting(2, 4, accumulate=2, ring=True),
}
EARLY, LATE = range(2), range(2, 4)
MANY = 1000  # steps, more than a notice takes


def train(
  training: scale.Training, workdir: Path, resume_from: Path | None
) -> list[float]:
  """Returns the losses of EARLY, then of LATE from the state of `resume_from`.

  The state in between is saved in `workdir`.
  """
  state, early = training.run(training.start(), EARLY)
  writer = checkpointing.Checkpointer(workdir)
  writer.save(len(EARLY), state, {}, {}, {})
  writer.close()
  if resume_from is None:
    return early + training.run(state, LATE)[1]
  return early + resume(training, resume_from)


def resume(training: scale.Training, workdir: Path) -> list[float]:
  """Returns the losses of LATE."""
  reader = checkpointing.Checkpointer(workdir, read_only=True)
  state, _, _ = reader.restore(len(EARLY), training.abstract)
  return training.run(state, LATE)[1]


def test_two_processes_train_as_one_and_resume_each_other(tmp_path):
  compare("plain", tmp_path)  # tests.scale has the other


def test_a_sigterm_to_one_process_saves_and_ends_both(tmp_path):
  data_dir, workdir = trainings.write_data(tmp_path), tmp_path / "run"
  processes = start_two("preempted", str(data_dir), str(workdir))
  said = []
  for process in processes:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == preemption.EXIT_CODE, errors[-3000:]
    said += re.findall(r"preempted: step (\d+) is saved", errors)
  (step,) = map(int, said)  # process 0 says it
  assert step < MANY
  trainings.assert_sound(workdir, [step])


def start_two(name: str, *arguments: str) -> list[subprocess.Popen]:
  """Starts two processes of `main`."""
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
  return [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "tests.multiprocess_test"),
        *(name, str(port), str(index), *arguments),
      ],
      cwd=Path(__file__).parents[1],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]


def compare(name: str, directory: Path) -> None:
  """Raises AssertionError unless two processes and one make the same losses."""
  one, two = directory / "one", directory / "two"
  training = scale.Training(SETTINGS[name], "adamw", "infonce")
  want = train(training, one, None)
  processes = start_two(name, str(two), str(one))
  for process in processes:
    output, errors = process.communicate(timeout=300)
    assert not process.returncode, errors[-3000:]
    # The later steps are resumed from what the one process saved.
    np.testing.assert_allclose(
      json.loads(output.splitlines()[-1]), want, rtol=1e-6
    )
  # And the one resumes from what the two saved.
  late = resume(training, two)
  np.testing.assert_allclose(late, want[len(EARLY) :], rtol=1e-6)


def train_until_preempted(index: int, data_dir: str, workdir: str) -> None:
  """Trains, and sends process 1 a SIGTERM after a few steps."""
  take, count = prefetch.Prefetcher.next, [0]

  def look(batches):
    count[0] += 1
    if index == 1 and count[0] == 3:
      os.kill(os.getpid(), signal.SIGTERM)
    return take(batches)

  prefetch.Prefetcher.next = look
  config = trainings.config(
    Path(data_dir),
    num_steps=MANY,
    checkpoint_every=MANY,
    eval_every=MANY,
    log_every=MANY,
  )
  metric_writer.log_plainly()
  if index:
    logging.set_verbosity(logging.WARNING)  # as `distributed.initialize` does
  train_lib.train_and_evaluate(config, workdir)


def main(name: str, port: str, index: str, *arguments: str) -> None:
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax.config.update("jax_num_cpu_devices", 1 if name == "preempted" else 4)
  # They take longer than all steps.
  jax.config.update("jax_disable_most_optimizations", True)
  jax.distributed.initialize(
    f"127.0.0.1:{port}",
    num_processes=2,
    process_id=int(index),
    initialization_timeout=60,
  )
  if name == "preempted":
    train_until_preempted(int(index), *arguments)
    return
  assert jax.device_count() == 8
  training = scale.Training(SETTINGS[name], "adamw", "infonce")
  print(json.dumps(train(training, *map(Path, arguments))))


if __name__ == "__main__":
  main(*sys.argv[1:])
