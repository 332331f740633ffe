"""Writes tables whose bytes depend on their rows alone."""

import csv
import gzip
import io
from collections.abc import Iterable, Sequence
from pathlib import Path


def write(
  path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]]
) -> None:
  """Writes a CSV, compressed if `path` ends in .gz.

  Args:
    path: its folder exists.
    columns: the header.
    rows: cells, None for a blank one.
  """
  text = io.StringIO()
  writer = csv.writer(text, lineterminator="\n")
  writer.writerow(columns)
  writer.writerows(rows)
  data = text.getvalue().encode()
  if path.suffix == ".gz":
    # No file name and no time in the header.
    data = gzip.compress(data, mtime=0)
  path.write_bytes(data)
