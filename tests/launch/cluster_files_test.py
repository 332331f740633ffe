"""The files that start trainings on clusters, as far as a laptop can tell."""

import math
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = ("slurm.sbatch", "tpu_vm.sh")
CHANGE = "--config.optim.frozen=('text_tower/.*', 'a b')"


def run(*command, **env):
  return subprocess.run(
    command,
    cwd=LAUNCH.parent,
    env={**os.environ, **env},
    capture_output=True,
    text=True,
    timeout=60,
    check=False,
  )


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_parse(name):
  done = run("bash", "-n", f"launch/{name}")
  assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not shutil.which("shellcheck"), reason="no shellcheck")
@pytest.mark.parametrize("name", SCRIPTS)
def test_shellcheck_finds_nothing(name):
  done = run("shellcheck", f"launch/{name}")
  assert done.returncode == 0, done.stdout


def test_slurm_starts_one_task_a_gpu_and_passes_flags_on(tmp_path):
  srun = tmp_path / "srun"
  srun.write_text('#!/bin/bash\nprintf "%s\\n" "$@"\nenv | grep -i _proxy\n:\n')
  srun.chmod(0o755)
  done = run(
    "bash",
    "launch/slurm.sbatch",
    CHANGE,
    PATH=f"{tmp_path}:{os.environ['PATH']}",
    https_proxy="http://proxy",
  )
  assert done.returncode == 0, done.stderr
  lines = done.stdout.splitlines()
  assert lines[:3] == ["--wait=60", ".venv/bin/python", "launch/train.py"]
  assert lines[-2].startswith("--workdir=")
  assert lines[-1] == CHANGE
  options = dict(
    line.removeprefix("#SBATCH --").split("=")
    for line in (LAUNCH / "slurm.sbatch").read_text("utf-8").splitlines()
    if line.startswith("#SBATCH --") and "=" in line
  )
  assert options["ntasks-per-node"] == options["gpus-per-node"]


@pytest.mark.parametrize("status", [0, 1, 75])
def test_slurm_requeues_what_was_preempted_and_nothing_else(tmp_path, status):
  for name, line in (("srun", f"exit {status}"), ("scontrol", 'echo "$@"')):
    (tmp_path / name).write_text(f"#!/bin/bash\n{line}\n")
    (tmp_path / name).chmod(0o755)
  done = run(
    "bash",
    "launch/slurm.sbatch",
    PATH=f"{tmp_path}:{os.environ['PATH']}",
    SLURM_JOB_ID="12",
  )
  assert done.returncode == status
  assert done.stdout == ("requeue 12\n" if status == 75 else "")


def test_tpu_vm_dry_run_runs_the_training_everywhere():
  done = run("launch/tpu_vm.sh", "train", CHANGE, DRY_RUN="1", NAME="slice")
  assert done.returncode == 0, done.stderr
  first, *rest = done.stdout.splitlines()
  assert first == (
    "gcloud compute tpus tpu-vm ssh slice --worker=all --command="
  )
  text = "\n".join(rest)
  assert "launch/train.py" in text
  # What the hosts' shells make of it is the flag itself.
  flags = text.partition("launch/train.py")[2].partition(" --project=")[0]
  done = run("bash", "-c", f'printf "%s\\n" {flags}', HOME="/home/x")
  assert done.stdout.splitlines() == [
    "--config=configs/vit_b16.py",
    "--config.data.data_dir=/home/x/data",
    "--workdir=/home/x/bucket/runs/vit_b16",
    CHANGE,
  ]
  for command in ("create", "setup", "delete"):
    assert run("launch/tpu_vm.sh", command, DRY_RUN="1").returncode == 0


def test_tpu_vm_refuses_what_it_does_not_know():
  done = run("launch/tpu_vm.sh", "destroy")
  assert done.returncode == 2
  assert "got 'destroy'" in done.stderr


def test_gke_jobset_has_a_pod_for_each_host_of_the_slice():
  text = (LAUNCH / "gke.yaml").read_text("utf-8")
  jobset = yaml.safe_load(text)
  assert jobset["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
  assert jobset["kind"] == "JobSet"
  (replicated,) = jobset["spec"]["replicatedJobs"]
  job = replicated["template"]["spec"]
  pod = job["template"]["spec"]
  (container,) = pod["containers"]
  topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"]
  chips = math.prod(map(int, topology.split("x")))
  hosts = chips // container["resources"]["limits"]["google.com/tpu"]
  assert job["parallelism"] == job["completions"] == hosts
  assert job["completionMode"] == "Indexed"
  mounts = {mount["name"] for mount in container["volumeMounts"]}
  assert mounts == {volume["name"] for volume in pod["volumes"]}
  assert container["command"][1] == "launch/train.py"
  # With the variables commented in, the pods of GPUs know each other.
  lines = text.splitlines()
  start = next(i for i, line in enumerate(lines) if line.endswith("# env:"))
  stop = next(i for i, line in enumerate(lines) if line.endswith("ports:"))
  lines[start:stop] = [line.replace("# ", "", 1) for line in lines[start:stop]]
  with_gpus = yaml.safe_load("\n".join(lines))
  job = with_gpus["spec"]["replicatedJobs"][0]["template"]["spec"]
  env = job["template"]["spec"]["containers"][0]["env"]
  values = {entry["name"]: entry.get("value") for entry in env}
  name = f"{jobset['metadata']['name']}-{replicated['name']}-0-0"
  host = values["JAX_COORDINATOR_ADDRESS"].split(":")[0]
  assert host == f"{name}.{jobset['metadata']['name']}"
  assert values["JAX_NUM_PROCESSES"] == str(job["parallelism"])
  assert "JAX_PROCESS_ID" in values
