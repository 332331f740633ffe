"""The search for the penalty weights: who trains which, and what came out.

As in the paper, the first trial has no penalties and the others have weights
drawn uniformly. The weights of a trial follow from seed and number alone, so
that all machines know all trials beforehand and need only agree who takes
which. Optuna's storage settles that: a trial is taken by adding a running one
of its number, and kept by renewing its lease. One whose lease has ended, since
its machine died, is taken again, and its training resumes in its own workdir.

No sampler of Optuna's is used: theirs draw by the order in which workers ask.
"""

import contextlib
import csv
import json
import math
import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from absl import logging
from optuna.storages import journal
from optuna.trial import TrialState

from tier_jax.sweep import page

NAMES = ("token_entropy_weight", "patch_entropy_weight")
LARGEST = 0.5  # weight; the paper searched up to it
LEASE = 300.0  # seconds; longer than clocks differ and file servers stall
_SCORE = re.compile(r"valid/[^/]+/macro_auroc")
_SPACE: dict[str, optuna.distributions.BaseDistribution] = {
  name: optuna.distributions.FloatDistribution(0.0, LARGEST) for name in NAMES
}


class TrainingError(Exception):
  """A training that ended without a score; the search goes on without it."""


class LeaseError(Exception):
  """A trial that another worker may have taken meanwhile."""


# Trains with these weights in this workdir, resuming what it holds. Calls its
# last argument every LEASE / 10 seconds or so, which raises LeaseError.
Train = Callable[[Path, Mapping[str, float], Callable[[], None]], None]


def weights(seed: int, number: int) -> dict[str, float]:
  """Returns the weights of trial `number`, by field of `LossConfig`."""
  if number == 0:
    return dict.fromkeys(NAMES, 0.0)
  drawn = np.random.default_rng((seed, number)).uniform(0, LARGEST, len(NAMES))
  return {
    name: round(float(w), 4) for name, w in zip(NAMES, drawn, strict=True)
  }


def open_storage(
  workdir: Path, url: str | None = None
) -> optuna.storages.BaseStorage:
  """Returns the database at `url`, by default the file sweep.journal.

  The file may lie on NFS. Neither kind unpickles anything.
  """
  if url is not None:
    return optuna.storages.RDBStorage(url)
  # The lock is a link to the file: a relative one would not be found.
  path = workdir.resolve() / "sweep.journal"
  lock = journal.JournalFileSymlinkLock(str(path))
  backend = journal.JournalFileBackend(str(path), lock_obj=lock)
  lock.acquire()
  try:  # drop the half line of a worker killed while it wrote
    text = path.read_bytes()
    os.truncate(path, text.rfind(b"\n") + 1)
  finally:
    lock.release()
  return optuna.storages.JournalStorage(backend)


def read_score(workdir: Path) -> tuple[str, float, int]:
  """Returns what a training was scored by, its best value, and at which step.

  Raises:
    TrainingError: if metrics.jsonl there has none.
  """
  found = []
  with (workdir / "metrics.jsonl").open(encoding="utf-8") as file:
    for line in file:
      row = json.loads(line)
      for name, value in row.items():
        if _SCORE.fullmatch(name) and value is not None:
          found.append((name, float(value), int(row["step"])))
  found = [item for item in found if math.isfinite(item[1])]
  if not found:
    raise TrainingError(
      f"{workdir}/metrics.jsonl has no valid/NAME/macro_auroc: expected "
      "train.eval_benchmark to be prepared, with a validate split"
    )
  return max(found, key=lambda item: item[1])


class Sweep:
  """One worker's part in a search.

  Attributes:
    workdir: of the search; trials train in trial_NNN under it.
  """

  def __init__(
    self,
    storage: optuna.storages.BaseStorage,
    workdir: Path,
    *,
    num_trials: int,
    seed: int,
    training: Sequence[str],
  ):
    """Joins the search of this workdir, or begins it.

    Args:
      storage: that all workers share.
      workdir: where the trainings are; workers that do not share it begin
        trials of a dead one afresh.
      num_trials: in all, over all workers and starts.
      seed: of the weights.
      training: flags that say what is trained, the same for all workers.

    Raises:
      ValueError: if the search is another.
    """
    if num_trials < 1:
      raise ValueError(f"num_trials is {num_trials}, expected at least 1")
    self.workdir, self._num_trials, self._seed = workdir, num_trials, seed
    self._storage = storage
    name = workdir.resolve().name
    study = optuna.create_study(
      storage=storage,
      study_name=name,
      direction="maximize",
      load_if_exists=True,
    )
    self._study = storage.get_study_id_from_name(name)
    asked = {"seed": seed, "training": list(training)}
    for name, value in asked.items():
      known = study.user_attrs.get(name, value)
      if known != value:
        raise ValueError(
          f"the search in {workdir} has {name} {known}, expected {value}: "
          "name another --workdir"
        )
      study.set_user_attr(name, value)
    self._failed: dict[int, str] = {}

  def run(self, train: Train) -> None:
    """Trains what no other worker does, until every trial has a score.

    With only others' trials left, it waits one lease, lest a worker has died,
    and ends.

    Raises:
      TrainingError: at the end, if trials have no score. The next run tries
        them again.
    """
    waited = False
    while True:
      taken = self._take()
      if taken is not None:
        waited = False
        self._train(*taken, train)
      elif self._busy() and not waited:
        waited = True
        time.sleep(LEASE)
      else:
        break
    if busy := self._busy():
      logging.info("trials %s are others', who go on", sorted(busy))
    if self._failed:
      lines = [f"trial {n}: {text}" for n, text in sorted(self._failed.items())]
      raise TrainingError("; ".join(lines))

  def rows(self) -> list[dict[str, Any]]:
    """Returns the trials that have a score, by number."""
    rows = {}
    for trial in self._trials():
      number = trial.user_attrs["number"]
      if trial.state == TrialState.COMPLETE and number < self._num_trials:
        rows[number] = {
          "trial": number,
          **{name: trial.params[name] for name in NAMES},
          "score": trial.value,
          "step": trial.user_attrs["step"],
          "metric": trial.user_attrs["metric"],
        }
    return [rows[number] for number in sorted(rows)]

  def _trials(self) -> list[optuna.trial.FrozenTrial]:
    return self._storage.get_all_trials(self._study, deepcopy=False)

  def _busy(self) -> set[int]:
    """Returns the numbers of trials that someone trains."""
    return {t.user_attrs["number"] for t in self._trials() if _alive(t)}

  def _take(self) -> tuple[int, int] | None:
    """Returns number and storage's id of a trial that is now this worker's."""
    while True:
      done = {row["trial"] for row in self.rows()}
      others = done | self._busy() | self._failed.keys()
      free = [n for n in range(self._num_trials) if n not in others]
      if not free:
        return None
      number = free[0]
      mine = self._storage.create_new_trial(
        self._study,
        optuna.trial.create_trial(
          state=TrialState.RUNNING,
          params=weights(self._seed, number),
          distributions=_SPACE,
          user_attrs={"number": number, "alive": time.time()},
        ),
      )
      # Others may have added theirs at that moment. All of them see the first.
      same = [t for t in self._trials() if t.user_attrs["number"] == number]
      first = min((t for t in same if _alive(t)), key=lambda t: t.number)
      for trial in same:
        if trial.state == TrialState.RUNNING and not _alive(trial):
          self._end(self._id(trial), TrialState.FAIL)  # its worker died
      complete = any(t.state == TrialState.COMPLETE for t in same)
      if self._id(first) == mine and not complete:
        return number, mine
      self._end(mine, TrialState.FAIL)

  def _id(self, trial: optuna.trial.FrozenTrial) -> int:
    return self._storage.get_trial_id_from_study_id_trial_number(
      self._study, trial.number
    )

  def _end(self, trial: int, state: TrialState, score: float | None = None):
    values = None if score is None else [score]
    # Another worker may be quicker to find it dead.
    with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
      self._storage.set_trial_state_values(trial, state, values)

  def _train(self, number: int, trial: int, train: Train) -> None:
    renewed = time.time()

    def beat():
      nonlocal renewed
      if time.time() - renewed > LEASE:  # asleep, or the storage was away
        raise LeaseError
      renewed = time.time()
      try:
        self._storage.set_trial_user_attr(trial, "alive", renewed)
      except optuna.exceptions.UpdateFinishedTrialError:
        raise LeaseError from None

    workdir = self.workdir / f"trial_{number:03d}"
    drawn = weights(self._seed, number)
    logging.info("trial %d of %d: %s", number, self._num_trials, drawn)
    try:
      train(workdir, drawn, beat)
      metric, score, step = read_score(workdir)
      beat()
    except LeaseError:
      logging.warning("trial %d was lost to another worker", number)
      return
    except TrainingError as error:
      logging.warning("trial %d failed: %s", number, error)
      self._failed[number] = str(error)
      self._end(trial, TrialState.FAIL)
      return
    except BaseException:
      self._end(trial, TrialState.FAIL)  # at once, for others to take it
      raise
    for name, value in (("metric", metric), ("step", step)):
      self._storage.set_trial_user_attr(trial, name, value)
    self._end(trial, TrialState.COMPLETE, score)
    logging.info("trial %d: %s %.4f at step %d", number, metric, score, step)
    self._write()

  def _write(self) -> None:
    """Writes sweep.csv and sweep.html, each whole or not at all."""
    rows = self.rows()
    temporary = self.workdir / f"sweep.{uuid.uuid4().hex}"
    with temporary.open("w", encoding="utf-8", newline="") as file:
      writer = csv.DictWriter(file, rows[0].keys())
      writer.writeheader()
      writer.writerows(rows)
    temporary.replace(self.workdir / "sweep.csv")
    temporary.write_text(page.render(rows, self._num_trials), encoding="utf-8")
    temporary.replace(self.workdir / "sweep.html")


def _alive(trial: optuna.trial.FrozenTrial) -> bool:
  """Returns whether a worker trains it and has said so of late."""
  return (
    trial.state == TrialState.RUNNING
    and time.time() - trial.user_attrs["alive"] < LEASE
  )
