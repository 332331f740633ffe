"""Durations in steps, epochs or examples, and what they are in steps."""

import dataclasses
import fractions
import math
import re
import typing
from typing import Annotated

if typing.TYPE_CHECKING:
  from tier_jax import config as config_lib

# The type of a field that counts steps. Until `resolve` it may hold a string,
# such as "3 epochs", where the number of training pairs decides.
Steps = Annotated[int, "steps"]

_SPELLING = re.compile(r"(\d+(?:_\d+)*)(\.\d+)?(?: *(step|example|epoch)s?)?")
_EXPECTED = (
  "expected a whole number of steps or a duration such as '200 steps', "
  "'100_000 examples' or '0.5 epochs'"
)


def parse(name: str, value: int | str) -> int | str:
  """Returns a duration as it stands in a config: steps as an int.

  Args:
    name: of the field, for the error.
    value: steps, "200" or "200 steps" (both become 200), "100_000 examples" or
      "0.5 epochs" (both stay). Only epochs have fractions.

  Raises:
    ValueError: names the field and the value.
  """
  if type(value) is int:
    return value
  if not isinstance(value, str):
    raise ValueError(f"{name} is {value!r}, {_EXPECTED}")
  match = _SPELLING.fullmatch(value)
  if not match or (match[2] and match[3] != "epoch"):
    raise ValueError(f"{name} is {value!r}, {_EXPECTED}")
  return int(match[1]) if match[3] in (None, "step") else value


def check(name: str, value: int | str, least: int) -> None:
  """Raises ValueError if a parsed duration is below `least`, 0 or 1."""
  if (value if isinstance(value, int) else math.ceil(_split(value)[0])) < least:
    raise ValueError(f"{name} is {value!r}, expected >= {least}")


def resolve(
  config: "config_lib.Config", num_examples: int
) -> "config_lib.Config":
  """Returns the config with every duration in steps.

  A part of a step counts as one: a duration of its own is 1 step or more.

  Args:
    config: as built.
    num_examples: training pairs, which make an epoch.
  """

  def steps(_, text):
    size, unit = _split(text)
    examples = size * (num_examples if unit == "epoch" else 1)
    return math.ceil(examples / config.train.batch_size)

  return _replace(config, steps)


def stand_in(config: "config_lib.Config") -> "config_lib.Config":
  """Returns the config with made-up steps where only data could tell.

  For what does not depend on them, such as the cost of a step.
  """
  warmup = config.optim.warmup_steps
  warmup = warmup if isinstance(warmup, int) else 0
  made_up = {"warmup_steps": 0, "num_steps": warmup + 1}
  return _replace(config, lambda name, _: made_up.get(name, 1))


def _replace(config, steps):
  """Puts steps(name, text) in the place of every text."""
  sections = {}
  for section in ("train", "optim"):
    old = getattr(config, section)
    new = {
      field.name: steps(field.name, getattr(old, field.name))
      for field in dataclasses.fields(old)
      if field.type is Steps and isinstance(getattr(old, field.name), str)
    }
    sections[section] = dataclasses.replace(old, **new)
  return dataclasses.replace(config, **sections)


def _split(text) -> tuple[fractions.Fraction, str]:
  """Returns the exact number, and the unit."""
  ((number, fraction, unit),) = _SPELLING.findall(text)
  return fractions.Fraction(number + fraction), unit
