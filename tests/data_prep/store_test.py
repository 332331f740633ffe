import hashlib
import os

import fsspec
import pytest

from data_prep import store


@pytest.fixture(params=["local", "memory"])
def place(request, tmp_path):
  if request.param == "local":
    return store.Store(tmp_path / "a" / "out")
  fsspec.filesystem("memory").store.clear()
  return store.Store("memory://bucket/a/out")


def test_files_come_and_go(place):
  assert place.is_empty()
  assert place.names() == []
  place.write_text("b.json", "{}")
  place.write_text("a.txt", "old")
  place.write_text("a.txt", "nëw")
  assert place.names() == ["a.txt", "b.json"]
  assert not place.is_empty()
  assert place.read_text("a.txt") == "nëw"
  assert place.size("a.txt") == 4
  assert place.sha256("a.txt") == hashlib.sha256("nëw".encode()).hexdigest()
  place.rename("a.txt", "c.txt")
  place.remove("b.json")
  assert place.names() == ["c.txt"]
  with pytest.raises(FileNotFoundError):
    place.read_text("a.txt")
  place.keep_only(set())
  assert place.names() == []


def test_staged_files_appear_only_when_put(place):
  with place.staging() as directory:
    (directory / "x").write_bytes(b"12")
    (directory / "y").write_bytes(b"34")
    assert place.names() == []
    place.put(directory / "x", "shard")
  assert place.names() == ["shard"]
  assert not directory.exists()


def test_siblings_share_the_parent(place):
  other = place.sibling(".{}.part")
  assert (place.name, other.name) == ("out", ".out.part")
  other.write_text("a", "1")
  assert place.is_empty()
  assert other.names() == ["a"]


def test_one_directory_takes_the_place_of_another(tmp_path):
  old, new = store.Store(tmp_path / "x"), store.Store(tmp_path / "y")
  old.write_text("a", "1")
  new.write_text("b", "2")
  new.move_to(old)
  assert old.names() == ["b"]
  assert os.listdir(tmp_path) == ["x"]


def test_what_a_killed_run_staged_is_removed(tmp_path):
  place = store.Store(tmp_path)
  (tmp_path / ".staging-x").mkdir()
  (tmp_path / ".staging-x" / "shard").write_text("half")
  place.write_text("a", "1")
  place.keep_only({"a"})
  assert os.listdir(tmp_path) == ["a"]
