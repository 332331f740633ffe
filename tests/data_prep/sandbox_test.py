import dataclasses
import os
import signal
import time
from concurrent import futures

import numpy as np
import pytest

from data_prep import convert, items, sandbox

ITEM = items.Item(
  image_paths=("x.png",),
  split="train",
  image_id="",
  study_id="s",
  patient_id="p",
)
MIB = 2**20


def act(item):
  """Does what the item's id says, and tells which process did it."""
  if item.image_id == "die":
    os._exit(1)  # as a decoder that crashes
  if item.image_id == "die unless fresh" and _calls[0]:
    os._exit(1)
  if item.image_id == "grow":
    try:
      np.ones(512 * MIB, np.uint8)
    except MemoryError:
      return convert.Outcome(None, convert.MEMORY_LIMIT)
  if item.image_id == "spin":
    while True:
      pass
  if item.image_id == "echo":
    return convert.Outcome(item.findings.encode())
  if item.image_id == "be killed once":
    # A directory, as nothing can be written to a file.
    try:
      os.mkdir(item.image_paths[0])
    except FileExistsError:
      return convert.Outcome(item.image_id.encode())
    os.kill(os.getpid(), signal.SIGKILL)
  if item.image_id == "sleep":
    time.sleep(60)
  if item.image_id == "write":
    try:
      with open(item.image_paths[0], "wb") as handle:
        handle.write(b"x")
    except OSError as error:
      return convert.Outcome(None, f"error:{type(error).__name__}")
  _calls[0] += 1
  return convert.Outcome(
    item.image_id.encode(), notes=(str(os.getpid()),), perceptual_hash=2**63
  )


_calls = [0]


def run(*names, **limits):
  jobs = [dataclasses.replace(ITEM, image_id=name) for name in names]
  with sandbox.Sandbox(act, **limits) as box:
    return list(box.run(iter(jobs)))


def test_outcomes_come_whole_and_in_order():
  names = [str(number) for number in range(50)]
  outcomes = run(*names)
  assert [outcome.data for outcome in outcomes] == [n.encode() for n in names]
  assert len({outcome.notes for outcome in outcomes}) == 1
  assert outcomes[0].notes != (str(os.getpid()),)
  assert {outcome.perceptual_hash for outcome in outcomes} == {2**63}


@pytest.mark.parametrize(
  ("name", "limits", "reason"),
  [
    ("die", {}, convert.DIED),
    ("grow", {"memory_bytes": 256 * MIB}, convert.MEMORY_LIMIT),
    ("spin", {"cpu_s": 1}, convert.TIME_LIMIT),
    ("sleep", {"wall_s": 0.5}, convert.UNREADABLE),
  ],
)
def test_a_bad_file_costs_itself_alone(name, limits, reason):
  outcomes = run("a", name, name, "b", "c", name, **limits)
  reasons = [outcome.reason for outcome in outcomes]
  assert reasons == ["", reason, reason, "", "", reason]
  assert [o.data for o in outcomes if not o.reason] == [b"a", b"b", b"c"]


def test_the_verdict_is_that_of_a_fresh_process():
  outcomes = run("a", "die unless fresh", "b")
  assert [outcome.reason for outcome in outcomes] == ["", "", ""]
  # The second was tried again in a process that had read nothing else.
  assert outcomes[0].notes != outcomes[1].notes == outcomes[2].notes


def test_large_jobs_and_results_do_not_block_each_other():
  jobs = [
    dataclasses.replace(ITEM, image_id="echo", findings="x" * 2**20)
    for _ in range(4)
  ]
  with sandbox.Sandbox(act) as box:
    outcomes = list(box.run(jobs))
  assert [len(outcome.data or b"") for outcome in outcomes] == [2**20] * 4


def test_verdicts_do_not_depend_on_other_threads():
  def verdicts(_):
    return [outcome.reason for outcome in run("spin", "spin", cpu_s=1)]

  with futures.ThreadPoolExecutor(4) as pool:
    found = list(pool.map(verdicts, range(4)))
  assert found == [[convert.TIME_LIMIT] * 2] * 4


def test_one_killed_by_another_is_tried_again(tmp_path):
  job = dataclasses.replace(
    ITEM, image_id="be killed once", image_paths=(str(tmp_path / "x"),)
  )
  with sandbox.Sandbox(act) as box:
    (outcome,) = box.run([job])
  assert outcome.data == b"be killed once"


def test_a_process_that_does_not_start_is_no_fault_of_a_file(monkeypatch):
  monkeypatch.setattr(sandbox, "_serve", os.abort)
  with pytest.raises(OSError, match="does not start"):
    run("a")


def test_memory_below_the_limit_is_granted():
  assert run("grow", memory_bytes=1024 * MIB)[0].data == b"grow"


def test_nothing_is_written(tmp_path):
  job = dataclasses.replace(
    ITEM, image_id="write", image_paths=(str(tmp_path / "x"),)
  )
  with sandbox.Sandbox(act) as box:
    (outcome,) = box.run([job])
  # Beyond 0 bytes a write fails, or ends the process where it is not caught.
  assert outcome.reason in ("error:OSError", convert.DIED)
  assert not (tmp_path / "x").exists() or not (tmp_path / "x").read_bytes()
