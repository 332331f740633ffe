"""Pieces of an HTML page: tiles, charts, bars, tables.

All of them escape what comes from data, but for what a caller has already
made into markup: the rows and the head of a table.
"""

import base64
import html
import math
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from tier_jax.data import records

COLOURS = ("#0f766e", "#c2410c", "#4338ca")  # of splits, views
ACCENT = COLOURS[0]
BLANK = "#e2e8f0"  # as the empty part of a bar
ID_DIGITS = 16  # enough to find an id by


def tile(
  record: records.Record, side: int, caption: str, outlined: bool = False
) -> str:
  """Returns a picture with a caption; the pointer shows what it is.

  Args:
    record: to show.
    side: pixels of the picture's longer side, at most.
    caption: below it.
    outlined: with boxes and masks.
  """
  uri, text = _picture(record, side, outlined), describe(record)
  return (
    f'<div title="{text}"><div class="frame"><img src="{uri}" alt="{text}" '
    f'loading="lazy"></div>{html.escape(caption)}</div>'
  )


def chart(
  title: str,
  edges: np.ndarray,
  series: Sequence[tuple[str, str, np.ndarray]],
  top: float | None = None,
) -> str:
  """Returns a figure of step curves.

  Args:
    title: of the figure.
    edges: (n + 1,) of the columns, ascending.
    series: name, colour and (n,) heights, which are shares.
    top: where the vertical axis ends, the largest height if None or 0.
  """
  width, height, left, right, bottom, above = 360, 190, 40, 10, 22, 8
  top = top or max(float(heights.max()) for _, _, heights in series)
  low, high = float(edges[0]), float(edges[-1])

  def x(value: float) -> float:
    share = (value - low) / (high - low)
    return round(left + share * (width - left - right), 1)

  def y(value: float) -> float:
    share = min(value / top, 1)
    return round(height - bottom - share * (height - bottom - above), 1)

  marks = []
  for tick in _ticks(0, top):
    marks.append(
      f'<line x1="{left}" x2="{width - right}" y1="{y(tick)}" y2="{y(tick)}" '
      f'stroke="#e2e8f0"/><text x="{left - 6}" y="{y(tick) + 3.5}" '
      f'text-anchor="end">{100 * tick:.4g} %</text>'
    )
  marks += [
    f'<text x="{x(tick)}" y="{height - 6}" text-anchor="middle">{tick:.4g}'
    "</text>"
    for tick in _ticks(low, high)
  ]
  for _, colour, heights in series:
    points = [f"{x(low)},{y(0)}"]
    for start, end, value in zip(edges[:-1], edges[1:], heights, strict=True):
      points += [f"{x(start)},{y(value)}", f"{x(end)},{y(value)}"]
    points.append(f"{x(high)},{y(0)}")
    marks.append(
      f'<polygon points="{" ".join(points)}" fill="{colour}" '
      f'fill-opacity=".1" stroke="{colour}" stroke-width="1.5"/>'
    )
  return (
    f"<figure><figcaption>{html.escape(title)}</figcaption>"
    f'<svg viewBox="0 0 {width} {height}" role="img">{"".join(marks)}</svg>'
    f"{legend((name, colour) for name, colour, _ in series)}</figure>"
  )


def bar(parts: Iterable[tuple[int, str]], total: int) -> str:
  """Returns a bar of coloured parts; what they leave of the total is empty."""
  pieces = "".join(
    f'<i style="width:{100 * count / max(total, 1):.2f}%;background:{colour}">'
    "</i>"
    for count, colour in parts
    if count
  )
  return f'<div class="bar">{pieces}</div>'


def legend(entries: Iterable[tuple[str, str]]) -> str:
  """Returns a line of (text, colour) entries."""
  lines = "".join(
    f'<span><span class="dot" style="background:{colour}"></span>'
    f"{html.escape(text)}</span>"
    for text, colour in entries
  )
  return f'<div class="legend">{lines}</div>'


def table(head: str, rows: Iterable[str]) -> str:
  """Returns a table of `<th>` cells and `<tr>` rows."""
  return (
    f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>'
    f"{''.join(rows)}</tbody></table></div>"
  )


def share(count: int, total: int) -> str:
  """Returns "1 of 3 (33.3%)"."""
  return f"{count:,} of {total:,} ({count / max(total, 1):.1%})"


def describe(record: records.Record) -> str:
  """Returns the id's first digits, view, sex, age band and size, escaped."""
  height, width = record.image.shape
  parts = (
    record.image_id[:ID_DIGITS],
    record.view,
    record.sex,
    record.age_band,
    f"{width} x {height}",
  )
  return html.escape(", ".join(part for part in parts if part))


def _picture(record: records.Record, side: int, outlined: bool) -> str:
  """Returns a JPEG as a data URI, its longer side at most `side` pixels."""
  image = record.image
  scale = side / max(image.shape)
  if not outlined:  # enlarged only so that lines keep their width
    scale = min(scale, 1.0)
  height, width = (max(1, round(n * scale)) for n in image.shape)
  way = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
  canvas = cv2.resize(image, (width, height), interpolation=way)
  if outlined:
    canvas = cv2.cvtColor(canvas, cv2.COLOR_GRAY2BGR)
    for _, mask in record.masks:
      small = cv2.resize(mask.astype(np.uint8), (width, height))
      contours, _ = cv2.findContours(
        small, cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE
      )
      cv2.drawContours(canvas, contours, -1, (22, 145, 255), 2, cv2.LINE_AA)
    for _, box in record.boxes:
      x0, y0, x1, y1 = (round(value * scale) for value in box)
      for thickness, shade in ((4, (30, 30, 30)), (2, (160, 255, 90))):
        cv2.rectangle(canvas, (x0, y0), (x1, y1), shade, thickness)
  _, data = cv2.imencode(".jpg", canvas, [cv2.IMWRITE_JPEG_QUALITY, 82])
  text = base64.b64encode(data.tobytes()).decode("ascii")
  return f"data:image/jpeg;base64,{text}"


def _ticks(low: float, high: float) -> list[float]:
  """Returns three to six round numbers between the two."""
  rough = (high - low) / 4
  power = 10 ** math.floor(math.log10(rough))
  step = next(
    factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough
  )
  first = math.ceil(low / step - 1e-9)
  return [n * step for n in range(first, math.floor(high / step + 1e-9) + 1)]
