"""Tables of labels and of what else is known about an image."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
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

MAX_LINE = 2**20  # characters; the csv module caps a cell at 2**17
MAX_ROWS = 10_000_000

_VALUES = {"1": 1, "1.0": 1, "0": 0, "0.0": 0, "-1": -1, "-1.0": -1}
_FRONTAL = ("frontal", "pa", "ap", "posteroanterior", "anteroposterior")
_LATERAL = ("lateral", "lat", "l", "ll", "rl", "left lateral", "right lateral")


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
      repeats one, or a row is longer or shorter than the header. The message
      names the file, the column or the row number, and no cell.
  """
  opener = gzip.open if path.suffix == ".gz" else open
  try:
    with opener(path, "rt", encoding="utf-8-sig", newline="") as handle:
      return _read_rows(path.name, handle, required, optional)
  except FileNotFoundError:
    raise ValueError(f"table {path.name} does not exist") from None
  except UnicodeDecodeError:
    raise ValueError(f"table {path.name} is not UTF-8 text") from None
  except csv.Error as error:
    raise ValueError(f"table {path.name} is no CSV: {error}") from None
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(
      f"table {path.name} cannot be read: {type(error).__name__}"
    ) from None


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
  reader = csv.reader(_lines(name, handle), strict=True)
  header = [column.strip() for column in next(reader, [])]
  named = [column for column in header if column]
  repeated = sorted({column for column in named if named.count(column) > 1})
  if repeated:
    raise ValueError(f"table {name} has more than one column {repeated[0]!r}")
  missing = [column for column in required if column not in header]
  if missing:
    raise ValueError(
      f"table {name} lacks the column(s) {', '.join(map(repr, missing))}"
    )
  wanted = [column for column in (*required, *optional) if column in header]
  positions = {column: header.index(column) for column in wanted}
  rows = []
  for cells in reader:
    if not cells:
      continue
    if len(cells) != len(header):
      raise ValueError(
        f"table {name} row {len(rows) + 1} has {len(cells)} cells, expected "
        f"{len(header)} as in the header"
      )
    if len(rows) == MAX_ROWS:
      raise ValueError(f"table {name} has more than {MAX_ROWS} rows")
    rows.append({column: cells[i] for column, i in positions.items()})
  if not rows:
    raise ValueError(f"table {name} has no rows")
  return rows


def _lines(name: str, handle: TextIO) -> Iterator[str]:
  while line := handle.readline(MAX_LINE):
    if len(line) == MAX_LINE:
      raise ValueError(f"table {name} has a line of {MAX_LINE} characters")
    if "\0" in line:
      raise ValueError(f"table {name} holds NUL bytes")
    yield line


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


def parse_view(cell: str) -> str:
  """Returns "frontal", "lateral" or "unknown" for a view position."""
  words = re.sub(r"[_\s]+", " ", cell).strip().lower()
  if words in _LATERAL:
    return "lateral"
  # "AP Supine", "AP_horizontal"
  if words.split(" ")[0] in _FRONTAL:
    return "frontal"
  return "unknown"


def parse_sex(cell: str) -> str:
  """Returns "F", "M" or ""."""
  sex = cell.strip().upper()
  return {"F": "F", "FEMALE": "F", "M": "M", "MALE": "M"}.get(sex, "")


def age_band(cell: str) -> str:
  """Returns the ten years that hold the age, "90+" above, "" if unknown.

  Args:
    cell: years, such as "67" or "67.0", or DICOM's "067Y".
  """
  match = re.fullmatch(r"0*(\d{1,3})(\.0*)?Y?", cell.strip())
  if match is None or int(match[1]) > 130:
    return ""
  decade = int(match[1]) // 10 * 10
  return "90+" if decade >= 90 else f"{decade}-{decade + 9}"
