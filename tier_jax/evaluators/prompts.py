"""Sentences that stand for a finding and for its absence.

The wording lies in prompts.json and is our own. It looks like the sentences of
reports, because that is what the text tower was trained on; a label without
sentences of its own gets the templates. No label is ever glued to a word: the
space before "is present" stands in the template.
"""

import dataclasses
import functools
import hashlib
import json
from importlib import resources
from typing import Any


@dataclasses.dataclass(frozen=True)
class Prompts:
  """The sentences of one label; both tuples hold at least one."""

  positive: tuple[str, ...]
  negative: tuple[str, ...]


def for_label(label: str) -> Prompts:
  """Returns the sentences for a label, whatever its case and underscores.

  The negative ones are the label's own and, for findings that a normal chest
  does not have, the generic normal ones.

  Raises:
    ValueError: if the label holds no letter or digit.
  """
  name = normalise(label)
  if not any(map(str.isalnum, name)):
    raise ValueError(
      f"label {label!r} is empty, expected the name of a finding"
    )
  data = _data()
  name = data["aliases"].get(name, name)
  entry = data["findings"].get(name)
  # A tube, or a label of which nothing is known, may go with a normal chest.
  sure = entry is not None and name not in data["normal_besides"]
  normal = data["normal"] if sure else []
  if entry is None:
    phrase = data["phrases"].get(name, name)
    entry = {
      side: [_fill(template, phrase) for template in templates]
      for side, templates in data["templates"].items()
    }
  return Prompts(tuple(entry["positive"]), (*entry["negative"], *normal))


def normalise(label: str) -> str:
  """Returns the label in lower case, with single blanks for underscores."""
  return " ".join(label.replace("_", " ").lower().split())


def digest() -> str:
  """Returns the SHA-256 of prompts.json, in hex."""
  return hashlib.sha256(_file()).hexdigest()


def _fill(template: str, phrase: str) -> str:
  # Not str.format: a label is data and may hold braces.
  text = template.replace("{phrase}", phrase)
  return text[0].upper() + text[1:]


@functools.cache
def _data() -> dict[str, Any]:
  return json.loads(_file())


def _file() -> bytes:
  package = resources.files("tier_jax.evaluators")
  return (package / "prompts.json").read_bytes()
