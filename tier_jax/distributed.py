"""Start-up: connects the processes of one job, before anything else."""

import os

import jax
from absl import logging
from orbax.checkpoint import multihost

# For any launcher that jax does not know; jax itself reads the first.
_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
_LATEST_MS = 24 * 3600 * 1000


def initialize() -> None:
  """Connects this process to the others of its job; alone it does nothing.

  Must come before anything that starts a backend, `jax.devices()` included.
  What launched the process is known by its environment:

  - JAX_COORDINATOR_ADDRESS (host:port of process 0), JAX_NUM_PROCESSES and
    JAX_PROCESS_ID, where they are set: any launcher, such as a JobSet of GPUs;
  - else Slurm (`srun` with more than one task; each gets the GPU of its local
    number, so start one task a GPU), Open MPI, and Cloud TPUs, as plain VMs or
    on GKE: jax finds the others by itself.

  Processes other than the first log only warnings from then on.

  Raises:
    ValueError: if only some of the three variables are set, or they are out of
      range.
  """
  given = {name: os.environ[name] for name in _EXPLICIT if name in os.environ}
  if given.keys() & {*_EXPLICIT[1:]}:
    address, count, index = _explicit(given)
    if count == 1:
      return
    jax.distributed.initialize(
      address, count, index, cluster_detection_method="deactivate"
    )
  elif _in_a_cluster():
    jax.distributed.initialize()
  else:
    return
  logging.info(
    "process %d of %d, with %d of %d devices",
    jax.process_index(),
    jax.process_count(),
    jax.local_device_count(),
    jax.device_count(),
  )
  if jax.process_index():
    logging.set_verbosity(logging.WARNING)


def wait(name: str) -> None:
  """Returns when every process of the job has come here, however late.

  A process that ended instead would after five minutes be taken for lost, and
  so end the others. No device works meanwhile.

  Args:
    name: of this place; used once in a job.
  """
  multihost.get_barrier_sync_fn()(key=name, timeout_ms=_LATEST_MS)


def _explicit(given):
  missing = [name for name in _EXPLICIT if name not in given]
  if missing:
    raise ValueError(
      f"{', '.join(missing)} not set, expected all of {', '.join(_EXPLICIT)} "
      "or none"
    )
  address, *numbers = (given[name] for name in _EXPLICIT)
  if not all(number.isdecimal() for number in numbers) or not (
    int(numbers[1]) < int(numbers[0])
  ):
    raise ValueError(
      f"JAX_NUM_PROCESSES is {numbers[0]!r} and JAX_PROCESS_ID "
      f"{numbers[1]!r}, expected numbers with 0 <= id < count"
    )
  if not address.rpartition(":")[2].isdecimal():
    raise ValueError(
      f"JAX_COORDINATOR_ADDRESS is {address!r}, expected host:port"
    )
  return address, *map(int, numbers)


def _in_a_cluster() -> bool:
  """Whether jax's own detection has something to find."""
  if "OMPI_MCA_orte_hnp_uri" in os.environ:
    return int(os.environ.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
  # A batch script is a job but no step: there srun has started nothing.
  if "SLURM_STEP_NODELIST" in os.environ:
    return int(os.environ.get("SLURM_NTASKS", 1)) > 1
  # On a TPU host jax chooses the TPU as it is imported. A lone host asks too:
  # that it has no neighbours is known only to GKE or to the metadata server.
  platforms = jax.config.jax_platforms  # pyright: ignore
  return "tpu" in (platforms or "").split(",") and (
    "TPU_WORKER_HOSTNAMES" in os.environ
    or "TPU_SKIP_MDS_QUERY" not in os.environ
  )
