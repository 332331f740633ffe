"""What a kill may leave, and what must not show in the end, for `chaos.py`."""

import dataclasses
import hashlib
import math
import signal
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests import chaos_worker
from tier_jax import preemption

SAVE_EVERY = chaos_worker.SAVE_EVERY


def sound_step(checkpoints: Path) -> int:
  """Returns the newest step that agrees with its checksums, 0 for none."""
  paths = [path for path in checkpoints.glob("*") if path.name.isdecimal()]
  for path in sorted(paths, key=lambda path: -int(path.name)):
    sums = path / "SHA256SUMS"
    if sums.exists():
      lines = sums.read_text().splitlines()
      listed = {line[66:]: line[:64] for line in lines}
      found = {
        str(file.relative_to(path)): hashlib.sha256(file.read_bytes())
        for file in path.rglob("*")
        if file.is_file() and file != sums
      }
      if {name: total.hexdigest() for name, total in found.items()} == listed:
        return int(path.name)
  return 0


@dataclasses.dataclass(frozen=True)
class Kill:
  """What a kill met, and what it left.

  Attributes:
    number: the signal.
    state: that it came in, see `chaos.Start.state`.
    code: of the exit, negative for a signal.
    before: the newest sound step when it started, 0 for none.
    resumed: the step that it went on from, None if it did not come so far.
    last: the step whose batch was taken last, 0 for none.
    saving: the last step that it began to save, 0 for none.
    said: the step that it said is saved, None if it said nothing.
    sound: the newest sound step after.
  """

  number: signal.Signals
  state: str
  code: int
  before: int
  resumed: int | None
  last: int
  saving: int
  said: int | None
  sound: int

  @property
  def lost(self) -> int:
    """Returns how many steps are to be done again."""
    return max(self.last - self.sound, 0)

  def problems(self) -> list[str]:
    """Returns what should not be."""
    found = []
    if self.resumed not in (None, self.before):
      found.append(f"resumed at step {self.resumed}, not at {self.before}")
    if self.sound < self.before:
      found.append(f"step {self.before} is gone, {self.sound} is left")
    # While a save is under way, the one before is all there is.
    most = SAVE_EVERY * (2 if self.saving > self.sound else 1)
    if self.lost > most:
      found.append(f"{self.lost} steps are lost, more than {most}")
    # Before the first step nothing listens, and there is nothing to save.
    early = self.state == "start" and self.code == -signal.SIGTERM
    if self.number == signal.SIGTERM and not early:
      if self.code != preemption.EXIT_CODE:
        found.append(f"SIGTERM ended it with {self.code}")
      if self.said != self.sound or self.lost:
        found.append(
          f"said {self.said} is saved, {self.sound} is, of {self.last}"
        )
    return found


@dataclasses.dataclass
class Story:
  """A training from its first start to its end.

  Attributes:
    kills: in order.
    events: of each start, see `chaos_worker`.
    rows: of `metrics.jsonl`.
    digests: of the final parameters and of their moving average.
    damaged: how many steps were set aside.
  """

  kills: list[Kill]
  events: list[list[dict[str, Any]]]
  rows: list[dict[str, Any]]
  digests: tuple[str | None, str | None]
  damaged: int


def epoch_problems(batches: Mapping[int, list[int]], size: int) -> list[str]:
  """Returns where an epoch is no permutation of the records.

  Args:
    batches: the records of each step, from 1 on.
    size: records of an epoch.
  """
  found = []
  if sorted(batches) != list(range(1, len(batches) + 1)):
    found.append(f"steps {sorted(batches)} are not all from 1 on")
  stream = [i for step in sorted(batches) for i in batches[step]]
  for epoch, first in enumerate(range(0, len(stream), size)):
    records = stream[first : first + size]
    if len(set(records)) < len(records):
      found.append(f"a record comes twice in epoch {epoch}")
    if set(records) - set(range(size)):
      found.append(f"epoch {epoch} has records past {size}")
  return found


def story_problems(
  story: Story, calm: Story, tolerance: float
) -> tuple[list[str], float]:
  """Returns how a training differs from the undisturbed one.

  Args:
    story: of the training.
    calm: of the undisturbed one.
    tolerance: relative, of the losses; 0 wants equal digests too.

  Returns:
    What should not be, and the largest relative difference of a loss.
  """
  found = [
    f"kill {number}: {problem}"
    for number, kill in enumerate(story.kills, 1)
    for problem in kill.problems()
  ]
  batches = steps_of(calm.events, "batch", "records")
  for step, records in _each(story.events, "batch", "records"):
    if records != batches.get(step):
      found.append(f"step {step} has other records")
  if steps_of(story.events, "batch", "records").keys() != batches.keys():
    found.append("not the same steps")

  # Of every time that a step was made, and of those that were kept.
  losses = steps_of(calm.events, "row", "loss")
  made = [
    *_each(story.events, "row", "loss"),
    *((row["step"], row["train/loss"]) for row in story.rows),
  ]
  off = [(abs(loss / losses[step] - 1), step) for step, loss in made]
  largest, where = max(off, key=lambda pair: (math.isnan(pair[0]), pair[0]))
  if not largest <= tolerance:
    found.append(f"the loss of step {where} is off by {largest:.1e}")

  steps = [row["step"] for row in story.rows]
  if steps != sorted(batches):
    found.append(f"rows {steps}")
  for row, want in zip(story.rows, calm.rows, strict=False):
    got, expected = _evaluated(row), _evaluated(want)
    if got.keys() != expected.keys() or (not tolerance and got != expected):
      found.append(f"step {row['step']} has another evaluation")
  if None in story.digests or (not tolerance and story.digests != calm.digests):
    found.append("the final parameters differ")
  return found, largest


def steps_of(
  events: Iterable[Iterable[Mapping[str, Any]]], kind: str, field: str
) -> dict[int, Any]:
  """Returns a field of the last event of a kind of each step."""
  return dict(_each(events, kind, field))


def _each(events, kind, field):
  for start in events:
    for event in start:
      if event["event"] == kind:
        yield event["step"], event[field]


def _evaluated(row):
  return {k: value for k, value in row.items() if k.startswith("valid/")}
