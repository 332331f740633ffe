"""How figures are written, in tables as on pages."""

from collections.abc import Mapping, Sequence

# The metrics of grounding; within a sentence, see `capital`.
GROUNDING = {
  "pointing_game": "pointing game",
  "cnr": "CNR",
  "miou": "mIoU",
  "dice": "Dice",
}


def number(value: float | None, *, places: int = 3, sign: bool = False) -> str:
  """Returns a figure, or a dash when it is not available.

  Args:
    value: what rounds to zero is written without a minus.
    places: of decimals.
    sign: writes + before what is not negative, for differences.
  """
  if value is None:
    return "-"
  return format(value, f"{'+' if sign else ''}z.{places}f")


def interval(
  item: Mapping[str, float | None] | None, *, sign: bool = False
) -> str:
  """Returns "0.873 [0.831, 0.912]", with + or - when it is a difference."""
  if not item or item["value"] is None:
    return "not available"
  text = number(item["value"], sign=sign)
  low, high = item.get("low"), item.get("high")
  if low is None or high is None:
    return text
  return f"{text} [{number(low, sign=sign)}, {number(high, sign=sign)}]"


def p_value(value: float | None) -> str:
  """Returns a p-value with three decimals, or a dash."""
  if value is None:
    return "-"
  return "< 0.001" if value < 0.001 else f"{value:.3f}"


def listing(words: Sequence[str]) -> str:
  """Returns "a, b and c"."""
  *first, last = words
  return f"{', '.join(first)} and {last}" if first else last


def capital(sentence: str) -> str:
  """Returns a sentence that begins with a capital; mIoU and such stay."""
  if not sentence.partition(" ")[0].islower():
    return sentence
  return sentence[:1].upper() + sentence[1:]
