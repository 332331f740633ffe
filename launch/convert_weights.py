"""Makes a safetensors file of a PyTorch one, in torch's safe mode.

  python launch/convert_weights.py --input=pytorch_model.bin \\
    --output=model.safetensors

Needs torch, which nothing else here does. Keys, shapes and types stay as they
are.
"""

import sys
from pathlib import Path
from typing import Any

from absl import app, flags

_INPUT = flags.DEFINE_string(
  "input", None, "A .bin, .pt or .pth of tensors by name.", required=True
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "A new .safetensors file.", required=True
)
_SUFFIXES = (".bin", ".pt", ".pth")
_WRAPPERS = ("state_dict", "model")  # what training scripts put around weights


def main(argv: list[str]) -> None:
  """Converts one file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    convert(Path(_INPUT.value), Path(_OUTPUT.value))
  except ValueError as error:
    sys.exit(f"error: {error}")


def convert(source: Path, target: Path) -> None:
  """Writes the tensors of `source` to `target`, which is whole once there.

  Args:
    source: a .bin, .pt or .pth: tensors by name, or one dict of them under
      "state_dict" or "model".
    target: a .safetensors that does not exist yet.

  Raises:
    ValueError: if either path is not as said, torch is not installed, or the
      file is broken, asks for code to be run or holds anything but plain
      tensors.
  """
  if source.suffix not in _SUFFIXES or not source.is_file():
    raise ValueError(
      f"--input {str(source)!r}: expected a file, one of {_SUFFIXES}"
    )
  if target.suffix != ".safetensors" or target.exists():
    raise ValueError(
      f"--output {str(target)!r}: expected a new .safetensors file"
    )
  try:
    import safetensors.torch
    import torch  # pyright: ignore
  except ImportError as error:
    raise ValueError(
      "torch is not installed, expected it for this one command: "
      "pip install torch, in an environment of its own"
    ) from error
  try:
    # weights_only: unpickles tensors and plain containers, runs nothing else.
    loaded: Any = torch.load(source, weights_only=True, map_location="cpu")
  except Exception as error:  # of many kinds, from zip to pickle
    raise ValueError(
      f"--input {str(source)!r} cannot be read in torch's safe mode: "
      f"{str(error).splitlines()[0] if str(error) else error!r}"
    ) from error
  wrappers = [
    name
    for name in _WRAPPERS
    if isinstance(loaded, dict) and isinstance(loaded.get(name), dict)
  ]
  if wrappers:
    loaded = loaded[wrappers[0]]
  if not isinstance(loaded, dict) or not loaded:
    raise ValueError(
      f"--input {str(source)!r} holds {type(loaded).__name__}, expected "
      "tensors by name"
    )
  others = [
    f"{name!r} ({kind})"
    for name, value in loaded.items()
    if (kind := _other_kind(name, value, torch))
  ]
  if others:
    raise ValueError(
      f"--input {str(source)!r} holds other things than plain tensors: "
      + ", ".join(others)
    )
  # Cloned: a safetensors file has no place for tensors that share memory.
  tensors = {name: value.clone().contiguous() for name, value in loaded.items()}
  unfinished = target.with_name(target.name + ".part")
  safetensors.torch.save_file(tensors, unfinished, {"format": "pt"})
  unfinished.rename(target)
  print(f"{len(tensors)} tensors written to {target}")


def _other_kind(name, value, torch) -> str:
  """Returns what an entry is if it is no plain tensor, else ""."""
  if not isinstance(name, str) or not isinstance(value, torch.Tensor):
    return type(value).__name__
  if value.is_meta:
    return "meta: a shape without values"
  if value.is_quantized or value.is_complex():
    return str(value.dtype)
  if value.layout != torch.strided:
    return str(value.layout)
  return ""


if __name__ == "__main__":
  app.run(main)
