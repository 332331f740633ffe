import random

from tests.data_prep import kill


def test_killed_runs_give_the_same_bytes(tmp_path):
  # `make kill-test` does more of this.
  kill.draw(tmp_path / "raw", 12)
  _, hits, _ = kill.attempt(
    tmp_path / "raw",
    tmp_path / "out" / "set",
    2,
    random.Random(0),
    "--num_workers=2",
  )
  assert hits
