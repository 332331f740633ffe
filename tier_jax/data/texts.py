"""Which part of a report is an example's text, and when two are equal."""

import re
from collections.abc import Mapping, Sequence

import numpy as np

SECTIONS = ("impression", "findings")
SECTION_CHOICES = ("first", "random", "both")

# "1. ", "2) ", "(3) ", "4.No": at the start, after a stop, or in the middle.
_LIST_NUMBER = re.compile(
  r"""(?:^|(?<=[.!?:;][ ])|(?P<middle>(?<=[ ])))
      \(?(?P<number>\d{1,2})[.)](?:[ ]|(?=[A-Z]))""",
  re.VERBOSE,
)
# Where a sentence may end: after a stop, at a blank or before a capital.
_STOP = re.compile(
  r"""(?<=[.])[ ]|(?<=[^ ][!?])[ ]|(?<=[.!?][)\]"'])[ ]
      |(?<=[a-z]{3}\.)(?=[A-Z][a-z])""",
  re.VERBOSE,
)
# Where it does not: after a number's sign, before a digit;
_NUMBER_SIGN = re.compile(r"\b[Nn]os?\.$")
# after a time of day, before anything but a capital;
_TIME_OF_DAY = re.compile(r"\b[ap]\.m\.$")
# after titles, abbreviations and initials, as in "C.T. of".
_NO_STOP = re.compile(
  r"\b([A-Z]|(?i:approx|cf|drs?|e\.g|fig|i\.e|mrs?|ms|prof|pts?|seg|st|vs))\.$"
)
_WORD = re.compile(r"[^\W_]")


def choose(
  sections: Mapping[str, str],
  names: Sequence[str],
  choice: str = "first",
  rng: np.random.Generator | None = None,
) -> str:
  """Returns the text that stands for a report, "" if it has none.

  Args:
    sections: text by section, "" where there is none.
    names: of the sections that may be chosen.
    choice: "first" non-empty of the names; "random", each non-empty one with
      the same probability; "both", all that are not empty, in their order.
    rng: of the randomness; without it "random" is "first".
  """
  found = [sections[name] for name in names if sections[name]]
  if choice == "both":
    return " ".join(found)
  # Drawn only where there is a choice: the other options shift no later draw.
  if choice == "random" and rng is not None and len(found) > 1:
    return found[rng.integers(len(found))]
  return found[0] if found else ""


def sample_sentences(text: str, rng: np.random.Generator) -> str:
  """Returns one or two of the text's sentences, in their order."""
  sentences = split_sentences(text)
  if not sentences:
    return text
  count = min(int(rng.integers(1, 3)), len(sentences))
  chosen = sorted(rng.choice(len(sentences), count, replace=False))
  return " ".join(sentences[i] for i in chosen)


def split_sentences(text: str) -> list[str]:
  """Returns the sentences of a report's section, white space normalised.

  Numbers of a list, as in "1. Edema. 2. No effusion.", are dropped, and begin
  a sentence even where the one before lacks its full stop. What holds neither
  letter nor digit is no sentence. In doubt two sentences stay together: half a
  sentence would be a worse text to learn from.
  """
  number = 1  # that the list's next entry has

  def mark(match: re.Match[str]) -> str:
    nonlocal number
    found = int(match["number"])
    if match.start() and (
      found != number or (match["middle"] is not None and number == 1)
    ):
      return match[0]
    number = found + 1
    return "\n"

  sentences: list[list[str]] = []  # each in parts
  text = _LIST_NUMBER.sub(mark, " ".join(text.split()))
  for entry in text.split("\n"):
    last = ""
    for part in _STOP.split(entry.strip()):
      if _goes_on(last[-10:], part[:1]):
        sentences[-1].append(part)
      else:
        sentences.append([part])
      last = part
  joined = [" ".join(parts) for parts in sentences]
  return [s for s in joined if _WORD.search(s)]


def normalise(text: str) -> str:
  """Returns the form in which texts that say the same are equal.

  Lower case, white space collapsed, one sentence a line without the stop or
  comma at its end, list numbers dropped: "1. No Edema. 2. Clear" becomes
  "no edema" and "clear". Another order of sentences is another text.
  """
  sentences = split_sentences(text) or [" ".join(text.split())]
  return "\n".join(s.lower().rstrip(" .,;:") for s in sentences)


def _goes_on(last: str, first: str) -> bool:
  """Whether a sentence goes on from its `last` to the `first` character."""
  if not last.endswith("."):
    return False
  if _NUMBER_SIGN.search(last):
    return first.isdigit()
  if _TIME_OF_DAY.search(last):
    return not first.isupper()
  return bool(_NO_STOP.search(last))
