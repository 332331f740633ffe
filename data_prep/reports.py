"""Report text to sections.

A heading is what a radiologist's dictation makes of it: upper case with a
colon at the start of a line, or one of the usual names in any case. Where a
report has no heading, none is guessed: its text comes back under "".

The names, and how often each is mistyped, are known from the section parser
that the authors of MIMIC-CXR publish (MIT-LCP/mimic-cxr,
txt/section_parser.py); this parser is not theirs.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from xml.etree import ElementTree

from data_prep import items, paths, progress, rejects

MAX_BYTES = 2**20
# What a de-identification leaves where words were.
PLACEHOLDER = re.compile(r"_{2,}|X{4}")
WORD = re.compile(r"[^\W\d_]+(?:['-][^\W\d_]+)*")
# Reports that a thread reads at a time.
_BLOCK_SIZE = 256

# Section -> the headings filed under it, in lower case; the first that fits.
_SECTIONS = {
  section: re.compile(pattern)
  for section, pattern in {
    "wet read": r"wet ?(read|reading|___)\b.*",
    "preliminary": r"(provisional|preliminary)\b.*|pfi",
    "addendum": r"(.*\b)?addend(um|a)\b.*",
    "indication": (
      r"(clinical |exam )?indications?\b.*|reason for\b.*"
      r"|(clinical )?questions?\b.*"
    ),
    "history": (
      r"(.*\b)?history\b.*"
      r"|clinical (data|details|findings|impression|information)\b.*"
    ),
    "comparison": (
      r"comparisons?\b.*|(reference|prior|previous) (exam|study|studies|film).*"
    ),
    "technique": r"(.*\b)?techniques?",
    # "Findings and impression" in one is filed once, where training looks
    # first.
    "impression": r"(.*\b)?(impression|conclusion)s?\b.*|imp|opinion|summary",
    "recommendations": r"recommendations?\b.*",
    "notification": r"(notification|communication)s?\b.*",
    "findings": r"(.*\b)?findings?\b.*|report",
    "examination": (
      r"((type|date) of )?(exam(ination)?|procedure|study)s?"
      r"( (date|name|number|type))?"
    ),
  }.items()
}
# Sections of one paragraph, before what is seen.
_SHORT = (
  *("comparison", "examination", "history", "indication", "personal"),
  "technique",
)
# Sections that are not the report proper; a rule drawn below ends them.
_ASIDE = ("addendum", "preliminary", "wet read")
# "PA AND LATERAL CHEST RADIOGRAPHS:" heads the description of what is seen.
_CHEST = re.compile(r"\bchest\b(?! (pain|tube|wall))")
_VIEWS = re.compile(
  r"\b(views?|radiographs?|x-?rays?|portable|frontal|upright|supine|ribs"
  r"|bone windows?|(pa|ap) and lat(eral)?|lateral and (pa|ap))\b"
)

# Upper case before a colon, or one of the usual names in any case. Times, as
# in "CHEST AT 10:30:", have colons of their own.
_USUAL = r"""findings?|impressions?|conclusions?|(?:clinical\ )?indications?
  |(?:clinical\ )?history|techniques?|comparisons?|examination|exam|addendum
  |recommendations?|wet\ read|findings\ ?(?:/|and|&)\ ?impressions?"""
_HEADING = re.compile(
  rf"""[*\#> -]{{0,8}}
       (?P<name>[A-Z](?:[A-Z0-9 ,/&()\#*_-]|(?<=\d):(?=\d\d)){{2,70}}?
         |(?i:{_USUAL}))
       [ *]{{0,3}}(?:(?<!\d):|:(?!\d\d))[ *]{{0,3}}""",
  re.VERBOSE,
)
# Without a colon: alone in its line, before a dash, a list or a sentence.
_BARE = re.compile(
  r"""(?P<name>[A-Z][a-z]{5,12}(?=$)|[A-Z][A-Z/& ]{5,30}?)
      (?:[ ]?;[ ]?|[ ]?-[ ]|[ ](?=\d{1,2}[.)]|[A-Z][a-z]|A[ ][a-z])|$)""",
  re.VERBOSE,
)
_BARE_NAMES = (
  *("findings", "impression", "conclusion", "indication", "history"),
  *("comparison", "technique", "examination", "findings and impression"),
  *("findings/impression", "clinical history", "recommendation"),
)
# In the middle of a line: in upper case where no upper case goes before, or
# after a sentence. Only what ends or begins the text that is kept: a
# "COMPARISON: ___." amid the findings would take the rest of them along.
_INLINE = re.compile(
  r"""[ \t](?<=[a-z0-9_.!?;:)\]].)[ \t]*(?=(?:(?:CLINICAL|FINAL|OVERALL)[ ])?
        (?:FINDING|IMPRESSION|CONCLUSION|RECOMMENDATION|NOTIFICATION)
        [A-Z /&()]{0,40}:)
      |[ \t](?<=[.!?)\]].)[ \t]*(?=(?:Findings|Impression|Conclusion)[ ]?:)""",
  re.VERBOSE,
)
_BLOCK = re.compile(
  r"\W*(?P<name>FINAL REPORT|(?:FINAL )?ADDENDUM|WET READ|PRELIMINARY REPORT)"
  r"(?:\W+(?:ABNORMAL|CONT|CORRECTED|REVISED|\d))?\W*"
)
# Who it is about and who wrote it: names and numbers, no part of what is seen.
# Headings in any case, with a colon.
_PERSON = r"""(?:
    patient(?:'?s)?\ (?:name|id|identification|address|phone|mrn|dob)
    |(?:(?:full|first|last|family|given)\ )?name|d\.?o\.?b\.?|mrn|ssn
    |date\ of\ birth|birth\ ?date|acc|accession|social\ security
    |(?:(?:attending|reading|interpreting|reporting|referring|ordering
         |requesting|responsible|primary|staff|resident|signing)\ )?
     (?:physician|radiologist|doctor|provider|resident|attending|clinician
       |fellow|staff|technologist|transcriptionist)(?:\(s\)|s)?(?:'?s?\ name)?
    |dictated|transcribed|typed|signed|signature|(?<!\d\ )cc|copy\ to
    |address|(?:tele)?phone|fax|e-?mail|pager|facility|hospital
    |(?:accession|account|acct?|encounter|exam|hospital|medical\ record|mr|mrn
       |order|patient|record|social\ security|visit|ssn)
     (?:\ (?:number|num|no\.?|id)|\ ?\#)
  )\ ?:"""
_VERB = (
  r"(?:dictated|transcribed|typed|signed|authenticated|verified|approved"
  r"|finali[sz]ed|reported|read|interpreted|reviewed)"
)
# "Reported by the patient" is a sentence, "Reported by Jane Roe" none.
_BY = rf"""(?:(?:(?:final\ |preliminary\ )?report|images?|study)\ )?
  {_VERB}(?:(?:,|\ and|\ &|/)\ ?{_VERB})?\ by\b
  (?!\ (?:an?|his|her|patients?|famil(?:y|ies)|nurs\w+|outside|clinical
       |ct|mri?|ultraso\w+|fluoro\w+
       |the\ (?!attending|radiolog|resident|staff|undersigned))\b)"""
_SIGN = r"(?:signed|authenticated|verified|approved|finali[sz]ed|dictated)"
_ELECTRONIC = rf"""(?:(?:this|the)\ (?:report|study|document|examination)
      \ (?:was|is|has\ been)\ )?
    (?:(?:electronically|digitally)\ {_SIGN}\b
      |{_SIGN}\ (?:electronically|digitally)\b)"""
_NUMBER = r"(?:mrn|dob)\ ?\#?\ ?(?=\d)"
_PERSONAL = re.compile(
  rf"""[*\#>(\[ -]{{0,8}}(?:
      (?P<heading>(?i:{_PERSON}|{_NUMBER})|PATIENT\ ?:)
      |(?i:{_ELECTRONIC})|(?=[A-Z])(?i:{_BY}))""",
  re.VERBOSE,
)
# In the middle of a line: with a capital, so that "the attending physician:"
# stays. Amid other capitals, "REPORTED BY" may belong to a sentence.
_PERSONAL_INLINE = re.compile(
  rf"""[ ](?P<head>[*\#>(\[-]{{0,4}}\ ?(?:
      (?i:{_ELECTRONIC})|PATIENT\ ?:
      |(?=[A-Z])(?i:{_PERSON}|{_NUMBER}|{_BY}\ ?:
        |(?:dictated|transcribed|signed|authenticated)\ by\b)
      |(?:(?=[A-Z][a-z])|(?<![A-Z,]\ )(?=[A-Z]))(?i:{_BY})))""",
  re.VERBOSE,
)
_RULE = re.compile(r"[_=-]{10,}")


def _deletions(word: str) -> set[str]:
  """Returns a word and what is left of it less any one letter."""
  return {word, *(word[:i] + word[i + 1 :] for i in range(len(word)))}


# The names that are long enough to be known in spite of a typing error.
_MISSPELT = {
  part: word
  for word in (
    *("comparison", "conclusion", "examination", "findings", "history"),
    *("impression", "indication", "technique", "recommendation"),
  )
  for part in _deletions(word) | _deletions(f"{word}s")
}


def parse_report(text: str) -> dict[str, str]:
  """Returns the sections of a free-text report, in their order.

  The keys are headings in lower case, the variants of the usual ones under one
  name ("CONCLUSION" is "impression", as is "FINDINGS AND IMPRESSION"), with a
  typing error or two forgiven. Text under no heading is under "": none is
  guessed, except that a heading that names the views taken counts as
  "findings". Headings of parts, such as "LUNGS:", stay in the text of findings
  and impression.

  Sections that occur twice are joined. But "FINAL REPORT" replaces what
  preliminary reads and addenda above it called findings and impression, and
  what an addendum below calls so stays a part of the addendum. Findings or
  impressions without a letter are left out.

  A heading such as "MRN:" or "RADIOLOGIST:" ends them too, up to the next empty
  line "personal"; "Dictated by" and the like begin a "signature". Both are
  found in the middle of a line as well. A name alone is not known for one.

  White space becomes single blanks; a run of underscores, which stands for
  removed words, becomes "___". Takes time in proportion to the text's length.

  Args:
    text: as in MIMIC-CXR: "FINAL REPORT" far indented, then sections.
  """
  # Some releases hold a line break as the two characters backslash and n.
  text = re.sub(r"\\[nr]", "\n", text)
  chunks: list[tuple[str, list[str]]] = [("", [])]
  filled = set()  # sections that have text
  final = False
  resume = ""  # the section that short ones interrupt
  for line in _split_lines(text):
    section, lines = chunks[-1]
    if block := _BLOCK.fullmatch(line):
      if block["name"] != "FINAL REPORT":
        chunks.append((_section_name(block["name"]), []))
      elif not final:
        final = True
        chunks = [c for c in chunks if c[0] not in ("findings", "impression")]
        chunks.append(("", []))
        filled.clear()
      elif section in _ASIDE:  # other repetitions are heads of pages
        chunks.append(("", []))
      resume = ""
    elif found := _find_heading(line, section, filled):
      name, rest = found
      if name not in _SHORT:
        resume = ""
      elif section == "findings" and section not in filled:
        resume = section
      chunks.append((name, [rest] if rest else []))
      filled |= {name} if rest else set()
    elif line and not _RULE.fullmatch(line):
      lines.append(line)
      filled.add(section)
    elif (line and section in _ASIDE) or (
      not line and lines and section in _SHORT
    ):
      # What follows a rule below a preliminary read, or a short section's
      # paragraph, is not its own.
      chunks.append((resume, []))
  sections: dict[str, list[str]] = {}
  for name, lines in chunks:
    text = clean(" ".join(lines))
    if name in ("findings", "impression") and not _has_words(text):
      continue
    if text:
      sections.setdefault(name, []).append(text)
  return {name: " ".join(texts) for name, texts in sections.items()}


def join_parts(sections: Mapping[str, str]) -> str:
  """Returns what a report without findings and impression says.

  That is the text under no heading and under those that are no section's, such
  as "LUNGS: Clear." or a caption's "MRI BRAIN: Mass."; "" if it has no words.

  Args:
    sections: as `parse_report` returns them.
  """
  text = " ".join(
    f"{name.upper()}: {text}" if name else text
    for name, text in sections.items()
    if name not in (*_SECTIONS, "personal", "signature")
  )
  return text if _has_words(text) else ""


def _split_lines(text: str) -> Iterator[str]:
  """Yields lines with single blanks, what opens a section at the start."""
  for line in _INLINE.sub("\n", text).splitlines():
    line = " ".join(line.split())
    if not line:
      yield ""
      continue
    match = _PERSONAL.match(line)
    end = match.end() if match else 0
    rest = _PERSONAL_INLINE.sub(r"\n\g<head>", line[end:])
    yield from (line[:end] + rest).split("\n")


def _has_words(text: str) -> bool:
  """Whether a text holds more than digits, punctuation and placeholders."""
  return bool(WORD.search(PLACEHOLDER.sub(" ", text)))


def _find_heading(
  line: str, section: str, filled: set[str]
) -> tuple[str, str] | None:
  """Returns the section that a line opens and what follows the heading."""
  match = _PERSONAL.match(line)
  if match and section not in _ASIDE:
    if match["heading"]:
      return "personal", line[match.end() :]
    return "signature", line
  match = _HEADING.match(line)
  if not match:
    match = _BARE.match(line)
    if not match or _words(match["name"]) not in _BARE_NAMES:
      return None
  words, name = _words(match["name"]), _section_name(match["name"])
  if section in ("findings", "impression"):
    # Headings such as "LUNGS:" or "OTHER FINDINGS:" only structure what is
    # seen. But after an impression, views open the report of a second study.
    if name == "findings" and words != "findings":
      if section not in filled or section == "findings":
        return None
      if not _VIEWS.search(words):
        return None
    elif name not in _SECTIONS:
      return None
  if section == "addendum" and filled & {"findings", "impression"}:
    return None
  return name, line[match.end() :]


@functools.lru_cache(4096)  # a corpus has few, again and again
def _section_name(heading: str) -> str:
  words = _words(heading)
  for section, pattern in _SECTIONS.items():
    if pattern.fullmatch(words):
      return section
  if _VIEWS.search(words) or _CHEST.search(words):
    return "findings"
  return words


@functools.lru_cache(4096)
def _words(heading: str) -> str:
  """Returns a heading in lower case, its typing errors mended."""
  name = re.sub(r" ?& ?", " and ", heading.lower())
  name = re.sub(r" ?/ ?", "/", name).replace("(s)", "s")
  name = re.sub(r"[a-z]{6,}", lambda match: _mend(match[0]), name)
  return " ".join(name.split()).strip(" .,#*()-")


def _mend(word: str) -> str:
  # One letter missing, added, changed, or two swapped: less one letter each,
  # the two words are the same.
  parts = sorted(_deletions(word) & _MISSPELT.keys())
  return _MISSPELT[parts[0]] if parts else word


def clean(text: str) -> str:
  """Returns the text on one line with single blanks and "___" for gaps."""
  # Some releases hold a line break as the two characters backslash and n.
  text = re.sub(r"\\[nrt]", " ", text)
  text = re.sub(r"_{2,}", "___", text)
  text = " ".join(text.split())
  if not text.isprintable():
    text = "".join(c if c.isprintable() else " " for c in text)
    text = " ".join(text.split())
  return text


def fill(
  plan: items.Plan,
  *,
  num_threads: int = 16,
) -> tuple[items.Plan, dict[str, int]]:
  """Reads the reports that a plan's items point to.

  A report that several images share is read once, and is one string in
  memory. A report that is not there or cannot be used leaves its images with
  their labels; images without any are moved to `rejected`. Reports of items
  that are denied are not opened.

  Args:
    plan: as a source gives it; items with `report_paths` have no text yet.
    num_threads: files that are read at a time.

  Returns:
    plan: with `findings` and `impression` filled and no `report_paths`.
    notes: why images that stay have no text, such as "report:missing", and
      how many.
  """
  candidates = sorted(
    {item.report_paths for item in plan.items if not item.denied} - {()}
  )
  blocks = [
    candidates[start : start + _BLOCK_SIZE]
    for start in range(0, len(candidates), _BLOCK_SIZE)
  ]
  found: dict[tuple[str, ...], tuple[str, str, str]] = {}
  with (
    concurrent.futures.ThreadPoolExecutor(num_threads) as pool,
    progress.Counter(len(candidates), "reports") as counter,
  ):
    for block, read in zip(
      blocks,
      pool.map(lambda block: [_find(plan.root, c) for c in block], blocks),
      strict=True,
    ):
      found.update(zip(block, read, strict=True))
      counter.add(len(block))
  filled, rejected = [], list(plan.rejected)
  notes: collections.Counter[str] = collections.Counter()
  for item in plan.items:
    if item.denied:
      item = dataclasses.replace(item, report_paths=())
    elif item.report_paths:
      findings, impression, reason = found[item.report_paths]
      if reason and not item.labels:
        rejected.append((item.image_id, reason))
        continue
      if reason:
        notes[reason] += 1
      item = dataclasses.replace(
        item, report_paths=(), findings=findings, impression=impression
      )
    filled.append(item)
  plan = dataclasses.replace(plan, items=filled, rejected=tuple(rejected))
  return plan, dict(sorted(notes.items()))


def _find(root: Path, candidates: tuple[str, ...]) -> tuple[str, str, str]:
  """Returns findings, impression, and why both are empty if they are."""
  try:
    path = paths.locate(root, candidates)
    if path is None:
      return "", "", "report:missing"
    sections = read_report(path)
  except rejects.RejectError as rejection:
    return "", "", rejection.reason
  except OSError:  # such as a name that is too long
    return "", "", "report:unreadable"
  findings = sections.get("findings", "")
  impression = sections.get("impression", "")
  if not (findings or impression):
    return "", "", "report:no_findings_or_impression"
  return findings, impression, ""


def read_report(path: Path) -> dict[str, str]:
  """Returns the sections of the report in a text file.

  Raises:
    rejects.RejectError: if the file is too large, not UTF-8, binary, or the
      pointer that Git LFS leaves in place of a file.
  """
  data = _read(path)
  if data.lstrip().startswith((b"version https://git-lfs", b"/annex/objects")):
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
    with path.open("rb") as file:
      data = file.read(MAX_BYTES + 1)
  except OSError:
    raise rejects.RejectError("report:unreadable") from None
  if len(data) > MAX_BYTES:
    raise rejects.RejectError("report:too_large")
  return data


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
