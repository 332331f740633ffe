"""Tables of labels and of what else is known about an image."""

import collections
import csv
import gzip
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

CHEXPERT_LABELS = (
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Enlarged Cardiomediastinum",
  "Fracture",
  "Lung Lesion",
  "Lung Opacity",
  "No Finding",
  "Pleural Effusion",
  "Pleural Other",
  "Pneumonia",
  "Pneumothorax",
  "Support Devices",
)

# Of a table, unpacked. The longest of the sources has 377,110 rows, the largest
# about 100 MB.
MAX_TEXT = 2**28  # characters
MAX_ROW = 2**20  # characters; the csv module caps a cell at 2**17
MAX_ROWS = 1_000_000
MAX_LINES = 2**25

NO_VIEW = "view:not_stated"

_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
_FRONTAL = ("frontal", "pa", "ap", "posteroanterior", "anteroposterior")
_LATERAL = ("lateral", "lat", "l", "ll", "rl")
_AGE = re.compile(r"0*([0-9]{1,5})(?:\.[0-9]*)?\s*([a-z]*)")
_A_YEAR = {
  unit: count
  for count, units in (
    (1, ("", "y", "yr", "yrs", "year", "years")),
    (12, ("m", "mo", "month", "months")),
    (52, ("w", "week", "weeks")),
    (365, ("d", "day", "days")),
  )
  for unit in units
}
_NUMBER = re.compile(r"[+-]?[0-9]{1,20}(\.[0-9]*)?([eE][+-]?[0-9]{1,3})?")
# What a spreadsheet makes of an id of many digits: others become equal to it.
_ROUNDED_ID = re.compile(r"[0-9](\.[0-9]+)?[eE]\+[0-9]+")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def read_table(
  path: Path, required: Sequence[str], optional: Sequence[str] = ()
) -> list[dict[str, str]]:
  """Returns the rows of a CSV file, each a dict of the columns asked for.

  Args:
    path: UTF-8 with or without a byte-order mark, plain or `.gz`.
    required, optional: column names; an optional one that the file lacks is
      absent from the rows.

  Raises:
    ValueError: if the file is missing, is no CSV, lacks a required column or
      repeats one, or a row is longer or shorter than the header (columns
      without a name at its end may be left out), or if it is larger than the
      limits above. The message names the file, the column or the row number,
      and no cell.
  """
  try:
    with _open_text(path) as handle:
      return _read_rows(path.name, handle, required, optional)
  except FileNotFoundError:
    raise ValueError(f"table {path.name} does not exist") from None
  except UnicodeDecodeError:
    raise ValueError(f"table {path.name} is not UTF-8 text") from None
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f"table {path.name} cannot be read: {type(error).__name__}"
    ) from None


def _open_text(path: Path) -> TextIO:
  if path.suffix == ".gz":
    return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
  return path.open(encoding="utf-8-sig", newline="")


def find_table(directories: Sequence[Path], pattern: str) -> Path | None:
  """Returns the first file that matches, `.gz` or not, or None.

  Args:
    directories: searched in this order, not below.
    pattern: such as "mimic-cxr-2.0.0-split.csv"; may hold `*`.

  Raises:
    ValueError: if several names in one directory match.
  """
  for directory in directories:
    names = {
      path
      for suffix in ("", ".gz")
      for path in directory.glob(pattern + suffix)
      if path.is_file()
    }
    stems = {path.name.removesuffix(".gz") for path in names}
    if len(stems) > 1:
      raise ValueError(f"{len(stems)} tables match {pattern!r}, expected one")
    if names:
      return min(names)
  return None


def require_table(directories: Sequence[Path], pattern: str) -> Path:
  """As `find_table`, but raises ValueError where that returns None."""
  path = find_table(directories, pattern)
  if path is None:
    raise ValueError(f"source_dir holds no {pattern}(.gz)")
  return path


def _read_rows(
  name: str, handle: TextIO, required: Sequence[str], optional: Sequence[str]
) -> list[dict[str, str]]:
  lines = _Lines(f"table {name}", handle)
  reader = csv.reader(lines, strict=True)
  rows: list[dict[str, str]] = []
  try:
    header = [column.strip() for column in next(reader, [])]
    positions = _find_columns(name, header, required, optional)
    # NIH's table of boxes ends its header, and not its rows, with commas.
    shortest = max(i for i, column in enumerate(header) if column) + 1
    for cells in reader:
      lines.row_length = 0
      if not cells:
        continue
      if not shortest <= len(cells) <= len(header):
        raise ValueError(
          f"table {name} row {len(rows) + 1} has {len(cells)} cells, expected "
          f"{len(header)} as in the header"
        )
      if len(rows) == MAX_ROWS:
        raise ValueError(f"table {name} has more than {MAX_ROWS} rows")
      rows.append({column: cells[i] for column, i in positions})
  except csv.Error as error:
    raise ValueError(
      f"table {name} row {len(rows) + 1} is no CSV: {error}"
    ) from None
  if not rows:
    raise ValueError(f"table {name} has no rows")
  return rows


def _find_columns(
  name: str,
  header: Sequence[str],
  required: Sequence[str],
  optional: Sequence[str],
) -> list[tuple[str, int]]:
  """Returns each column that is wanted and there, with its position."""
  missing = [column for column in required if column not in header]
  if missing:
    raise ValueError(
      f"table {name} lacks the column(s) {', '.join(map(repr, missing))}"
    )
  counts = collections.Counter(column for column in header if column)
  repeated = sum(count > 1 for count in counts.values())
  if repeated:
    raise ValueError(f"table {name} has {repeated} column name(s) repeated")
  return [
    (column, header.index(column))
    for column in (*required, *optional)
    if column in counts
  ]


class _Lines:
  """The lines of a text, as long as all of it stays within the limits.

  Attributes:
    row_length: characters since the reader last set it to 0: a quoted cell
      makes many lines one row.
  """

  def __init__(self, name: str, handle: TextIO):
    self.row_length = 0
    self._name = name
    self._handle = handle
    self._count = self._length = 0

  def __iter__(self):
    return self

  def __next__(self) -> str:
    line = self._handle.readline(MAX_ROW)
    if not line:
      raise StopIteration
    self._count += 1
    self._length += len(line)
    self.row_length += len(line)
    if self.row_length >= MAX_ROW:
      raise ValueError(
        f"{self._name} has a row of {MAX_ROW} characters or more"
      )
    if self._length > MAX_TEXT or self._count > MAX_LINES:
      raise ValueError(
        f"{self._name} is larger than {MAX_TEXT} characters or "
        f"{MAX_LINES} lines"
      )
    if "\0" in line:
      raise ValueError(f"{self._name} holds NUL bytes")
    return line


def read_names(path: Path) -> list[str]:
  """Returns the lines of a text file, stripped, without blank ones.

  Args:
    path: UTF-8, plain or `.gz`. Lines that start with `#` are comments.

  Raises:
    ValueError: if the file is missing, is not text, or larger than the limits
      of a table; the message names the file and no line of it.
  """
  names = []
  try:
    with _open_text(path) as handle:
      lines = _Lines(f"list {path.name}", handle)
      for line in lines:
        lines.row_length = 0
        name = line.strip()
        if name and not name.startswith("#"):
          names.append(name)
  except UnicodeDecodeError:
    raise ValueError(f"list {path.name} is not UTF-8 text") from None
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f"list {path.name} cannot be read: {type(error).__name__}"
    ) from None
  return names


def parse_value(cell: str, table: str, row: int, column: str) -> int | None:
  """Returns 1 present, 0 absent, -1 uncertain, or None for a blank cell.

  Raises:
    ValueError: if the cell is anything else; `table`, `row` (from 1) and
      `column` say where.
  """
  cell = cell.strip()
  if not cell:
    return None
  if cell not in _VALUES:
    raise ValueError(
      f"table {table} row {row} column {column!r} is none of 1, 0, -1 or blank"
    )
  return _VALUES[cell]


def parse_values(
  cells: dict[str, str], columns: Sequence[str], table: str, row: int
) -> dict[str, int]:
  """Returns the stated labels among `columns`; blank ones are left out."""
  values = {
    column: parse_value(cells[column], table, row, column) for column in columns
  }
  return {name: value for name, value in values.items() if value is not None}


def parse_numbers(
  row: Mapping[str, str], columns: Sequence[str], table: str, number: int
) -> list[float]:
  """Returns the numbers in the columns.

  Raises:
    ValueError: if one of them is blank, not finite or no number.
  """
  cells = [row[column].strip() for column in columns]
  if not all(
    _NUMBER.fullmatch(cell) and math.isfinite(float(cell)) for cell in cells
  ):
    raise ValueError(
      f"table {table} row {number}: {', '.join(columns)} are not all numbers"
    )
  return [float(cell) for cell in cells]


def parse_id(
  row: Mapping[str, str], column: str, table: str, number: int
) -> str:
  """Returns the id in a column, "" if blank; leading zeros are a part of it.

  Raises:
    ValueError: if a spreadsheet has rounded the id (`2.4E+38`), so that it may
      stand for several, or it holds a line break or another control character.
  """
  cell = row[column].strip()
  if _ROUNDED_ID.fullmatch(cell):
    raise ValueError(
      f"table {table} row {number} column {column!r} is an id that was rounded "
      "to a number with an exponent; take the table as distributed"
    )
  if _CONTROL.search(cell):
    raise ValueError(
      f"table {table} row {number} column {column!r} holds control characters"
    )
  return cell


def parse_view(cell: str) -> str:
  """Returns "frontal", "lateral" or "unknown" for a view position."""
  words = re.sub(r"[_\s]+", " ", cell.replace("-", "")).strip().lower()
  # "left lateral", "XTABLE LATERAL"
  if words in _LATERAL or words.endswith(" lateral"):
    return "lateral"
  # "AP Supine", "AP_horizontal", "postero-anterior"
  if words.split(" ")[0] in _FRONTAL:
    return "frontal"
  return "unknown"


def note_view(cell: str) -> tuple[str, ...]:
  """Returns what is to be counted where `parse_view` gives "unknown"."""
  if parse_view(cell) != "unknown":
    return ()
  return ("view:neither_frontal_nor_lateral" if cell.strip() else NO_VIEW,)


def parse_sex(cell: str) -> str:
  """Returns "F", "M" or ""."""
  sex = cell.strip().upper()
  return {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}.get(sex, "")


def note_sex(cell: str) -> tuple[str, ...]:
  """Returns what is to be counted where `parse_sex` cannot read a cell."""
  return ("sex:not_read",) if cell.strip() and not parse_sex(cell) else ()


def age_band(cell: str) -> str:
  """Returns the ten years that hold the age, "90+" above, "" if unknown.

  Args:
    cell: years, such as "67", "67.5" or "67 years", or DICOM's "067Y", "018M",
      "030W" or "005D".
  """
  match = _AGE.fullmatch(cell.strip().lower())
  if match is None or match[2] not in _A_YEAR:
    return ""
  years = int(match[1]) // _A_YEAR[match[2]]
  if years > 130:
    return ""
  decade = years // 10 * 10
  return "90+" if decade >= 90 else f"{decade}-{decade + 9}"


def note_age(cell: str) -> tuple[str, ...]:
  """Returns what is to be counted where `age_band` cannot read a cell."""
  return ("age:not_read",) if cell.strip() and not age_band(cell) else ()
