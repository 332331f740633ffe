import numpy as np
import pytest

from tier_jax.evaluators import prompts
from tier_jax.explore import explorer, index, markup

HOSTILE = '<img src=x onerror="alert(1)">\'&'
ASKED = prompts.Prompts((HOSTILE,), ("No.",))


def test_texts_stay_texts():
  picture = np.zeros((8, 8, 3), np.uint8)
  near = [index.Neighbour(0.5, picture[..., 0], HOSTILE, 2)]
  parts = [
    markup.message(HOSTILE, bad=True),
    markup.viewer(picture, HOSTILE, np.zeros((2, 2), np.float32)),
    markup.scores([explorer.Score(HOSTILE, ASKED, 0.1, 0.25)], HOSTILE),
    markup.neighbours(near, near, HOSTILE),
  ]
  for part in parts:
    assert "onerror=&quot;" in part
    assert "<img src=x" not in part and 'onerror="' not in part


def test_scores_stand_in_order_with_bars_from_the_middle():
  found = [
    explorer.Score(name, ASKED, value, None)
    for name, value in (("low", -0.4), ("high", 0.2), ("none", -0.001))
  ]
  text = markup.scores(found, "")
  assert text.index("high") < text.index("none") < text.index("low")
  assert 'class="plus" style="left:50.0%;width:25.0%"' in text
  assert 'class="minus" style="left:0.0%;width:50.0%"' in text
  assert "share of" not in text and "<small>" not in text
  assert "12%" in markup.scores([explorer.Score("a", ASKED, 0, 0.12)], "b")


@pytest.mark.parametrize(
  ("value", "text"),
  [(0.126, "+0.13"), (-0.5, "\u22120.50"), (-0.001, "0.00"), (0, "0.00")],
)
def test_numbers(value, text):
  assert markup.number(value) == text
