"""SHA-256 digests of all that an evaluation's figures depend on."""

import hashlib
import importlib.metadata
import json
from importlib import resources
from pathlib import Path

# What turns a record into a score: another version may give another number.
_PACKAGES = (
  *("flax", "jax", "jaxlib", "numpy", "opencv-python-headless"),
  *("scikit-learn", "scipy", "tokenizers"),
)
_ROOMS = ("data", "evaluators", "models")
_SUFFIXES = (".json", ".py", ".txt")


def of_file(path: Path) -> str:
  """Returns the digest of a file, in hex."""
  with path.open("rb") as file:
    return hashlib.file_digest(file, "sha256").hexdigest()


def of_code() -> str:
  """Returns the digest of the code that scores, and of the packages it uses.

  That is every file of tier_jax/data, evaluators and models that Python or the
  evaluation reads, by its name and content.
  """
  parts = [[name, importlib.metadata.version(name)] for name in _PACKAGES]
  for room in _ROOMS:
    root = Path(str(resources.files(f"tier_jax.{room}")))
    parts += [
      [f"{room}/{path.relative_to(root).as_posix()}", of_file(path)]
      for path in sorted(root.rglob("*"))
      if path.suffix in _SUFFIXES
    ]
  return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
