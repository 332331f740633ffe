"""Reads safetensors weights of a local directory or a hub name.

Nothing is unpickled and no remote code runs.
"""

import json
from pathlib import Path

import numpy as np
import safetensors.numpy

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"


def read(name: str, field: str) -> dict[str, np.ndarray]:
  """Returns every tensor by key, in the type it was stored in.

  Args:
    name: local directory or hub name that holds `model.safetensors`, whole or
      in shards with their index; or a local .safetensors file.
    field: of the config that names it, for errors.

  Raises:
    ValueError: if a file is missing, broken or of another format.
  """
  paths = [Path(name)] if Path(name).is_file() else _weights(name, field)
  tensors = {}
  for path in paths:
    if path.suffix != ".safetensors":
      raise ValueError(
        f"{field} {name!r}: {path.name} is no .safetensors file; "
        "launch/convert_weights.py makes one of a .bin or .pt"
      )
    try:
      tensors |= safetensors.numpy.load_file(path)
    # A number format that numpy lacks, such as float8, is a KeyError.
    except (OSError, KeyError, safetensors.SafetensorError) as error:
      raise ValueError(
        f"{field} {name!r}: its {path.name} cannot be read: {error}"
      ) from error
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
    raise ValueError(
      f"{field} {name!r} is neither a local directory nor a hub name whose "
      f"{file} can be fetched: {str(error).splitlines()[0]}"
    ) from error


def _weights(name, field) -> list[Path]:
  whole = find(name, _WHOLE, field)
  if whole:
    return [whole]
  index = find(name, _INDEX, field)
  if not index:
    raise ValueError(f"{field} {name!r} holds no {_WHOLE}" + _instead(name))
  try:
    files = sorted(
      set(json.loads(index.read_text("utf-8"))["weight_map"].values())
    )
  except (ValueError, KeyError, AttributeError, TypeError) as error:
    raise ValueError(
      f"{field} {name!r}: its {_INDEX} cannot be read: {error!r}"
    ) from error
  paths = {file: find(name, file, field) for file in files}
  missing = [file for file, path in paths.items() if not path]
  if missing:
    raise ValueError(
      f"{field} {name!r} holds no {', '.join(missing)}, which its {_INDEX} "
      "names"
    )
  return [path for path in paths.values() if path]


def _instead(name) -> str:
  """What there is instead of weights, for an error."""
  convert = "launch/convert_weights.py makes it of a .bin or .pt"
  if not Path(name).is_dir():
    return f"; {convert}"
  files = sorted(path.name for path in Path(name).iterdir())
  if any(file.endswith((".bin", ".pt", ".pth")) for file in files):
    return f" but {', '.join(files)}; {convert}"
  return f" but {', '.join(files) or 'nothing'}"
