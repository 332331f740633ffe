"""Ids that cannot be traced back without the key."""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

KEY_BYTES = 32


def load_key(
  key_file: Path | None, output_dir: str | Path, make: bool = True
) -> bytes:
  """Returns the key of the ids, made on first use.

  Args:
    key_file: a file of hexadecimal digits; None means `id_key` beside
      `output_dir`, which is made, readable to its owner alone, if absent.
    output_dir: where the shards go, a path or a URL; the key must not lie
      inside.
    make: False gives zeros instead of making a key where there is none, for a
      run that writes nothing.

  Raises:
    ValueError: if the named file is missing, too short, not hexadecimal, or
      inside `output_dir`; if none is named and `output_dir` is a URL.
  """
  if "://" in str(output_dir):
    if key_file is None and not make:
      return bytes(KEY_BYTES)
    if key_file is None:
      raise ValueError(
        "id_key_file is not given, expected one where output_dir is a URL: "
        "the key stays on this machine"
      )
    return _read_key(key_file)
  output_dir = Path(output_dir)
  path = (
    output_dir.resolve().parent / "id_key" if key_file is None else key_file
  )
  if path.resolve().is_relative_to(output_dir.resolve()):
    raise ValueError(
      "id_key_file lies in output_dir; keep the key apart from the data"
    )
  if key_file is None and not path.exists():
    if not make:
      return bytes(KEY_BYTES)
    _make_key(path)
  return _read_key(path)


def _read_key(path: Path) -> bytes:
  try:
    key = bytes.fromhex(path.read_text(encoding="ascii").strip())
  except OSError:
    raise ValueError(
      f"id_key_file {path.name!r} cannot be read, expected a file of "
      f"{2 * KEY_BYTES} hexadecimal digits"
    ) from None
  except ValueError:
    key = b""
  if len(key) < KEY_BYTES:
    raise ValueError(
      f"id_key_file {path.name!r} does not hold a key, expected at least "
      f"{2 * KEY_BYTES} hexadecimal digits"
    )
  return key


def _make_key(path: Path) -> None:
  path.parent.mkdir(parents=True, exist_ok=True)
  # Written aside and linked: a second run that starts at the same moment
  # reads a whole key or makes its own and loses, never half of one.
  part = path.with_name(f"{path.name}.{secrets.token_hex(4)}.tmp")
  descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
  with os.fdopen(descriptor, "w", encoding="ascii") as handle:
    handle.write(secrets.token_hex(KEY_BYTES) + "\n")
  try:
    os.link(part, path)
  except FileExistsError:
    pass
  finally:
    part.unlink()


def hash_id(key: bytes, dataset: str, kind: str, raw_id: str) -> str:
  """Returns 64 hexadecimal digits for one of the source's own ids.

  Args:
    key: from `load_key`.
    dataset, kind: such as "padchest", "patient"; they keep equal numbers of
      different things apart.
    raw_id: the id as the source writes it.
  """
  message = "/".join((dataset, kind, raw_id)).encode()
  return hmac.new(key, message, hashlib.sha256).hexdigest()


def fingerprint(key: bytes) -> str:
  """Returns 8 hexadecimal digits that tell keys apart."""
  return hashlib.sha256(b"id_key" + key).hexdigest()[:8]
