import hashlib
import shutil
from importlib import metadata
from pathlib import Path

import pytest

import tier_jax
from tier_jax.evaluators import digests


def test_file():
  path = Path(__file__)
  expected = hashlib.sha256(path.read_bytes()).hexdigest()
  assert digests.of_file(path) == expected


@pytest.mark.parametrize(
  "path",
  ["evaluators/prompts.json", "models/vit.py", "data/vocab.txt"],
)
def test_code_is_every_file_that_decides_a_score(tmp_path, monkeypatch, path):
  root = Path(str(tier_jax.__file__)).parent
  copy = tmp_path / "tier_jax"
  for room in ("data", "evaluators", "models"):
    shutil.copytree(root / room, copy / room)
  monkeypatch.setattr(
    digests.resources,
    "files",
    lambda name: tmp_path / name.replace(".", "/"),
  )
  before = digests.of_code()
  (copy / "models" / "notes.md").write_text("no code")
  assert digests.of_code() == before
  with (copy / path).open("a") as file:
    file.write("\n")
  assert digests.of_code() != before


def test_another_version_of_a_package_is_other_code(monkeypatch):
  before = digests.of_code()
  version = metadata.version
  monkeypatch.setattr(
    digests.importlib.metadata,
    "version",
    lambda name: "0" if name == "jax" else version(name),
  )
  assert digests.of_code() != before
