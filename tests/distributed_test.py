"""Start-up as the launchers do it, with processes on this machine."""

import os
import socket
import subprocess
import sys

import pytest

from tier_jax import distributed

PROGRAM = """
import jax
from tier_jax import distributed
jax.config.update("jax_num_cpu_devices", 2)
distributed.initialize()
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from tier_jax import sharding
mesh = sharding.make_mesh(sharding.MeshConfig(fsdp=2))
local = np.full((2, 3), 1 + jax.process_index(), np.float32)
batch = sharding.put_batch({"x": local}, mesh)["x"]
whole = NamedSharding(mesh, PartitionSpec())
total = jax.jit(lambda x: x.sum(), out_shardings=whole)(batch)
print(jax.process_index(), jax.process_count(), batch.shape, float(total))
"""
LAUNCHERS = {
  "slurm": lambda index: {
    "SLURM_JOB_ID": "7",
    "SLURM_NTASKS": "2",
    "SLURM_STEP_NODELIST": "localhost,other[1-3]",
    "SLURM_PROCID": str(index),
    "SLURM_LOCALID": str(index),
  },
  "open_mpi": lambda index: {
    "OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_RANK": str(index),
    "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
  },
  "any": lambda index: {
    "JAX_NUM_PROCESSES": "2",
    "JAX_PROCESS_ID": str(index),
  },
}
FOREIGN = ("SLURM_", "OMPI_", "JAX_COORDINATOR", "JAX_PROCESS", "JAX_NUM_PRO")


def clean_environment():
  env = {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}
  return {k: v for k, v in env.items() if "_proxy" not in k.lower()}


def run_all(variables):
  """Runs PROGRAM once with each set of variables; returns what they print."""
  processes = [
    subprocess.Popen(
      [sys.executable, "-c", PROGRAM],
      env={**clean_environment(), "JAX_PLATFORMS": "cpu", **more},
      stdout=subprocess.PIPE,
      stderr=subprocess.PIPE,
      text=True,
    )
    for more in variables
  ]
  try:
    outputs = [process.communicate(timeout=120) for process in processes]
  finally:
    for process in processes:
      process.kill()
  for process, (_, stderr) in zip(processes, outputs, strict=True):
    assert process.returncode == 0, stderr[-2000:]
  # The last line; gloo has its say before.
  return [out.splitlines()[-1].split(maxsplit=2) for out, _ in outputs]


@pytest.mark.parametrize("launcher", ["slurm", "any"])
def test_two_processes_meet_without_flags(launcher):
  with socket.socket() as free:
    free.bind(("127.0.0.1", 0))
    port = free.getsockname()[1]
  more = {"JAX_COORDINATOR_PORT": str(port)}
  if launcher == "any":
    more = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}"}
  lines = run_all([LAUNCHERS[launcher](i) | more for i in range(2)])
  # 2 x 3 ones and 2 x 3 twos, as both see them.
  assert [line[:2] for line in lines] == [["0", "2"], ["1", "2"]]
  assert [line[2] for line in lines] == ["(4, 3) 18.0"] * 2


@pytest.mark.parametrize(
  "variables",
  [
    {},
    LAUNCHERS["slurm"](0) | {"SLURM_NTASKS": "1"},
    # A batch script: a job, but no step of it.
    {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_PROCID": "0"},
    LAUNCHERS["open_mpi"](0) | {"OMPI_COMM_WORLD_SIZE": "1"},
    LAUNCHERS["any"](0)
    | {"JAX_NUM_PROCESSES": "1", "JAX_COORDINATOR_ADDRESS": "h:1"},
  ],
)
def test_one_process_starts_nothing(monkeypatch, variables):
  monkeypatch.setattr(os, "environ", clean_environment() | variables)
  monkeypatch.setattr(
    distributed.jax.distributed, "initialize", lambda *_, **__: 1 / 0
  )
  distributed.initialize()


@pytest.mark.parametrize(
  ("variables", "words"),
  [
    ({"JAX_PROCESS_ID": "0"}, "JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES not"),
    ({"JAX_NUM_PROCESSES": "2"}, "JAX_COORDINATOR_ADDRESS, JAX_PROCESS_ID not"),
    (LAUNCHERS["any"](2) | {"JAX_COORDINATOR_ADDRESS": "h:1"}, "0 <= id"),
    (LAUNCHERS["any"](-1) | {"JAX_COORDINATOR_ADDRESS": "h:1"}, "'-1'"),
    (LAUNCHERS["any"](0) | {"JAX_COORDINATOR_ADDRESS": "host"}, "host:port"),
  ],
)
def test_half_a_launcher_is_refused(monkeypatch, variables, words):
  monkeypatch.setattr(os, "environ", clean_environment() | variables)
  with pytest.raises(ValueError, match=words):
    distributed.initialize()
