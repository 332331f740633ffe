"""Flags such as --config.train.batch_size=8: misspelt ones, and what changed.

For entry points with a `config_flags.DEFINE_config_file` named config.
"""

import difflib
import re
import sys
from typing import Any

from absl import app, flags
from ml_collections import config_flags

_FILE = re.compile(r"--?config(?:=(.*))?")
_KEY = re.compile(r"--?(?:no)?config\.([\w.]+)")


def parse_flags(argv: list[str]) -> list[str]:
  """Parses flags as `app.run` does, but misspelt keys end in one line.

  Hand it over as `app.run(main, flags_parser=overrides.parse_flags)`.
  """
  try:
    return app.parse_flags_with_usage(argv)
  except OSError as error:  # no such file
    sys.exit(f"error: {error}")
  except (AttributeError, KeyError):
    message = _misspelt(argv)
    if message is None:
      raise  # a mistake inside the config file
    sys.exit(f"error: {message}")


def replaced(holder: flags.FlagHolder) -> dict[str, Any]:
  """Returns what the file has where flags say otherwise, by dotted name."""
  path = config_flags.get_config_filename(flags.FLAGS[holder.name])
  now = _flat(holder.value)
  return {
    name: was for name, was in _flat(_load(path)).items() if was != now[name]
  }


def _misspelt(argv) -> str | None:
  """Returns what is wrong with the first key that the file lacks, if any."""
  path, known = "", []
  for argument, following in zip(argv, [*argv[1:], ""], strict=True):
    if file := _FILE.fullmatch(argument):
      path = file[1] or following
      known = list(_flat(_load(path), sections=True))
    if (key := _KEY.match(argument)) and key[1] not in known:
      near = difflib.get_close_matches(key[1], known, 1)
      hint = (
        f"did you mean --config.{near[0]}?"
        if near
        else f"expected one of {', '.join(known)}"
      )
      return f"--config.{key[1]} is no key of {path}, {hint}"
  return None


def _load(path):
  return flags.FLAGS["config"].parser.parse(path)


def _flat(values, prefix="", *, sections=False) -> dict[str, Any]:
  flat = {}
  for name, value in values.items():
    nested = hasattr(value, "items")
    if sections or not nested:
      flat[prefix + name] = value
    if nested:
      flat |= _flat(value, f"{prefix}{name}.", sections=sections)
  return flat
