"""Checks the reports of a dataset as a whole, before anything is written.

What goes wrong with text goes wrong silently: a run that learned from Git-LFS
pointers, markup or one repeated sentence looks like any other. Messages and
statistics hold numbers only, never a word of a report.
"""

import collections
import dataclasses
import re
from collections.abc import Iterable, Sequence

import numpy as np

from data_prep import reports

# From here on one text is worth a warning, or is no corpus. Of the 2,631 Open-i
# impressions 8 % are one sentence; of a screening's a third may well be.
WARN_SAME_SHARE = 0.25
MAX_SAME_SHARE = 0.9
# Among fewer texts shares mean little.
MIN_TEXTS_FOR_SHARE = 100
# Fewer equal texts than this happen by chance.
MIN_TEXTS_FOR_EQUAL = 10
MAX_HTML_SHARE = 0.01

_POINTER = re.compile(
  r"version https?://\S+/spec/v\d|\boid sha256:|^\s*/annex/objects/"
)
_HTML = re.compile(
  r"</?(?:html|head|body|div|span|p|br|table|tr|td|ul|li|b|i|font|style|script)"
  r"(?:\s[^<>]{0,200})?/?>|&(?:nbsp|amp|lt|gt|quot|\#\d{1,5});",
  re.IGNORECASE,
)
# No word of a report is that long. Lines of encoded data have 64 or 76.
_LONG = re.compile(r"[A-Za-z0-9+/=]{60,}")
_MONTH = (
  r"(?:jan|febr)uary|march|april|may|june|july|august"
  r"|(?:septem|octo|novem|decem)ber"
)
_PRIVATE = {
  "dates": re.compile(
    r"\b\d{1,2}[/.-]\d{1,2}[/.-](?:19|20)?\d\d\b|\b(?:19|20)\d\d-\d\d?-\d\d?\b"
    rf"|\b(?:{_MONTH})\s+\d{{1,2}},?\s+(?:19|20)\d\d\b",
    re.IGNORECASE,
  ),
  "phones": re.compile(
    r"(?<![\d.])(?:\+?1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4}(?!\d)"
  ),
  "emails": re.compile(r"[\w+-]@[\w-]{1,63}\.[A-Za-z]"),
  # A title and a name; the name is often taken out, its title left.
  "names": re.compile(
    r"\b(?:Drs?|Mrs?|Ms|Prof|DR|MRS?)\b\.?\s+(?!X{4}\b)[A-Z][A-Za-z'-]+"
  ),
}


@dataclasses.dataclass(frozen=True)
class Spread:
  """How a count a text is distributed over the texts that are not empty."""

  min: int
  median: int
  p95: int
  max: int


@dataclasses.dataclass(frozen=True)
class Statistics:
  """What a corpus looks like.

  Attributes:
    texts: how many that are not empty.
    empty: how many that are.
    characters, words: a text, placeholders being no words; None where there
      is no text.
    vocabulary: different words, in lower case.
    placeholder_share: of "___" and "XXXX" among these and the
      words, 0 to 1.
    same_share: of the texts that are the most common one, digits and case
      aside, 0 to 1.
    private: kind -> texts that hold what looks like a date, a phone number, an
      e-mail address, a title with a name.
  """

  texts: int = 0
  empty: int = 0
  characters: Spread | None = None
  words: Spread | None = None
  vocabulary: int = 0
  placeholder_share: float = 0.0
  same_share: float = 0.0
  private: dict[str, int] = dataclasses.field(default_factory=dict)

  def to_dict(self) -> dict[str, object]:
    """Returns what the manifest holds under "reports"."""
    return dataclasses.asdict(self)

  def format(self) -> str:
    """Returns lines to print."""
    if not self.texts:
      return "reports: none"
    lines = [
      f"reports: {self.texts} texts, {self.empty} empty, vocabulary "
      f"{self.vocabulary}, {self.placeholder_share:.1%} placeholders, "
      f"{self.same_share:.1%} are the most common text"
    ]
    for name, spread in (
      ("characters", self.characters),
      ("words", self.words),
    ):
      if spread:
        lines.append(
          f"  {name}: {spread.min} to {spread.max}, median {spread.median}, "
          f"95 % within {spread.p95}"
        )
    if self.texts >= MIN_TEXTS_FOR_SHARE and self.same_share >= WARN_SAME_SHARE:
      lines.append(
        f"  warning: {self.same_share:.1%} of {self.texts} texts are the same, "
        f"expected below {WARN_SAME_SHARE:.0%}"
      )
    found = {kind: count for kind, count in self.private.items() if count}
    if found:
      counts = ", ".join(f"{count} {kind}" for kind, count in found.items())
      lines.append(
        f"  warning: texts with what looks like personal data: {counts}"
      )
    return "\n".join(lines)


def check(texts: Iterable[str]) -> Statistics:
  """Returns the statistics of a corpus, if it looks like one.

  Args:
    texts: one a report (not one an image: the images of a study share theirs),
      cleaned; "" for a report without text. Read once.

  Raises:
    ValueError: if any text is a pointer to a file or holds encoded data, more
      than 1 % hold HTML, or nine in ten (of 100 or more) or all (of ten or
      more) are the same. From a quarter on, `Statistics.format` warns.
  """
  counts: collections.Counter[str] = collections.Counter()
  private: collections.Counter[str] = collections.Counter()
  same: collections.Counter[int] = collections.Counter()
  vocabulary: set[str] = set()
  characters: list[int] = []
  words: list[int] = []
  for text in texts:
    if not text:
      counts["empty"] += 1
      continue
    rest, gaps = reports.PLACEHOLDER.subn(" ", text)
    found = reports.WORD.findall(rest.lower())
    vocabulary.update(found)
    characters.append(len(text))
    words.append(len(found))
    counts["placeholders"] += gaps
    # A hash: the texts themselves may not fit in memory twice.
    same[hash(re.sub(r"\d+", "0", " ".join(text.lower().split())))] += 1
    counts["pointer"] += bool(_POINTER.search(text))
    counts["html"] += bool(_HTML.search(text))
    counts["encoded"] += any(map(_is_encoded, _LONG.findall(text)))
    for kind, pattern in _PRIVATE.items():
      private[kind] += bool(pattern.search(text))
  total = len(characters)
  most = max(same.values(), default=0)
  _refuse(counts, total, most)
  return Statistics(
    texts=total,
    empty=counts["empty"],
    characters=_spread(characters),
    words=_spread(words),
    vocabulary=len(vocabulary),
    placeholder_share=_share(
      counts["placeholders"], counts["placeholders"] + sum(words)
    ),
    same_share=_share(most, total),
    private={kind: private[kind] for kind in _PRIVATE},
  )


def _refuse(counts: collections.Counter[str], total: int, most: int) -> None:
  if counts["pointer"]:
    raise ValueError(
      f"reports: {counts['pointer']} of {total} texts are pointers to files, "
      "as Git LFS leaves them, expected none: fetch the files themselves"
    )
  if counts["encoded"]:
    raise ValueError(
      f"reports: {counts['encoded']} of {total} texts hold encoded data "
      "(base64 or the like), expected plain text"
    )
  if counts["html"] > MAX_HTML_SHARE * total:
    raise ValueError(
      f"reports: {counts['html']} of {total} texts hold HTML, expected at most "
      f"{MAX_HTML_SHARE:.0%}: convert them to plain text"
    )
  if total >= MIN_TEXTS_FOR_SHARE and most >= MAX_SAME_SHARE * total:
    raise ValueError(
      f"reports: {most} of {total} texts are the same, expected below "
      f"{MAX_SAME_SHARE:.0%}"
    )
  if total >= MIN_TEXTS_FOR_EQUAL and most == total:
    raise ValueError(f"reports: all {total} texts are the same")


def _is_encoded(run: str) -> bool:
  """Whether a long run of letters and digits mixes them as base64 does."""
  return all(re.search(kind, run) for kind in ("[A-Z]", "[a-z]", "[0-9]"))


def _share(part: int, whole: int) -> float:
  return round(part / whole, 4) if whole else 0.0


def _spread(values: Sequence[int]) -> Spread | None:
  if not values:
    return None
  # Values that occur, not ones in between.
  low, median, p95, high = np.percentile(
    values, (0, 50, 95, 100), method="inverted_cdf"
  )
  return Spread(int(low), int(median), int(p95), int(high))
