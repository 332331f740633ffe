"""SHA-256 of every file of a directory, in a file that sha256sum can check.

`cd DIRECTORY && sha256sum -c SHA256SUMS` does what `verify` does, but for files
that should not be there.
"""

import errno
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path

NAME = "SHA256SUMS"
_LINE = rb"([0-9a-f]{64})  ([^\n\\]+)\n"
_THREADS = 4  # hashlib releases the lock meanwhile


def write(directory: Path) -> None:
  """Writes NAME into the directory; it is whole once it is there.

  Raises:
    OSError: if a file cannot be read, or NAME not be written.
  """
  names = sorted(_names(directory))
  lines = [f"{digest}  {name}\n" for name, digest in _digests(directory, names)]
  partial = directory / f"{NAME}.partial"
  with partial.open("w", encoding="utf-8", newline="\n") as file:
    file.writelines(lines)
    file.flush()
    os.fsync(file.fileno())
  partial.rename(directory / NAME)


def verify(directory: Path) -> None:
  """Reads every file of the directory and compares.

  Raises:
    ValueError: names the first file that is missing, changed or not listed.
    OSError: if a file may not be read: that says nothing of what is in it.
  """
  if not directory.is_dir():
    raise ValueError("it is not a directory")
  try:
    data = (directory / NAME).read_bytes()
    names = _names(directory)
    if not re.fullmatch(b"(?:%s)+" % _LINE, data):
      raise ValueError(f"{NAME} is damaged: a line is not one of sha256sum's")
    lines = re.findall(_LINE, data)
    listed = {os.fsdecode(name): digest.decode() for digest, name in lines}
    for name in sorted(listed.keys() - names):
      raise ValueError(f"{name} is missing")
    for name in sorted(names - listed.keys()):
      raise ValueError(f"{name} is not listed in {NAME}")
    if len(lines) != len(listed) or list(listed) != sorted(names):
      raise ValueError(f"{NAME} is damaged: its lines are not sorted")
    for name, digest in _digests(directory, listed):
      if digest != listed[name]:
        raise ValueError(f"the bytes of {name} have changed")
  except OSError as error:
    if error.errno not in (errno.ENOENT, errno.EIO):  # the latter, a bad sector
      raise
    name = Path(error.filename or directory / NAME).relative_to(directory)
    if error.errno == errno.ENOENT:
      raise ValueError(f"{name} is missing") from error
    raise ValueError(f"{name} cannot be read: {error.strerror}") from error


def _names(directory: Path) -> set[str]:
  """Returns the files but NAME, relative to the directory."""
  paths = directory.rglob("*")
  files = [path for path in paths if path.is_symlink() or not path.is_dir()]
  return {path.relative_to(directory).as_posix() for path in files} - {NAME}


def _digests(
  directory: Path, names: Iterable[str]
) -> Iterator[tuple[str, str]]:
  """Yields each name with its digest in hexadecimal, in the names' order."""

  def digest(name):
    try:
      with (directory / name).open("rb") as file:
        return name, hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
      error.filename = str(directory / name)  # reading alone does not set it
      raise

  with futures.ThreadPoolExecutor(_THREADS) as pool:
    yield from pool.map(digest, names)
