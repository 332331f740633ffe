"""Figures of the report page, each as a data URI for an <img>.

matplotlib is used through its object interface: no global state, no display.
"""

import base64
import dataclasses
import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib import figure

from tier_jax.evaluators import heatmaps

RUN_COLOURS = (
  *("#0f766e", "#c2410c", "#4338ca", "#a16207", "#be185d"),
  *("#0284c7", "#4d7c0f", "#7e22ce", "#475569", "#dc2626"),
)
_INK, _GRID = "#475569", "#e2e8f0"
_STYLE: dict[Any, Any] = {
  "svg.hashsalt": "tier-jax",  # equal figures give equal bytes
  "svg.fonttype": "none",
  "font.family": "sans-serif",
  "font.size": 9,
  "text.color": _INK,
  "axes.edgecolor": _GRID,
  "axes.labelcolor": _INK,
  "axes.axisbelow": True,
  "axes.grid": True,
  "axes.spines.top": False,
  "axes.spines.right": False,
  "grid.color": _GRID,
  "grid.linewidth": 0.7,
  "xtick.color": _INK,
  "ytick.color": _INK,
  "xtick.major.size": 0,
  "ytick.major.size": 0,
  "lines.linewidth": 1.7,
}
_MAX_POINTS = 300  # a curve of more is thinned: the eye sees no difference
_TILE = 288  # pixels of a heat-map's side


def run_colour(i: int) -> str:
  """Returns the colour of run number `i`; after ten they come again."""
  return RUN_COLOURS[i % len(RUN_COLOURS)]


@dataclasses.dataclass(frozen=True)
class Line:
  """One line of a chart: label, x (K,), y (K,), colour, and dashed or not."""

  label: str
  x: Sequence[float] | np.ndarray
  y: Sequence[float] | np.ndarray
  colour: str
  dashed: bool = False


def chart(lines: Sequence[Line], *, x_label: str) -> str:
  """Returns an SVG of lines over steps."""
  with mpl.rc_context(_STYLE):
    fig = figure.Figure(figsize=(3.6, 2.4), layout="constrained")
    axes = fig.add_subplot()
    for line in lines:
      x, y = _thin(line.x, line.y)
      axes.plot(
        x,
        y,
        color=line.colour,
        linestyle=(0, (4, 2)) if line.dashed else "-",
        # One point alone is no line: it would not be seen.
        marker="o" if len(x) == 1 else None,
        label=line.label,
        alpha=0.95,
      )
    axes.set_xlabel(x_label)
    axes.margins(x=0.01)
    axes.locator_params(nbins=5)
    if len(lines) > 1:
      fig.legend(
        loc="outside upper left",
        ncols=3,
        frameon=False,
        fontsize=8,
        handlelength=1.6,
        columnspacing=1,
      )
    return _svg(fig)


def roc(curves: Sequence[Line]) -> str:
  """Returns an SVG of ROC curves in the unit square."""
  with mpl.rc_context(_STYLE):
    fig = figure.Figure(figsize=(2.5, 2.5), layout="constrained")
    axes = fig.add_subplot(aspect="equal", xlim=(-0.01, 1), ylim=(0, 1.01))
    axes.plot([0, 1], [0, 1], color="#cbd5e1", linewidth=1)
    for line in curves:
      x, y = _thin(line.x, line.y)
      axes.plot(x, y, color=line.colour, label=line.label)
    axes.set_xticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_yticks([0, 0.5, 1], ["0", "0.5", "1"])
    axes.set_xlabel("1 - specificity")
    axes.set_ylabel("sensitivity")
    axes.legend(loc="lower right", frameon=False, fontsize=8, handlelength=1.2)
    return _svg(fig)


def histogram(counts: Mapping[str, np.ndarray]) -> str:
  """Returns an SVG of histograms over cosine similarity, one a run."""
  with mpl.rc_context(_STYLE):
    fig = figure.Figure(figsize=(6.8, 2.6), layout="constrained")
    axes = fig.add_subplot()
    for i, (name, values) in enumerate(counts.items()):
      colour = run_colour(i)
      edges = np.linspace(-1, 1, len(values) + 1)
      share = values / max(values.sum(), 1)
      axes.stairs(share, edges, fill=True, color=colour, alpha=0.22)
      axes.stairs(share, edges, color=colour, linewidth=1.5, label=name)
    axes.set_xlim(-1, 1)
    axes.set_xlabel("cosine of a report's token with a patch of its image")
    axes.set_ylabel("share")
    axes.legend(frameon=False, fontsize=8)
    return _svg(fig)


def overlay(
  image: np.ndarray,
  similarity: np.ndarray | None = None,
  boxes: np.ndarray | None = None,
) -> np.ndarray:
  """Returns an image, with similarity as colour and boxes outlined, as BGR.

  Args:
    image: (S, S) uint8.
    similarity: (rows, columns) float32; its 1st to 99th percentile spans the
      colours, and low values are transparent.
    boxes: (n, 4) x0, y0, x1, y1 in pixels of the image.

  Returns:
    (288, 288, 3) uint8.
  """
  size = (_TILE, _TILE)
  grey = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
  canvas = np.repeat(grey[..., None], 3, axis=2).astype(np.float32)
  if similarity is not None:
    low, high = np.percentile(similarity, [1, 99])
    level = np.clip((similarity - low) / max(high - low, 1e-6), 0, 1)
    level = cv2.resize(
      level.astype(np.float32), size, interpolation=cv2.INTER_LINEAR
    )
    colour = mpl.colormaps["inferno"](level)[..., 2::-1] * 255  # BGR
    opacity = 0.12 + 0.43 * level[..., None]
    canvas = canvas * (1 - opacity) + colour * opacity
  picture = np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))
  scale = _TILE / image.shape[0]
  for box in boxes if boxes is not None else ():
    x0, y0, x1, y1 = np.clip(np.round(box * scale), 2, _TILE - 3).astype(int)
    for thickness, shade in ((4, (30, 30, 30)), (2, (160, 255, 90))):
      cv2.rectangle(
        picture,
        (int(x0), int(y0)),
        (int(x1), int(y1)),
        shade,
        thickness,
        cv2.LINE_AA,
      )
  return picture


def tile(
  image: np.ndarray,
  similarity: np.ndarray | None = None,
  boxes: np.ndarray | None = None,
) -> str:
  """Returns what `overlay` does, as a JPEG."""
  picture = overlay(image, similarity, boxes)
  _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
  return _uri("image/jpeg", data.tobytes())


def sheet(maps: heatmaps.Heatmaps) -> np.ndarray:
  """Returns all images of `maps` beside what their sentences point to.

  Returns:
    (H, W, 3) uint8 RGB: a row of images, with their boxes, over a row of maps.
  """
  columns = []
  for k, image in enumerate(maps.images):
    boxes = maps.boxes[maps.box_image == k]
    columns.append(
      np.concatenate(
        [
          overlay(image, boxes=boxes),
          overlay(image, maps.phrase_maps[k], boxes),
        ]
      )
    )
  return np.concatenate(columns, axis=1)[..., ::-1]


def _thin(x, y) -> tuple[np.ndarray, np.ndarray]:
  x, y = np.asarray(x), np.asarray(y)
  if len(x) <= _MAX_POINTS:
    return x, y
  keep = np.unique(np.linspace(0, len(x) - 1, _MAX_POINTS).astype(int))
  return x[keep], y[keep]


def _svg(fig: figure.Figure) -> str:
  buffer = io.BytesIO()
  fig.savefig(buffer, format="svg", metadata={"Date": None}, transparent=True)
  return _uri("image/svg+xml", buffer.getvalue())


def _uri(kind: str, data: bytes) -> str:
  return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
