import json

import numpy as np
import pytest
from PIL import Image

from data_prep import build, items, verify


@pytest.fixture
def dataset(tmp_path):
  """A prepared dataset of two shards and one reject."""
  rng = np.random.default_rng(0)
  found = []
  for number in range(3):
    path = tmp_path / f"{number}.png"
    Image.fromarray(rng.integers(0, 256, (20, 20), np.uint8)).save(path)
    found.append(
      items.Item(
        (path.name,), "test", str(number), str(number), "p", labels={"A": 1}
      )
    )
  found.append(
    items.Item(("no.png",), "test", "no", "no", "p", labels={"A": 1})
  )
  output = tmp_path / "out" / "ours"
  build.build(
    items.Plan("ours", tmp_path, found),
    output,
    key=bytes(32),
    shard_records=2,
  )
  return output


def shard(dataset):
  return min(dataset.glob("*.array_record-*"))


def flip(dataset):
  data = bytearray(shard(dataset).read_bytes())
  data[len(data) // 2] ^= 1
  shard(dataset).write_bytes(data)


NAME = "ours-test.array_record-00000-of-00002"


def test_a_sound_dataset(dataset, capsys):
  assert verify.verify(dataset) == []
  assert "2 shards" in capsys.readouterr().err
  (dataset / "inspect.html").write_text("")  # is no part of it
  assert verify.verify(dataset) == []


@pytest.mark.parametrize(
  ("damage", "message"),
  [
    (flip, f"{NAME}: its bytes have changed"),
    (lambda d: shard(d).unlink(), f"{NAME}: missing"),
    (lambda d: (d / "x").write_text(""), "x: not in the manifest"),
    (lambda d: (d / "features.json").unlink(), "features.json: missing"),
    (
      lambda d: (d / "rejects.jsonl").write_text(""),
      "rejects.jsonl: 0 lines, expected 1",
    ),
    (
      lambda d: (d / "near_duplicates.jsonl").write_text("{}\n"),
      "near_duplicates.jsonl: 1 lines, expected 0",
    ),
  ],
)
def test_damage_is_found(dataset, damage, message):
  damage(dataset)
  assert verify.verify(dataset) == [message]


def test_a_cut_shard_is_told_with_its_size(dataset):
  path = shard(dataset)
  size = path.stat().st_size
  path.write_bytes(path.read_bytes()[:100])
  assert verify.verify(dataset) == [f"{NAME}: 100 bytes, expected {size}"]


@pytest.mark.parametrize(
  ("text", "message"),
  [
    (None, "holds no manifest.json"),
    ("{}", "is not one of data_prep's"),
    ("[]", "is not one of data_prep's"),
    ('{"half', "is not one of data_prep's"),
    (json.dumps({"splits": {"test": 1}}), "is not one of data_prep's"),
  ],
)
def test_a_directory_of_something_else(tmp_path, text, message):
  if text is not None:
    (tmp_path / "manifest.json").write_text(text)
  with pytest.raises(ValueError, match=message):
    verify.verify(tmp_path)
