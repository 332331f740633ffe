"""Who trains which weights: agreed on by workers that come, go and die."""

import csv
import json
import threading

import numpy as np
import pytest

from tier_jax.sweep import search


class Clock:
  """In place of `time`: it goes on by what is slept."""

  def __init__(self):
    self.now, self.slept = 1e9, []
    self.asleep = lambda: None  # what happens meanwhile

  def time(self):
    return self.now

  def sleep(self, seconds):
    self.slept.append(seconds)
    self.now += seconds
    self.asleep()


@pytest.fixture
def clock(monkeypatch):
  clock = Clock()
  monkeypatch.setattr(search, "time", clock)
  return clock


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
  """Spares the page, which takes longer than all else."""
  monkeypatch.setattr(search.page, "render", lambda rows, _: str(len(rows)))


METRIC = "valid/chexpert/macro_auroc"
FLAGS = ("--config=tiny.py",)


def join(workdir, num_trials=6, *, seed=3, training=FLAGS):
  """Returns a worker of its own storage, as another process has."""
  workdir.mkdir(exist_ok=True)
  return search.Sweep(
    search.open_storage(workdir),
    workdir,
    num_trials=num_trials,
    seed=seed,
    training=training,
  )


def take(sweep):
  """Returns the number of the trial that a worker takes, and has ever since."""
  taken = sweep._take()
  return None if taken is None else taken[0]


def score(weights):
  return 0.9 - abs(weights["token_entropy_weight"] - 0.2)


class Stub:
  """A training that writes its score at once; `trained` has what it was."""

  def __init__(self):
    self.trained = []

  def __call__(self, workdir, weights, beat):
    beat()
    number = int(workdir.name.removeprefix("trial_"))
    self.trained.append((number, weights))
    workdir.mkdir(exist_ok=True)
    rows = [
      {"step": 1, "train/loss": 2.0},
      {"step": 2, METRIC: score(weights)},
      {"step": 4, METRIC: score(weights) - 0.1},
      {"step": 6, METRIC: float("nan")},
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (workdir / "metrics.jsonl").write_text(lines)


def test_the_first_has_no_weights_and_the_others_are_uniform():
  assert list(search.weights(0, 0).values()) == [0.0, 0.0]
  numbers = range(1, 4001)
  drawn = np.array([list(search.weights(0, n).values()) for n in numbers])
  assert drawn.min() >= 0
  assert drawn.max() <= 0.5
  for column in drawn.T:
    counts, _ = np.histogram(column, bins=10, range=(0, 0.5))
    # Five deviations of a binomial of 4,000 draws.
    np.testing.assert_allclose(counts, 400, atol=5 * 19)
  assert abs(np.corrcoef(drawn.T)[0, 1]) < 0.08
  assert search.weights(0, 7) == search.weights(0, 7) != search.weights(1, 7)


def test_all_trials_are_trained_and_the_result_is_written(tmp_path):
  train = Stub()
  sweep = join(tmp_path)
  sweep.run(train)
  assert train.trained == [(n, search.weights(3, n)) for n in range(6)]
  with (tmp_path / "sweep.csv").open(newline="") as file:
    rows = list(csv.DictReader(file))
  assert [int(row["trial"]) for row in rows] == list(range(6))
  for row in rows:
    weights = {name: float(row[name]) for name in search.NAMES}
    assert weights == search.weights(3, int(row["trial"]))
    # Of its best step.
    assert float(row["score"]) == pytest.approx(score(weights))
    assert (row["step"], row["metric"]) == ("2", METRIC)
  assert (tmp_path / "sweep.html").read_text() == "6"
  assert len(list(tmp_path.glob("sweep.*"))) == 3  # and the journal


def test_more_trials_can_be_asked_for_later(tmp_path):
  first, again = Stub(), Stub()
  join(tmp_path, 2).run(first)
  join(tmp_path, 4).run(again)
  assert [n for n, _ in first.trained] == [0, 1]
  assert [n for n, _ in again.trained] == [2, 3]
  assert again.trained[1][1] == search.weights(3, 3)


def test_workers_at_once_never_train_the_same(tmp_path, clock):
  clock.sleep = lambda _: None  # nobody dies
  trains = [Stub() for _ in range(3)]
  sweeps = [join(tmp_path, 12) for _ in trains]
  ready = threading.Barrier(len(trains))

  def work(sweep, train):
    ready.wait()
    sweep.run(train)

  threads = [
    threading.Thread(target=work, args=pair)
    for pair in zip(sweeps, trains, strict=True)
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  trained = sorted(n for train in trains for n, _ in train.trained)
  assert trained == list(range(12))


def test_of_two_that_take_one_at_the_same_moment_one_goes_on(
  tmp_path, monkeypatch
):
  one, two = join(tmp_path, 2), join(tmp_path, 2)
  storage, taken = one._storage, []
  create = storage.create_new_trial

  def late(*args, **kwargs):
    monkeypatch.undo()
    taken.append(take(two))  # after `one` has looked, before it has added
    return create(*args, **kwargs)

  monkeypatch.setattr(storage, "create_new_trial", late)
  taken.append(take(one))
  assert taken == [0, 1]


def test_the_trial_of_a_dead_worker_is_resumed(tmp_path, clock):
  # It takes a trial and is never heard of again.
  assert take(join(tmp_path, 3)) == 0
  train = Stub()
  join(tmp_path, 3).run(train)
  assert [n for n, _ in train.trained] == [1, 2, 0]
  assert clock.slept == [search.LEASE]
  assert len(join(tmp_path, 3).rows()) == 3


def test_the_trial_of_one_that_leaves_is_free_at_once(tmp_path, clock):
  def leave(workdir, weights, beat):
    raise SystemExit(75)

  with pytest.raises(SystemExit):
    join(tmp_path, 2).run(leave)
  train = Stub()
  join(tmp_path, 2).run(train)
  assert [n for n, _ in train.trained] == [0, 1]
  assert not clock.slept


@pytest.mark.parametrize("others", [True, False])
def test_a_worker_that_slept_past_its_lease_gives_its_trial_up(
  tmp_path, clock, others
):
  other, sleeper = Stub(), Stub()

  def sleep(workdir, weights, beat):
    if not clock.slept:
      clock.sleep(search.LEASE + 1)
      if others:
        join(tmp_path, 1).run(other)
    sleeper(workdir, weights, beat)

  join(tmp_path, 1).run(sleep)
  # Unless another has trained it meanwhile, it takes it anew.
  assert (len(other.trained), len(sleeper.trained)) == (others, not others)
  assert len(join(tmp_path, 1).rows()) == 1


def test_others_trials_are_left_to_them(tmp_path, clock):
  other, train = join(tmp_path, 2), Stub()
  number, trial = other._take() or (None, None)
  clock.asleep = lambda: other._storage.set_trial_user_attr(
    trial, "alive", clock.now
  )
  join(tmp_path, 2).run(train)
  assert number == 0
  assert [n for n, _ in train.trained] == [1]
  assert clock.slept == [search.LEASE]


def test_a_trial_that_fails_does_not_end_the_search(tmp_path):
  stub = Stub()

  def train(workdir, weights, beat):
    if workdir.name == "trial_001":
      raise search.TrainingError("it ended with 1")
    stub(workdir, weights, beat)

  with pytest.raises(search.TrainingError, match="^trial 1: it ended with 1$"):
    join(tmp_path, 4).run(train)
  assert [n for n, _ in stub.trained] == [0, 2, 3]
  again = Stub()
  join(tmp_path, 4).run(again)
  assert [n for n, _ in again.trained] == [1]


@pytest.mark.parametrize("text", ["", '{"step": 1, "train/loss": 1.0}\n'])
def test_a_training_without_a_score_says_what_it_needs(tmp_path, text):
  (tmp_path / "metrics.jsonl").write_text(text)
  with pytest.raises(search.TrainingError, match="train.eval_benchmark"):
    search.read_score(tmp_path)


@pytest.mark.parametrize(
  ("changes", "words"),
  [
    ({"seed": 4}, "has seed 3, expected 4"),
    ({"training": ("--config=other.py",)}, "tiny.py.*, expected .*other.py"),
    ({"num_trials": 0}, "num_trials is 0"),
  ],
)
def test_another_search_is_refused(tmp_path, changes, words):
  join(tmp_path)
  with pytest.raises(ValueError, match=words):
    join(tmp_path, **changes)


def test_half_a_line_of_a_killed_worker_is_dropped(tmp_path):
  join(tmp_path, 1).run(Stub())
  with (tmp_path / "sweep.journal").open("ab") as file:
    file.write(b'{"op_code": 5, "wor')
  train = Stub()
  join(tmp_path, 2).run(train)
  assert [n for n, _ in train.trained] == [1]
  assert len(join(tmp_path, 2).rows()) == 2


def test_a_database_does_as_well(tmp_path):
  train = Stub()
  for _ in range(2):
    sweep = search.Sweep(
      search.open_storage(tmp_path, f"sqlite:///{tmp_path / 'sweep.db'}"),
      tmp_path,
      num_trials=2,
      seed=3,
      training=FLAGS,
    )
    sweep.run(train)
  assert [n for n, _ in train.trained] == [0, 1]
  assert not (tmp_path / "sweep.journal").exists()
