"""A directory to write to, on this machine or at a URL such as gs://."""

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem


class Store:
  """One flat directory of files, each of which appears whole or not at all.

  Args:
    url: a path, or what fsspec knows: gs://, s3://. It needs the package for
      that scheme, such as gcsfs or s3fs, and the user's own credentials.
  """

  def __init__(self, url: str | Path):
    filesystem, path = fsspec.core.url_to_fs(str(url))
    self._fs: Any = filesystem  # its stubs say str where bytes come
    # A link is the owner's own arrangement: what it leads to is written.
    self._root = str(Path(path).resolve()) if self.is_local else path

  @property
  def is_local(self) -> bool:
    return isinstance(self._fs, LocalFileSystem)

  @property
  def name(self) -> str:
    """The directory's own name."""
    return self._root.rstrip("/").rpartition("/")[2]

  @property
  def local_path(self) -> Path:
    """The directory's path; only for one on this machine."""
    if not self.is_local:
      raise ValueError(f"{self.name!r} is not on this machine")
    return Path(self._root)

  def sibling(self, template: str) -> "Store":
    """Returns the directory beside this one, "{}" standing for its name."""
    parent, _, name = self._root.rstrip("/").rpartition("/")
    result = object.__new__(Store)
    result._fs = self._fs
    result._root = f"{parent}/{template.format(name)}"
    return result

  def names(self) -> list[str]:
    """Returns the names of the files, sorted; none if there is no directory."""
    self._fs.invalidate_cache(self._root)
    if not self._fs.exists(self._root):
      return []
    return sorted(
      entry["name"].rstrip("/").rpartition("/")[2]
      for entry in self._fs.ls(self._root, detail=True)
      if entry["type"] == "file"
    )

  def is_empty(self) -> bool:
    """Says whether there is nothing, or no such directory."""
    self._fs.invalidate_cache(self._root)
    return not self._fs.exists(self._root) or not self._fs.ls(self._root)

  def read_text(self, name: str) -> str:
    """Returns the file's text. Raises FileNotFoundError if there is none."""
    return self._fs.cat_file(self._path(name)).decode()

  def sha256(self, name: str) -> str:
    """Returns the digest of the file's bytes, 64 hexadecimal digits."""
    with self._fs.open(self._path(name), "rb") as handle:
      return hashlib.file_digest(handle, "sha256").hexdigest()

  def holds(self, name: str, size: int, sha256: str) -> bool:
    """Says whether a file is there and is what it was.

    Elsewhere than on this machine its size has to do: reading it would cost as
    much as making it.

    Raises:
      FileNotFoundError: if there is none.
    """
    if self.size(name) != size:
      return False
    return not self.is_local or self.sha256(name) == sha256

  def size(self, name: str) -> int:
    """Returns the file's size in bytes."""
    return self._fs.info(self._path(name))["size"]

  @contextlib.contextmanager
  def staging(self) -> Iterator[Path]:
    """Yields a local directory for files on their way to `put`."""
    if self.is_local:
      self.local_path.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
      dir=self._root if self.is_local else None, prefix=".staging-"
    ) as directory:
      yield Path(directory)

  def put(self, path: Path, name: str) -> None:
    """Moves a file of `staging` here; one of that name is replaced."""
    if self.is_local:
      os.replace(path, self._path(name))
    else:
      self._fs.put_file(str(path), self._path(name))
      path.unlink()

  def write_text(self, name: str, text: str) -> None:
    """Writes a file; one of that name is replaced."""
    with self.staging() as directory:
      path = directory / "text"
      path.write_text(text, encoding="utf-8")
      self.put(path, name)

  def rename(self, name: str, new_name: str) -> None:
    """Renames a file; one that has the new name is replaced."""
    self._fs.mv(self._path(name), self._path(new_name))

  def remove(self, name: str) -> None:
    """Removes a file."""
    self._fs.rm_file(self._path(name))

  def keep_only(self, names: Container[str]) -> None:
    """Removes all files of other names, and what a killed `staging` left."""
    for name in self.names():
      if name not in names:
        self.remove(name)
    if self.is_local:
      for path in self.local_path.glob(".staging-*"):
        shutil.rmtree(path)

  def move_to(self, other: "Store") -> None:
    """Puts this directory in the place of `other`; both on this machine."""
    other.forget_old()
    if other.local_path.exists():
      other.local_path.rename(other._old_path)
    self.local_path.rename(other.local_path)
    other.forget_old()

  def forget_old(self) -> None:
    """Removes what a `move_to` that was killed left of what was here."""
    if self.is_local and self._old_path.exists():
      shutil.rmtree(self._old_path)

  @property
  def _old_path(self) -> Path:
    return self.sibling(".{}.old").local_path

  def _path(self, name: str) -> str:
    return f"{self._root}/{name}"
