"""Measures how fast a part works, beside the least that it could do.

  python launch/benchmark.py input --json=input.json

Each part's own --help says what is compared.
"""

import argparse
import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path

# Imported when chosen: data_prep's starts processes that need no jax.
PARTS = {
  "data_prep": "DICOM files a second, beside decoding and resizing alone",
  "input": "records to batches, beside decoding and warping alone",
  "train_step": "training steps, beside the model's FLOPs",
  "loop": "the training loop, beside nothing but its steps",
  "loss": "the loss and its penalties, beside the towers",
  "eval": "zero-shot evaluation, beside embedding the images alone",
  "statistics": "the bootstrap over patients at PadChest's size",
}
_MODULES = {"eval": "evaluation"}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the benchmark that the command line names; returns its status."""
  argv = sys.argv[1:] if argv is None else argv
  parser = argparse.ArgumentParser(
    prog="python launch/benchmark.py",
    description="Measures how fast a part works.",
  )
  commands = parser.add_subparsers(dest="command", required=True)
  modules = {}
  for name, text in PARTS.items():
    command = commands.add_parser(
      name, help=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if name in argv[:1]:
      module = importlib.import_module(
        f"tier_jax.benchmarks.{_MODULES.get(name, name)}"
      )
      command.description = module.__doc__
      module.add_flags(command)
      modules[name] = module
    command.add_argument(
      "--json", type=Path, help="writes the figures there too"
    )
  arguments = parser.parse_args(argv)
  module = modules[arguments.command]
  try:
    results = module.measure(arguments)
  except ValueError as error:
    print(f"error: {error}", file=sys.stderr)
    return 2
  print(module.table(results))
  if arguments.json:
    arguments.json.write_text(json.dumps(results, indent=2) + "\n", "utf-8")
  return 0


if __name__ == "__main__":
  sys.exit(main())
