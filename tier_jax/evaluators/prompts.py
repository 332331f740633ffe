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
from collections.abc import Mapping
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


def parse(asked: Any) -> dict[str, Prompts]:
  """Returns the sentences of labels that are named, or spelled out.

  Args:
    asked: a list of names, which get the sentences of `for_label`; or name ->
      {"positive": [sentence, ...], "negative": [sentence, ...]}.

  Raises:
    ValueError: if it is neither, or empty, or a name stands twice.
  """
  if isinstance(asked, Mapping):
    found = {name: _spelled_out(name, sides) for name, sides in asked.items()}
  elif isinstance(asked, (list, tuple)) and all(
    isinstance(name, str) for name in asked
  ):
    found = {name: for_label(name) for name in asked}
    if len(found) < len(asked):
      raise ValueError(f"prompts name a label twice: {', '.join(asked)}")
  else:
    raise ValueError(
      f"prompts are {type(asked).__name__}, expected a list of labels' names, "
      'or name -> {"positive": [...], "negative": [...]}'
    )
  if not found:
    raise ValueError("prompts are empty, expected the name of a label at least")
  return found


def _spelled_out(name: Any, sides: Any) -> Prompts:
  if isinstance(sides, Prompts):
    return sides
  fields = [field.name for field in dataclasses.fields(Prompts)]
  if not (
    isinstance(name, str)
    and isinstance(sides, Mapping)
    and sorted(sides) == sorted(fields)
    and all(
      isinstance(side, (list, tuple))
      and side
      and all(isinstance(text, str) and text.strip() for text in side)
      for side in sides.values()
    )
  ):
    raise ValueError(
      f"prompts of {name!r} are not as expected: "
      '{"positive": [sentence, ...], "negative": [sentence, ...]}, one each at '
      "least"
    )
  return Prompts(**{field: tuple(sides[field]) for field in fields})


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
