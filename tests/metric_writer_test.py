"""Scalars: written, and rewritten after a kill."""

import json

from tier_jax import metric_writer


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_rows_past_the_checkpoint_are_dropped_on_resume(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, {"train/loss": step / 2})
  writer.close()
  path = tmp_path / "metrics.jsonl"
  with path.open("a") as file:
    file.write('{"step": 4, "train/lo')  # what a kill leaves
  writer = metric_writer.MetricWriter(tmp_path, 2)
  writer.write(3, {"train/loss": 9.0})
  writer.close()
  assert rows(path) == [
    {"step": 1, "train/loss": 0.5},
    {"step": 2, "train/loss": 1.0},
    {"step": 3, "train/loss": 9.0},
  ]
  assert list((tmp_path / "tensorboard").glob("events*"))
