"""Scalars and images: written, and rewritten after a kill."""

import contextlib
import json
import logging
import struct
from pathlib import Path

import numpy as np
import pytest
from tensorboardX.proto import event_pb2

from tier_jax import metric_writer


def rows(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def shown(directory):
  """Returns {(step, name): value} as TensorBoard reads the files, in order."""
  kept = []
  for path in sorted(directory.glob("events*")):
    data = path.read_bytes()
    while data:
      (length,) = struct.unpack("<Q", data[:8])
      event = event_pb2.Event.FromString(data[12 : 12 + length])
      data = data[16 + length :]
      if event.session_log.status == event_pb2.SessionLog.START:
        kept = [row for row in kept if row[0] < event.step]
      for value in event.summary.value:
        what = (
          value.simple_value
          if value.HasField("simple_value")
          else (value.image.height, value.image.width, value.image.colorspace)
        )
        kept.append((event.step, value.tag, what))
  return kept


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
  assert shown(tmp_path / "tensorboard") == [
    (1, "train/loss", 0.5),
    (2, "train/loss", 1.0),
    (3, "train/loss", 9.0),
  ]


def test_a_rewound_run_writes_its_rows_once(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path, 0)
  for step in (1, 2, 3):
    writer.write(step, {"a": 1.0, "b": 2.0})
  writer.rewind(1)
  writer.write(2, {"a": 3.0})
  # Before it is closed: a kill leaves no gap.
  assert rows(tmp_path / "metrics.jsonl") == [
    {"step": 1, "a": 1.0, "b": 2.0},
    {"step": 2, "a": 3.0},
  ]
  assert shown(tmp_path / "tensorboard") == [
    (1, "a", 1.0),
    (1, "b", 2.0),
    (2, "a", 3.0),
  ]
  writer.close()


def test_images_go_to_tensorboard(tmp_path):
  writer = metric_writer.MetricWriter(tmp_path, 0)
  writer.write_image(4, "valid/map", np.zeros((5, 7, 3), np.uint8))
  with pytest.raises(ValueError, match=r"map is \(5, 7\) uint8, expected"):
    writer.write_image(4, "valid/map", np.zeros((5, 7), np.uint8))
  writer.close()
  assert shown(tmp_path / "tensorboard") == [(4, "valid/map", (5, 7, 3))]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_is_an_error_and_no_wait(tmp_path, monkeypatch):
  writer = metric_writer.MetricWriter(tmp_path, 0)
  with Path("/dev/full").open("wb") as full:
    monkeypatch.setattr(
      writer._tensorboard._py_recordio_writer, "_writer", full
    )
    with pytest.raises(
      OSError, match="tensorboard cannot be written: .*No space left"
    ):
      writer.write(1, {"a": 1.0})
    with contextlib.suppress(OSError):
      full.close()


@pytest.mark.parametrize(
  ("more", "text"),
  [
    ({}, "loss 1.2500, 80 pairs/s, 1:01:05 left"),
    ({"input_wait": 0.04}, "loss 1.2500, 80 pairs/s, 1:01:05 left"),
    (
      {"mfu": 0.4567, "input_wait": 0.25},
      "loss 1.2500, 80 pairs/s, MFU 45.7%, 25% waiting for input, 1:01:05 left",
    ),
  ],
)
def test_progress_says_what_is_worth_saying(caplog, more, text):
  progress = metric_writer.Progress(10, 0)
  with caplog.at_level(logging.INFO):
    progress.log(5, 1.25, 80.0, 3665.2, **more)
  progress.close()
  assert caplog.messages == [f"step 5/10: {text}"]
