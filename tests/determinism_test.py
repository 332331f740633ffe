"""The same config is the same training, batch for batch and bit for bit."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from tests import trainings
from tier_jax import train

# Of the first five batches. What is read and tokenised is the same anywhere.
# Images are drawn by OpenCV, whose interpolation may change with its version,
# which the constraints pin: then this golden value may change too, and a run
# may not be resumed across versions.
GOLDEN = {
  "ids": "331e311860f8f54ecddf5177c3776c4c97af10cd7dc128b3a42fb65ffdc07a82",
  "images": "c4041b618861b78c84a92a0ed0ac5df06e5a9c639b2b5098f0da8c9e5244d8f0",
}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return trainings.write_data(tmp_path_factory.mktemp("data"))


def test_the_first_batches_are_those_of_the_golden_digests(data_dir):
  config = trainings.config(data_dir)
  batches = trainings.iterator(config)
  digests = {name: hashlib.sha256() for name in GOLDEN}
  for _ in range(5):
    batch = next(batches)
    for name in sorted(batch):
      array = np.ascontiguousarray(batch[name])
      digest = digests["images" if name == "image" else "ids"]
      digest.update(f"{name} {array.dtype} {array.shape}".encode())
      digest.update(array.tobytes())
  assert {name: d.hexdigest() for name, d in digests.items()} == GOLDEN


def test_two_processes_end_with_equal_parameters(data_dir, tmp_path):
  processes = [
    subprocess.Popen(
      [
        *(sys.executable, "-m", "tests.determinism_test"),
        *(str(data_dir), str(tmp_path / name)),
      ],
      cwd=Path(__file__).parents[1],
      stdout=subprocess.DEVNULL,
      stderr=subprocess.PIPE,
      text=True,
    )
    for name in ("one", "two")
  ]
  for process in processes:
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors[-3000:]
  assert trainings.digest(tmp_path / "one") == trainings.digest(
    tmp_path / "two"
  )


def test_nothing_is_compiled_after_the_first_time(
  data_dir, tmp_path, tmp_path_factory, monkeypatch
):
  compiled = []  # or found among what was

  def listen(event, seconds, **_):
    if event == "/jax/core/compile/backend_compile_duration":
      compiled.append(seconds)

  batches, counts = trainings.Batches(monkeypatch), []
  for number in range(1, 9):
    batches.at(number, lambda: counts.append(len(compiled)))
  # All of it after step 2: diagnostics, an evaluation and a checkpoint.
  every = ("diagnostics_every", "checkpoint_every", "eval_every")
  config = trainings.config(data_dir, **dict.fromkeys(every, 2))
  jax.monitoring.register_event_duration_secs_listener(listen)
  try:
    with trainings.compiled_once(tmp_path_factory):
      train.train_and_evaluate(config, tmp_path)
  finally:
    jax.monitoring.unregister_event_duration_listener(listen)
  # The first save goes on in the background until the second, after step 4.
  assert 0 < counts[0] < counts[4]
  assert counts[4:] == [counts[4]] * 4
  assert len(compiled) == counts[4]


def main(data_dir: str, workdir: str) -> None:
  os.environ["JAX_PLATFORMS"] = "cpu"
  jax.config.update("jax_num_cpu_devices", 1)
  # They take longer than all steps. Each process compiles for itself.
  jax.config.update("jax_disable_most_optimizations", True)
  config = trainings.config(
    Path(data_dir), num_steps=50, eval_every=50, checkpoint_every=50
  )
  train.train_and_evaluate(config, workdir)


if __name__ == "__main__":
  main(*sys.argv[1:])
