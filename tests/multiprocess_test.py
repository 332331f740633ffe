"""Two processes of four devices against one of eight, through checkpoints."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np

from tests import scale
from tier_jax import checkpointing

SETTINGS = {
  "plain": scale.Setting(4, 2),
  "all": scale.Setting(2, 4, accumulate=2, ring=True),
}
EARLY, LATE = range(2), range(2, 4)


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


def compare(name: str, directory: Path) -> None:
  """Raises AssertionError unless two processes and one make the same losses."""
  one, two = directory / "one", directory / "two"
  training = scale.Training(SETTINGS[name], "adamw", "infonce")
  want = train(training, one, None)
  with socket.socket() as listener:
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "tests.multiprocess_test"),
        *(name, str(port), str(index), str(two), str(one)),
      ],
      cwd=Path(__file__).parents[1],
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for index in range(2)
  ]
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


def main(
  name: str, port: str, index: str, workdir: str, resume_from: str
) -> None:
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax.config.update("jax_num_cpu_devices", 4)
  jax.distributed.initialize(
    f"127.0.0.1:{port}",
    num_processes=2,
    process_id=int(index),
    initialization_timeout=60,
  )
  assert jax.device_count() == 8
  training = scale.Training(SETTINGS[name], "adamw", "infonce")
  print(json.dumps(train(training, Path(workdir), Path(resume_from))))


if __name__ == "__main__":
  main(*sys.argv[1:])
