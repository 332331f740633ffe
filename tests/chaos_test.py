"""Whether what `chaos.py` looks at can fail."""

import dataclasses
import signal

import pytest

from tests import chaos_checks as checks
from tier_jax import checksums

KILL = checks.Kill(
  number=signal.SIGKILL,
  state="step",
  code=-9,
  before=4,
  resumed=4,
  last=10,
  saving=8,
  said=None,
  sound=8,
)
TERM = dataclasses.replace(
  KILL, number=signal.SIGTERM, code=75, saving=10, said=10, sound=10
)


@pytest.mark.parametrize(
  "kill",
  [
    KILL,
    TERM,
    # While the save of step 12 is under way.
    dataclasses.replace(KILL, last=15, saving=12, sound=8),
    # Before the handler is there.
    dataclasses.replace(
      TERM, state="start", code=-15, last=0, saving=0, said=None, sound=4
    ),
  ],
)
def test_a_kill_as_it_should_be(kill):
  assert not kill.problems()


@pytest.mark.parametrize(
  ("kill", "change", "words"),
  [
    (KILL, {"resumed": 2}, "resumed at step 2, not at 4"),
    (KILL, {"resumed": 0}, "resumed at step 0, not at 4"),
    (KILL, {"before": 9, "resumed": 9}, "step 9 is gone, 8 is left"),
    (KILL, {"last": 13}, "5 steps are lost, more than 4"),
    (KILL, {"last": 17, "saving": 12}, "9 steps are lost, more than 8"),
    (TERM, {"code": -15}, "SIGTERM ended it with -15"),
    (TERM, {"code": 0}, "SIGTERM ended it with 0"),
    (TERM, {"said": 9}, "said 9 is saved, 10 is, of 10"),
    (TERM, {"said": None}, "said None is saved, 10 is, of 10"),
    (TERM, {"said": 8, "sound": 8}, "said 8 is saved, 8 is, of 10"),
  ],
)
def test_a_kill_that_costs_too_much_is_told(kill, change, words):
  assert words in dataclasses.replace(kill, **change).problems()


@pytest.mark.parametrize(
  ("batches", "words"),
  [
    ({1: [3, 0], 2: [3, 2], 3: [1, 0]}, "a record comes twice in epoch 0"),
    ({1: [3, 0], 2: [1, 2], 3: [1, 1]}, "a record comes twice in epoch 1"),
    ({1: [3, 0], 2: [1, 4]}, "epoch 0 has records past 4"),
    ({1: [3, 0], 3: [1, 2]}, "steps [1, 3] are not all from 1 on"),
  ],
)
def test_an_epoch_that_is_no_permutation_is_told(batches, words):
  assert checks.epoch_problems(batches, 4) == [words]


def test_epochs_may_end_within_a_batch():
  batches = {1: [3, 0], 2: [2, 1], 3: [1, 2]}
  assert not checks.epoch_problems({1: [0, 2], 2: [1, 0], 3: [2, 1]}, 3)
  assert not checks.epoch_problems(batches, 4)


def make_story(loss=3.0, records=(1, 2), digest="a", score=0.5, kills=(KILL,)):
  """Returns a training of two steps, the second of which may be off."""
  events = [
    {"event": "batch", "step": 1, "records": [3, 0]},
    {"event": "row", "step": 1, "loss": 2.0},
    {"event": "batch", "step": 2, "records": list(records)},
    {"event": "evaluation", "step": 2},
    {"event": "row", "step": 2, "loss": loss},
  ]
  rows = [
    {"step": 1, "train/loss": 2.0},
    {"step": 2, "train/loss": 3.0, "valid/loss": score},
  ]
  return checks.Story(list(kills), [events], rows, (digest, digest), 0)


def test_a_training_as_the_undisturbed_one():
  story = make_story()
  assert checks.story_problems(story, make_story(), 0.0) == ([], 0.0)
  # On other devices all figures may be a little off.
  story = make_story(loss=3.001, digest="b", score=0.51)
  found, largest = checks.story_problems(story, make_story(), 1e-3)
  assert not found
  assert largest == pytest.approx(1 / 3000)


@pytest.mark.parametrize(
  ("story", "tolerance", "words"),
  [
    (make_story(records=(2, 1)), 1.0, "step 2 has other records"),
    (make_story(loss=3.1), 1e-3, "the loss of step 2 is off by 3.3e-02"),
    (make_story(loss=float("nan")), 1e-3, "the loss of step 2 is off by nan"),
    (make_story(digest="b"), 0.0, "the final parameters differ"),
    (make_story(digest=None), 1.0, "the final parameters differ"),
    (make_story(score=0.6), 0.0, "step 2 has another evaluation"),
    (
      make_story(kills=[dataclasses.replace(KILL, resumed=0)]),
      1.0,
      "kill 1: resumed at step 0, not at 4",
    ),
  ],
)
def test_a_training_that_differs_is_told(story, tolerance, words):
  assert checks.story_problems(story, make_story(), tolerance)[0] == [words]


def test_rows_are_there_once():
  calm = make_story()
  for rows in (calm.rows[:1], calm.rows[1:], [*calm.rows, calm.rows[1]]):
    story = dataclasses.replace(calm, rows=rows)
    assert any(
      text.startswith("rows")
      for text in checks.story_problems(story, calm, 0)[0]
    )


def test_a_step_that_was_not_made_is_told():
  calm = make_story()
  story = dataclasses.replace(calm, events=[calm.events[0][2:]])
  assert checks.story_problems(story, calm, 0)[0] == ["not the same steps"]


def test_only_a_step_with_its_checksums_is_sound(tmp_path):
  assert checks.sound_step(tmp_path) == 0
  for step in (4, 8, 12):
    (tmp_path / str(step)).mkdir()
    (tmp_path / str(step) / "state").write_text(str(step))
  for step in (4, 8):
    checksums.write(tmp_path / str(step))
  assert checks.sound_step(tmp_path) == 8
  (tmp_path / "8" / "state").write_text("9")
  assert checks.sound_step(tmp_path) == 4
