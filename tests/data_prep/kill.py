"""Kills data_prep at random moments; the result must not show it.

`python -m tests.data_prep.kill --kills=10 --workers=1,2,4 [--beam]`

For each number of workers it draws phantoms, prepares them once undisturbed,
then starts over, sends SIGKILL at random moments `--kills` times, lets a last
run finish, and compares every byte.
"""

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]


def digest(directory: Path) -> str:
  """Returns one digest over the names and bytes of all files."""
  total = hashlib.sha256()
  for path in sorted(directory.rglob("*")):
    if path.is_file():
      content = hashlib.sha256(path.read_bytes()).hexdigest()
      total.update(f"{path.relative_to(directory)} {content}\n".encode())
  return total.hexdigest()


def prepare(source: Path, output: Path, *flags: str) -> subprocess.Popen:
  """Starts data_prep on phantoms."""
  return subprocess.Popen(
    [
      sys.executable,
      "-m",
      "data_prep",
      "mimic_cxr",
      f"--source_dir={source / 'mimic_cxr'}",
      f"--output_dir={output}",
      f"--id_key_file={source / 'id_key'}",
      "--shard_records=2",
      "--short_side=64",
      *flags,
    ],
    cwd=ROOT,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    start_new_session=True,
  )


def children(session: int) -> list[int]:
  """Returns the processes that a run has left behind."""
  found = []
  for stat in Path("/proc").glob("[0-9]*/stat"):
    try:
      fields = stat.read_text().rpartition(")")[2].split()
    except OSError:
      continue
    if int(fields[3]) == session and fields[0] != "Z":
      found.append(int(stat.parent.name))
  return found


def draw(source: Path, num_patients: int) -> None:
  """Draws phantoms, and a fixed key beside them."""
  subprocess.run(
    [
      sys.executable,
      "-m",
      "data_prep",
      "phantom",
      f"--output_dir={source}",
      f"--num_patients={num_patients}",
    ],
    cwd=ROOT,
    check=True,
    capture_output=True,
  )
  (source / "id_key").write_text("0" * 64)


def attempt(
  source: Path, output: Path, kills: int, rng: random.Random, *flags: str
) -> tuple[str, int, float]:
  """Kills runs; returns the digest, how many kills hit, and the seconds.

  The seconds are those of one run that is left alone, in another directory.

  Raises:
    RuntimeError: if a run fails by itself, or a process outlives its parent.
  """
  begin = time.monotonic()
  finish(prepare(source, output.with_name("calm"), *flags))
  whole_s = time.monotonic() - begin
  part = output.with_name(f".{output.name}.part")
  hits = 0
  for _ in range(kills):
    run = prepare(source, output, *flags)
    # As soon as it has come a little further than the run before, or later.
    wanted = len(list(part.glob("*-*.json"))) + rng.randint(0, 2)
    while run.poll() is None and (
      not part.exists() or len(list(part.glob("*-*.json"))) < wanted
    ):
      time.sleep(0.002)
    time.sleep(rng.uniform(0, 0.1))
    if run.poll() is None:
      os.kill(run.pid, signal.SIGKILL)
      hits += 1
    run.communicate()
    deadline = time.monotonic() + 30
    while children(run.pid):
      if time.monotonic() > deadline:
        raise RuntimeError("a process outlives the run that was killed")
      time.sleep(0.05)
  finish(prepare(source, output, *flags))
  left = {path.name for path in output.parent.iterdir()}
  if left != {output.name, "calm"}:
    raise RuntimeError(f"the killed runs left {sorted(left)}")
  if digest(output) != digest(output.with_name("calm")):
    raise RuntimeError("the killed runs' bytes differ from the calm run's")
  return digest(output), hits, whole_s


def finish(run: subprocess.Popen) -> None:
  """Waits for a run. Raises RuntimeError if it fails."""
  _, errors = run.communicate()
  if run.returncode:
    raise RuntimeError(f"data_prep failed: {errors.decode()}")


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--kills", type=int, default=10)
  parser.add_argument("--workers", default="1,2,4")
  parser.add_argument("--num_patients", type=int, default=120)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--beam", action="store_true", help="and through Beam")
  arguments = parser.parse_args()
  rng = random.Random(arguments.seed)
  ways = [[f"--num_workers={n}"] for n in arguments.workers.split(",")]
  if arguments.beam:
    ways.append(["--runner=DirectRunner"])
  digests = set()
  with tempfile.TemporaryDirectory() as directory:
    source = Path(directory, "raw")
    draw(source, arguments.num_patients)
    for number, flags in enumerate(ways):
      result, hits, whole_s = attempt(
        source,
        Path(directory, str(number), "set"),
        arguments.kills,
        rng,
        *flags,
      )
      digests.add(result)
      print(
        f"{flags[0]}: {hits} of {arguments.kills} kills hit a run of "
        f"{whole_s:.1f} s; sha256:{result}",
        flush=True,
      )
  if len(digests) != 1:
    raise RuntimeError(f"{len(digests)} different results")
  print("all equal")


if __name__ == "__main__":
  main()
