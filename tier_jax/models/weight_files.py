"""Reads safetensors weights of a local directory or a hub name.

Nothing is unpickled and no remote code runs.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_SHARD = re.compile(r"[\w.-]+\.safetensors")


def read(name: str, field: str) -> dict[str, np.ndarray]:
  """Returns every tensor by key, in the type it was stored in.

  Args:
    name: local directory or hub name that holds `model.safetensors`, whole or
      in shards with their index; or a local .safetensors file.
    field: of the config that names it, for errors.

  Raises:
    ValueError: if a file is missing, broken or of another format, or shards
      and index do not fit together.
  """
  paths, keys = [Path(name)], set()
  if not Path(name).is_file():
    paths, keys = _weights(name, field)
  tensors = {}
  for path in paths:
    if path.suffix != ".safetensors":
      raise ValueError(
        f"{field} {name!r}: {path.name} is no .safetensors file; "
        "launch/convert_weights.py makes one of a .bin or .pt"
      )
    try:
      found = safetensors.numpy.load_file(path)
    # A number format that numpy lacks, such as float8, is a KeyError.
    except (OSError, KeyError, safetensors.SafetensorError) as error:
      raise ValueError(
        f"{field} {name!r}: its {path.name} cannot be read: {error}"
      ) from error
    twice = sorted(tensors.keys() & found.keys())
    if twice:
      raise ValueError(
        f"{field} {name!r}: its {path.name} and an earlier shard both hold "
        f"{', '.join(twice)}"
      )
    tensors |= found
  missing = sorted(keys - tensors.keys())
  if missing:
    raise ValueError(
      f"{field} {name!r}: its {_INDEX} names {', '.join(missing)}, which no "
      "shard holds"
    )
  return tensors


def find(name: str, file: str, field: str) -> Path | None:
  """Returns the path of one file, fetched if need be; None if there is none.

  Args:
    name: local directory or hub name.
    file: its name in there.
    field: of the config that names it, for errors.

  Raises:
    ValueError: if `name` is neither, or the file cannot be fetched.
  """
  if Path(name).is_dir():
    path = Path(name) / file
    return path if path.is_file() else None
  import huggingface_hub  # a run from scratch starts without it
  from huggingface_hub import errors

  try:
    return Path(huggingface_hub.hf_hub_download(name, file))
  except errors.RemoteEntryNotFoundError:
    return None
  except (OSError, ValueError) as error:
    if (
      isinstance(error, errors.LocalEntryNotFoundError)
      and huggingface_hub.try_to_load_from_cache(name, file)
      is huggingface_hub._CACHED_NO_EXIST  # documented there, for all its name
    ):
      return None  # offline, and known not to be there since last time
    raise ValueError(
      f"{field} {name!r} is neither a local directory nor a hub name whose "
      f"{file} can be fetched: {' '.join(str(error).split()) or repr(error)}"
    ) from error


def read_json(name: str, file: str, field: str) -> dict[str, Any] | None:
  """Returns what a JSON file holds; None if there is none.

  Args:
    name, file, field: as in `find`.

  Raises:
    ValueError: if it cannot be fetched, is no JSON or holds no dict.
  """
  path = find(name, file, field)
  if not path:
    return None
  try:
    values = json.loads(path.read_text("utf-8"), parse_constant=_refuse)
    if not isinstance(values, dict):
      raise ValueError(f"{type(values).__name__}, expected a dict")
  except (ValueError, RecursionError) as error:
    raise ValueError(
      f"{field} {name!r}: its {file} cannot be read: {error}"
    ) from error
  return values


def _refuse(constant):
  raise ValueError(f"{constant}, expected finite numbers")


def _weights(name, field) -> tuple[list[Path], set[str]]:
  """Returns the files, and the keys that an index says are in them."""
  whole = find(name, _WHOLE, field)
  if whole:
    return [whole], set()
  index = read_json(name, _INDEX, field)
  if index is None:
    raise ValueError(f"{field} {name!r} holds no {_WHOLE}" + _instead(name))
  files = index.get("weight_map")
  if not isinstance(files, dict) or not files:
    raise ValueError(
      f"{field} {name!r}: weight_map of its {_INDEX} is "
      f"{files!r}, expected files by key"
    )
  for key, file in files.items():
    # A plain name, which cannot lead out of the directory.
    if not isinstance(file, str) or not _SHARD.fullmatch(file):
      raise ValueError(
        f"{field} {name!r}: its {_INDEX} has {key} in {file!r}, expected a "
        "plain name such as model-00001-of-00002.safetensors"
      )
  paths = {
    file: find(name, file, field) for file in sorted(set(files.values()))
  }
  missing = [file for file, path in paths.items() if not path]
  if missing:
    raise ValueError(
      f"{field} {name!r} holds no {', '.join(missing)}, which its {_INDEX} "
      "names"
    )
  return [path for path in paths.values() if path], set(files)


def _instead(name) -> str:
  """What there is instead of weights, for an error."""
  convert = "launch/convert_weights.py makes it of a .bin or .pt"
  if not Path(name).is_dir():
    return f"; {convert}"
  files = sorted(path.name for path in Path(name).iterdir())
  if any(file.endswith((".bin", ".pt", ".pth")) for file in files):
    return f" but {', '.join(files)}; {convert}"
  return f" but {', '.join(files) or 'nothing'}"
