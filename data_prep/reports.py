"""Report text to sections.

A heading is what a radiologist's dictation makes of it: upper case with a
colon at the start of a line, or one of the usual names in any case. Where a
report has no heading, none is guessed: its text comes back under "".
"""

import re
from pathlib import Path
from xml.etree import ElementTree

from data_prep import rejects

MAX_BYTES = 2**20

# What other headings are called here.
_NAMES = {
  "conclusion": "impression",
  "conclusions": "impression",
  "impressions": "impression",
  "imp": "impression",
  "opinion": "impression",
  "finding": "findings",
  # The two in one: it is filed once, where training looks first.
  "findings and impression": "impression",
  "findings/impression": "impression",
  "findings / impression": "impression",
  "impression and findings": "impression",
  "impression/findings": "impression",
  "exam": "examination",
  "study": "examination",
  "clinical history": "history",
  "clinical indication": "indication",
  "reason for exam": "indication",
  "reason for examination": "indication",
}

# Recognised in lower case too, and in the middle of a line in upper case.
_USUAL = "findings|impressions?|conclusions?|indication|history|technique"
_USUAL += "|comparisons?|examination|recommendations?|addendum|wet read"

_HEADING = re.compile(
  rf"""^[ \t]*(?P<name>[A-Z][A-Z0-9 ,/&()\#_-]{{2,70}}?|(?i:{_USUAL}))
       [ \t]*:(?!\d)""",
  re.VERBOSE,
)
_INLINE = re.compile(
  r"(?<=[.!?\])])[ \t]+(?=(?:FINDINGS|IMPRESSION|CONCLUSION)S?[ ]?:)"
)
_BLOCK = re.compile(
  r"^[ \t]*(FINAL REPORT|FINAL ADDENDUM|ADDENDUM|WET READ)[ \t]*:?[ \t]*$"
)
# Sections of one paragraph.
_SHORT = frozenset(
  [
    "comparison",
    "comparisons",
    "examination",
    "history",
    "indication",
    "technique",
  ]
)
# Headings that end findings and impression; any other is a part of them.
_TITLES = (
  _SHORT
  | set(_NAMES.values())
  | {
    "addendum",
    "clinical information",
    "notification",
    "procedure",
    "reason for study",
    "recommendation",
    "recommendations",
    "wet read",
  }
)
# "PA AND LATERAL CHEST RADIOGRAPHS:" heads the description of what is seen.
_VIEW_NAME = re.compile(r"\b(chest|views?|radiographs?|portable|frontal)\b")


def parse_report(text: str) -> dict[str, str]:
  """Returns the sections of a free-text report, in their order.

  The keys are headings in lower case, the usual variants under one name
  ("CONCLUSION" is "impression"); text before any heading is under "". A
  heading that names the views taken counts as "findings". Headings of parts,
  such as "LUNGS:", stay in the text of findings and impression. Sections that
  occur
  twice are joined, but a "FINAL REPORT" replaces what preliminary reads above
  it called findings and impression. White space becomes single blanks; a run
  of underscores, which stands for removed words, becomes "___".

  Args:
    text: as in MIMIC-CXR: "FINAL REPORT" far indented, then sections.
  """
  sections: dict[str, list[str]] = {}
  name = ""
  for line in _INLINE.sub("\n", text).splitlines():
    if block := _BLOCK.match(line):
      name = block[1].lower().removeprefix("final ")
      if name == "report":
        name = ""
        sections.pop("findings", None)
        sections.pop("impression", None)
      continue
    heading = _HEADING.match(line)
    if heading and not _is_part(name, heading["name"]):
      name = _section_name(heading["name"])
      line = line[heading.end() :]
    elif not line.strip() and any(
      text.strip() for text in sections.get(name, ()) if name in _SHORT
    ):
      name = ""  # what follows such a section's paragraph is not its own
    sections.setdefault(name, []).append(line)
  cleaned = {key: clean(" ".join(lines)) for key, lines in sections.items()}
  return {key: value for key, value in cleaned.items() if value}


def _is_part(section: str, heading: str) -> bool:
  """Whether a heading such as "LUNGS:" only structures what is seen."""
  return section in ("findings", "impression") and (
    _section_name(heading) not in _TITLES
  )


def _section_name(heading: str) -> str:
  name = " ".join(heading.lower().split())
  if name.startswith("wet read"):
    return "wet read"
  if name in _NAMES:
    return _NAMES[name]
  if _VIEW_NAME.search(name) and not re.search(r"\b(exam|reason|type)", name):
    return "findings"
  return name


def clean(text: str) -> str:
  """Returns the text on one line with single blanks and "___" for gaps."""
  # Some releases hold a line break as the two characters backslash and n.
  text = re.sub(r"\\[nrt]", " ", text)
  text = re.sub(r"_{2,}", "___", text)
  text = "".join(c if c.isprintable() or c.isspace() else " " for c in text)
  return " ".join(text.split())


def read_report(path: Path) -> dict[str, str]:
  """Returns the sections of the report in a text file.

  Raises:
    rejects.RejectError: if the file is too large, not UTF-8, binary, or the
      pointer that Git LFS leaves in place of a file.
  """
  data = _read(path)
  if data.startswith(b"version https://git-lfs"):
    raise rejects.RejectError("report:lfs_pointer")
  try:
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise rejects.RejectError("report:not_utf8") from error
  if "\0" in text:
    raise rejects.RejectError("report:binary")
  return parse_report(text)


def _read(path: Path) -> bytes:
  try:
    if path.stat().st_size > MAX_BYTES:
      raise rejects.RejectError("report:too_large")
    return path.read_bytes()
  except OSError:
    raise rejects.RejectError("report:unreadable") from None


def read_xml(path: Path) -> ElementTree.Element:
  """Returns the root of an XML file.

  Raises:
    rejects.RejectError: if the file is too large, is no XML, or declares a
      document type, with which entities could be made to grow without bound.
  """
  data = _read(path)
  try:
    # Bytes with NULs or a byte-order mark of UTF-16 could hide a declaration.
    text = data.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise rejects.RejectError("report:not_utf8") from error
  if "\0" in text or "<!DOCTYPE" in text or "<!ENTITY" in text:
    raise rejects.RejectError("report:unsafe_xml")
  try:
    return ElementTree.fromstring(data)  # noqa: S314 - no entities, see above
  except ElementTree.ParseError as error:
    raise rejects.RejectError("report:not_xml") from error
