"""The page of a search: all trials, the best first, nothing fetched."""

import base64
import re
from xml.etree import ElementTree

import pytest

from tier_jax.sweep import page


def row(trial, token, score):
  return {
    "trial": trial,
    "token_entropy_weight": token,
    "patch_entropy_weight": 0.1,
    "score": score,
    "step": 40,
    "metric": "valid/<b>/macro_auroc",
  }


@pytest.mark.parametrize("count", [1, 3])
def test_a_page_has_the_trials_and_their_figures(count):
  rows = [row(0, 0.0, 0.61), row(1, 0.4, 0.75), row(4, 0.2, 0.7)][:count]
  text = page.render(rows, 8)
  assert f"{count} of 8 trials" in text
  assert "valid/&lt;b&gt;/macro_auroc" in text
  assert "<b>" not in text
  scores = [cell for cell in re.findall("<td>(.*?)</td>", text) if "0." in cell]
  best = sorted((r["score"] for r in rows), reverse=True)
  assert [s for s in scores if len(s) == 6] == [f"{s:.4f}" for s in best]
  assert text.count("<tr>") == 1 + count
  assert text.index("Weights and scores") < text.index("the best first")
  assert "not for clinical use" in text
  images = re.findall('<img src="data:image/svg.xml;base64,(.*?)"', text)
  assert len(images) == 3
  for image in images:
    ElementTree.fromstring(base64.b64decode(image))  # noqa: S314 - our own
  assert not re.search("(src|href)=.?http", text)
