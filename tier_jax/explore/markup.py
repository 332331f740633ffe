"""What the page shows, as HTML: everything that is text is escaped."""

import base64
import html
from collections.abc import Sequence

import cv2
import numpy as np

from data_prep import images
from tier_jax.evaluators import prompts
from tier_jax.explore import explorer, index

_THUMBNAIL_SIDE = 256  # pixels of its shorter side, at most

NOTHING = '<div class="viewer empty"><p>No image yet</p></div>'
DISPLAY_NOTE = (
  '<p class="note">These change the picture alone. The model sees the part '
  "under colours, at the window of the file.</p>"
)
HEADER = """
<div class="top"><h1>TIER explorer</h1>
<p>What an image-text model sees in a chest x-ray. Images stay on this machine.
<b>Research software, not for clinical use.</b></p></div>
"""


def message(text: str, *, bad: bool = False) -> str:
  """Returns a line that says what happened; "" for an empty one."""
  kind = "bad" if bad else "good"
  role = "alert" if bad else "status"
  escaped = html.escape(text)
  return f'<p class="said {kind}" role="{role}">{escaped}</p>' if text else ""


def viewer(
  picture: np.ndarray, about: str, similarity: np.ndarray | None = None
) -> str:
  """Returns an image, and the scale of its colours.

  Args:
    picture: (H, W, 3) uint8 BGR.
    about: what is seen, for those who do not see it and below the image.
    similarity: the map whose 1st to 99th percentile spans the colours.
  """
  scale = ""
  if similarity is not None:
    low, high = np.percentile(similarity, [1, 99])
    scale = f'<span class="scale">{number(low)}<i></i>{number(high)}</span>'
  about = html.escape(about)
  return (
    f'<figure class="viewer"><img src="{_source(picture, ".png")}" '
    f'alt="{about}"><figcaption>{scale}<span>{about}</span></figcaption>'
    "</figure>"
  )


def scores(found: Sequence[explorer.Score], index_name: str) -> str:
  """Returns a bar a finding, highest score first, with its sentences within.

  Args:
    found: what an image got.
    index_name: of what ranks refer to; "" without ranks.
  """
  reach = max([abs(item.value) for item in found] + [0.05])
  note = (
    "Cosine with sentences that state a finding less that with those that deny "
    "it. It orders images and is no probability"
  )
  if index_name:
    note += (
      f"; the second figure is the share of {html.escape(index_name)} that "
      "scores lower"
    )
  rows = "".join(
    _score(item, reach) for item in sorted(found, key=lambda item: -item.value)
  )
  return f'<div class="scores">{rows}<p class="note">{note}.</p></div>'


def _score(item: explorer.Score, reach: float) -> str:
  start, end = sorted((0.0, item.value / reach))
  side = "plus" if item.value > 0 else "minus"
  rank = "" if item.rank is None else f"<small>{item.rank:.0%}</small>"
  return (
    f"<details><summary><b>{html.escape(item.finding)}</b>"
    f'<span class="bar"><i class="{side}" style="left:{50 + 50 * start:.1f}%;'
    f'width:{50 * (end - start):.1f}%"></i></span>'
    f"<span>{number(item.value)}</span>{rank}</summary>"
    f"{_sentences(item.prompts)}</details>"
  )


def _sentences(asked: prompts.Prompts) -> str:
  sides = (("Stated by", asked.positive), ("Denied by", asked.negative))
  return "".join(
    f"<p>{name}</p><ul>"
    + "".join(f"<li>{html.escape(text)}</li>" for text in sentences)
    + "</ul>"
    for name, sentences in sides
  )


def neighbours(
  reports: Sequence[index.Neighbour],
  images_: Sequence[index.Neighbour],
  index_name: str,
) -> str:
  """Returns the nearest reports and images, side by side."""
  name = html.escape(index_name)
  cards = []
  for item in reports:
    more = f", {item.studies} studies" if item.studies > 1 else ""
    cards.append(
      f'<div class="report"><small>{number(item.cosine)}{more}</small>'
      f"<p>{html.escape(item.text)}</p></div>"
    )
  pictures = "".join(
    f'<figure><img src="{_thumbnail(item.image)}" alt="An image of {name}">'
    f"<figcaption><small>{number(item.cosine)}</small>"
    f'<p title="{html.escape(item.text)}">{html.escape(item.text)}</p>'
    "</figcaption></figure>"
    for item in images_
  )
  return (
    f'<div class="near"><h2>Nearest in {name}</h2>'
    f'<h3>Reports</h3><div class="reports">{"".join(cards)}</div>'
    f'<h3>Images</h3><div class="images">{pictures}</div></div>'
  )


def number(value: float) -> str:
  """Returns it with a sign and two decimals; nothing is negative zero."""
  text = f"{value:+.2f}"
  return "0.00" if float(text) == 0 else text.replace("-", "\u2212")


def _thumbnail(image: np.ndarray) -> str:
  return _source(images.shrink(image, _THUMBNAIL_SIDE), ".jpg")


def _source(picture: np.ndarray, suffix: str) -> str:
  """Returns an image within the page, so that no file is written."""
  _, data = cv2.imencode(suffix, picture)
  kind = {".png": "png", ".jpg": "jpeg"}[suffix]
  text = base64.b64encode(data.tobytes()).decode("ascii")
  return f"data:image/{kind};base64,{text}"
