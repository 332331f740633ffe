"""Kills trainings at random moments; the result must not show it.

  python -m tests.chaos --kills=20 --changes=20

trains once undisturbed, once with SIGKILL and SIGTERM in steps, saves,
evaluations and starts, and once so on 1, 2 or 4 devices by turns. Prints what
each kill met, and ends with an error if anything shows.
"""

import argparse
import collections
import itertools
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests import chaos_checks as checks
from tests import chaos_worker
from tier_jax.data import pair_source

ROOT = Path(__file__).parents[1]
SAVE_EVERY = chaos_worker.SAVE_EVERY
TOLERANCE = 1e-3  # relative, of a loss on other devices
GRACE = 30  # seconds from a SIGTERM to the end
PATIENCE = 300  # seconds that anything else may take

Attack = tuple[signal.Signals, str]  # and the state to send it in
KILL, TERM = signal.SIGKILL, signal.SIGTERM
ATTACKS: tuple[Attack, ...] = (
  *[(KILL, "start"), (TERM, "start")],
  *[(KILL, "step")] * 4,
  *[(TERM, "step")] * 3,
  *[(KILL, "save")] * 2,
  *[(TERM, "save")] * 2,
  *[(KILL, "sums")] * 2,
  *[(KILL, "evaluation")] * 2,
  *[(TERM, "evaluation")] * 3,
)


class Start:
  """One start of a training, in a process of its own."""

  def __init__(
    self, data_dir: Path, workdir: Path, devices: int, num_steps: int
  ):
    """Starts it; what it puts out goes to files beside `workdir`."""
    self._checkpoints = workdir / "checkpoints"
    number = len(list(workdir.parent.glob("*.log")))
    self._events = workdir.with_name(f"{number}.events")
    self._log = workdir.with_name(f"{number}.log")
    env = {key: os.environ[key] for key in os.environ if key != "XLA_FLAGS"}
    with self._events.open("wb") as events, self._log.open("wb") as log:
      self._process = subprocess.Popen(
        [
          *(sys.executable, "-m", "tests.chaos_worker"),
          *map(str, (data_dir, workdir, devices, num_steps)),
        ],
        cwd=ROOT,
        env=env,
        stdout=events,
        stderr=log,
      )

  def events(self) -> list[dict[str, Any]]:
    """Returns what it has told so far, see `chaos_worker`."""
    return _read(self._events)

  def last(self, kind: str) -> int:
    """Returns the step of the last event of a kind, 0 for none."""
    steps = [e["step"] for e in self.events() if e["event"] == kind]
    return steps[-1] if steps else 0

  def says(self, pattern: str) -> str | None:
    """Returns the group of a pattern in its log, None if it is not there."""
    found = re.search(pattern, self._log.read_text())
    return found and found[1]

  def state(self) -> str:
    """Returns "start", "step", "evaluation", or the part of a save.

    That is "save", or "sums" when only the checksums are missing.
    """
    events = self.events()
    if not events:
      return "start"
    if events[-1]["event"] == "evaluation":
      return "evaluation"
    saving = self.last("save")
    path = self._checkpoints / str(saving)
    if saving and not (path / "SHA256SUMS").exists():
      return "sums" if path.exists() else "save"
    return "step"

  def wait(self, seconds: float = PATIENCE) -> int:
    """Returns the exit code. Raises RuntimeError if it takes longer."""
    try:
      return self._process.wait(seconds)
    except subprocess.TimeoutExpired:
      raise self.failure(f"no end in {seconds} s") from None

  def kill(self, number: signal.Signals, aim: str, rng: random.Random) -> str:
    """Waits for a moment, sends the signal, and returns the state it met.

    Args:
      number: of the signal.
      aim: the state to wait for; it may have passed when the signal comes.
      rng: draws the moment.

    Raises:
      RuntimeError: if the training ends before, or does not end after.
    """
    most = 6.0 if aim == "start" else 0.1
    delay = rng.uniform(0, most if aim != "sums" else 0)
    least = rng.randint(1, 2 * SAVE_EVERY) if aim == "step" else 0
    deadline = time.monotonic() + PATIENCE
    while self.state() != aim or self._count("batch") < least:
      if self._process.poll() is not None:
        raise self.failure(f"ended before a {aim}")
      if time.monotonic() > deadline:
        raise self.failure(f"no {aim} in {PATIENCE} s")
      time.sleep(0.001)
    time.sleep(delay)
    state = self.state()
    self._process.send_signal(number)
    self.wait(GRACE)
    # It went on for a moment; after a SIGKILL all is as that left it.
    return self.state() if number == KILL else state

  def _count(self, kind):
    return sum(event["event"] == kind for event in self.events())

  def failure(self, text: str) -> RuntimeError:
    """Ends it, and returns an error with the end of its log."""
    self._process.kill()
    return RuntimeError(f"{text}: {self._log.read_text()[-2000:]}")


def run(
  data_dir: Path,
  workdir: Path,
  num_steps: int,
  rng: random.Random,
  attacks: Iterable[Attack] = (),
  devices: Sequence[int] = (1,),
) -> checks.Story:
  """Trains, kills each start but the last, and prints a line a kill.

  Args:
    data_dir: of a dataset.
    workdir: of the training; logs go beside it.
    num_steps: of the training.
    rng: draws moments and devices.
    attacks: what to send, and when.
    devices: how many there may be; if there is a choice, each start has others
      than the one before.

  Raises:
    RuntimeError: if a start does not go as far as it should.
  """
  workdir.parent.mkdir()
  kills, events, count, sound = [], [], 0, 0
  for number, aim in attacks:
    count = rng.choice([n for n in devices if n != count] or devices)
    begin = time.monotonic()
    start = Start(data_dir, workdir, count, num_steps)
    state = start.kill(number, aim, rng)
    told = start.events()
    resumed = start.says(r"resuming at step (\d+)") or (told and "0") or None
    said = start.says(r"preempted: step (\d+) is saved")
    kill = checks.Kill(
      number=number,
      state=state,
      code=start.wait(),
      before=sound,
      resumed=resumed and int(resumed),
      last=start.last("batch"),
      saving=start.last("save"),
      said=said and int(said),
      sound=checks.sound_step(workdir / "checkpoints"),
    )
    kills.append(kill)
    events.append(told)
    sound = kill.sound
    print(
      f"{workdir.parent.name} {len(kills)}: {number.name} in {state} "
      f"(aimed at {aim}), {count} devices, from {kill.resumed} to {kill.last}; "
      f"{sound} is sound, {kill.lost} lost, code {kill.code}; "
      f"{time.monotonic() - begin:.0f} s",
      flush=True,
    )
  start = Start(data_dir, workdir, devices[0], num_steps)
  if code := start.wait():
    raise start.failure(f"ended with {code}")
  digests = [
    start.says(rf"final {what} sha256:(\w+)")
    for what in ("parameters", "moving average")
  ]
  return checks.Story(
    kills,
    [*events, start.events()],
    _read(workdir / "metrics.jsonl"),
    (digests[0], digests[1]),
    len(list((workdir / "damaged").glob("*"))),
  )


def _read(path):
  """Returns the objects of a file of lines, but for one that is cut short."""
  lines = path.read_text("utf-8").splitlines(keepends=True)
  return [json.loads(line) for line in lines if line.endswith("\n")]


def make_data(root: Path) -> Path:
  """Returns a data_dir of phantoms: to train on, and a benchmark."""
  raw, data, key = root / "raw", root / "data", root / "id_key"
  key.write_text("0" * 64)  # which fixes the order of the records
  key.chmod(0o600)
  commands = [("phantom", f"--output_dir={raw}", "--num_patients=60")]
  for name in ("mimic_cxr", "chexpert"):
    directories = f"--source_dir={raw / name}", f"--output_dir={data / name}"
    more = "--short_side=64", f"--id_key_file={key}"
    commands.append((name, *directories, *more))
  for command in commands:
    subprocess.run(
      [sys.executable, "-m", "data_prep", *command],
      cwd=ROOT,
      check=True,
      capture_output=True,
    )
  return data


def report(name: str, story: checks.Story, largest: float) -> None:
  """Prints what a training went through."""
  print(f"\n{name}: {len(story.kills)} kills")
  met = collections.Counter((kill.state, kill.number) for kill in story.kills)
  for state in ("start", "step", "evaluation", "save", "sums"):
    counts = [met[state, number] for number in (KILL, TERM)]
    print(f"  in {state:10}  {counts[0]:2} SIGKILL  {counts[1]:2} SIGTERM")
  for number in (KILL, TERM):
    lost = [kill.lost for kill in story.kills if kill.number == number]
    if lost:
      print(f"  steps lost by {number.name}: {lost}")
  print(
    f"  damaged steps set aside: {story.damaged}\n"
    f"  largest relative difference of a loss: {largest:.2g}\n"
    f"  final parameters sha256:{story.digests[0]}\n"
    f"  moving average   sha256:{story.digests[1]}"
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--kills", type=int, default=20, help="on one device")
  parser.add_argument("--changes", type=int, default=20, help="of devices")
  parser.add_argument("--num_steps", type=int, default=100)
  parser.add_argument("--seed", type=int, default=0)
  arguments = parser.parse_args()
  rng = random.Random(arguments.seed)
  with tempfile.TemporaryDirectory() as directory:
    root = Path(directory)
    data_dir = make_data(root)
    config = chaos_worker.make_config(data_dir, arguments.num_steps)
    size = len(pair_source.PairSource(config.data, "train"))
    calm = run(data_dir, root / "calm" / "run", arguments.num_steps, rng)
    problems = checks.epoch_problems(
      checks.steps_of(calm.events, "batch", "records"), size
    )
    print(
      f"{arguments.num_steps} steps, {size} records an epoch; undisturbed "
      f"parameters sha256:{calm.digests[0]}",
      flush=True,
    )
    for name, kills, devices, tolerance in (
      ("steady", arguments.kills, (1,), 0.0),
      ("changing", arguments.changes, (1, 2, 4), TOLERANCE),
    ):
      attacks = itertools.cycle(rng.sample(ATTACKS, len(ATTACKS)))
      story = run(
        data_dir,
        root / name / "run",
        arguments.num_steps,
        rng,
        itertools.islice(attacks, kills),
        devices,
      )
      found, largest = checks.story_problems(story, calm, tolerance)
      report(name, story, largest)
      problems += [f"{name}: {problem}" for problem in found]
  if problems:
    sys.exit("\n".join(["", *problems]))
  print("\nnothing shows")


if __name__ == "__main__":
  main()
