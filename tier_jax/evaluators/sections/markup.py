"""HTML that the report's sections share: text from data is escaped here."""

import dataclasses
import html
from collections.abc import Mapping, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page: its heading as plain text, its body as HTML."""

  title: str
  body: str


def text(value: Any) -> str:
  """Returns a value of the data as HTML."""
  return html.escape(str(value))


def number(value: float | None, *, places: int = 3) -> str:
  """Returns a figure, or a dash when it is not available."""
  return "-" if value is None else f"{value:.{places}f}"


def interval(
  item: Mapping[str, Any] | None, *, places: int = 3, sign: bool = False
) -> str:
  """Returns the HTML of a value with its interval below it.

  Args:
    item: value, low and high, each may be None, or None altogether.
    places: of decimals.
    sign: writes + before what is not negative, for differences.
  """
  if not item or item["value"] is None:
    return '<span class="none">not available</span>'
  spec = f"{'+' if sign else ''}.{places}f"
  value = format(item["value"], spec)
  low, high = item.get("low"), item.get("high")
  if low is None or high is None:
    return value
  return f"{value}<i>{low:{spec}} to {high:{spec}}</i>"


def row(cells: Sequence[str], *, strong: bool = False) -> str:
  """Returns a table's row of HTML cells; the first one heads it."""
  first, *others = cells
  css = ' class="strong"' if strong else ""
  values = "".join(f"<td>{cell}</td>" for cell in others)
  return f"<tr{css}><th>{first}</th>{values}</tr>"


def table(head: Sequence[str], rows: Sequence[str]) -> str:
  """Returns a table that scrolls by itself; the head is HTML too."""
  cells = "".join(f"<th>{cell}</th>" for cell in head)
  return (
    f'<div class="scroll"><table><thead><tr>{cells}</tr></thead><tbody>'
    f"{''.join(rows)}</tbody></table></div>"
  )


def figure(caption: str, uri: str, note: str = "") -> str:
  """Returns a picture below its caption (plain text) and a note (HTML)."""
  words = text(caption)
  return (
    f"<figure><figcaption>{words}</figcaption>{note}"
    f'<img src="{uri}" alt="{words}"></figure>'
  )


def grid(css: str, parts: Sequence[str]) -> str:
  """Returns parts side by side, as many as the page's width holds."""
  return f'<div class="{css}">{"".join(parts)}</div>' if parts else ""


def details(summary: str, body: str) -> str:
  """Returns HTML that is folded away below a plain line."""
  return f"<details><summary>{text(summary)}</summary>{body}</details>"


def listing(words: Sequence[str]) -> str:
  """Returns "a, b and c"."""
  *first, last = words
  return f"{', '.join(first)} and {last}" if first else last
