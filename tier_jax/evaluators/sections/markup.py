"""HTML that all pages share: text from data is escaped here."""

import dataclasses
import html
import string
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any

from tier_jax.evaluators import wording


@dataclasses.dataclass(frozen=True)
class Section:
  """A part of the page: its heading as plain text, its body as HTML."""

  title: str
  body: str


def page(
  title: str,
  subtitle: str,
  sections: Sequence[Section],
  *,
  items: Sequence[str] = (),
) -> str:
  """Returns a page that fetches nothing and runs nothing.

  Its style stands in report.html; a picture has to be a data URI.

  Args:
    title, subtitle: of its head, plain text.
    sections: its parts; the head links to each.
    items: HTML that stands side by side in the head.
  """
  template = resources.files("tier_jax.evaluators") / "report.html"
  return string.Template(template.read_text("utf-8")).substitute(
    title=text(title),
    subtitle=text(subtitle),
    runs="".join(f"<li>{item}</li>" for item in items),
    contents="".join(
      f'<a href="#part{i}">{text(section.title)}</a>'
      for i, section in enumerate(sections)
    ),
    body="\n".join(
      f'<section id="part{i}"><h2>{text(section.title)}</h2>'
      f"{section.body}</section>"
      for i, section in enumerate(sections)
    ),
  )


def text(value: Any) -> str:
  """Returns a value of the data as HTML."""
  return html.escape(str(value))


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
  value, low, high = (
    wording.number(item.get(key), places=places, sign=sign)
    for key in ("value", "low", "high")
  )
  if item.get("low") is None or item.get("high") is None:
    return value
  return f"{value}<i>{low} to {high}</i>"


def p_value(value: float | None) -> str:
  """Returns the HTML of a p-value."""
  return text(wording.p_value(value))


def verdict(line: str, *, good: bool = False) -> str:
  """Returns the HTML of a line (HTML) that a reader should not miss."""
  return f'<p class="verdict{" good" if good else ""}">{line}</p>'


def warnings(lines: Sequence[str]) -> str:
  """Returns the HTML of plain lines that a reader should not miss."""
  return "".join(verdict(text(line)) for line in lines)


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
