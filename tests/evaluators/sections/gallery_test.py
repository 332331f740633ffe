import base64
import dataclasses
import json
import re

import cv2
import numpy as np
import pytest

from tests.evaluators import made_runs
from tier_jax.evaluators import digests, heatmaps
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.sections import gallery


def maps(*, size=32, count=2, finding="Edema"):
  return heatmaps.Heatmaps(
    images=np.full((count, size, size), 90, np.uint8),
    findings=np.array([finding] * count),
    phrases=np.array(["There is <b>edema</b>."] * count),
    # The right half of every image, in its own pixels.
    boxes=np.array([[size / 2, 0, size, size]] * count, np.float32),
    box_image=np.arange(count),
    phrase_maps=np.linspace(-0.001, 0.4, count * 16, dtype=np.float32).reshape(
      count, 4, 4
    ),
    words=np.array([["edema", ""]] * count),
    word_maps=np.zeros((count, 2, 4, 4), np.float32),
  )


@pytest.fixture
def made(tmp_path):
  def make(name, drawn):
    directory = tmp_path / name
    directory.mkdir()
    run = made_runs.make(name)
    files = {}
    if drawn is not None:
      drawn.save(directory / runs_lib.HEATMAPS)
      files[runs_lib.HEATMAPS] = digests.of_file(directory / runs_lib.HEATMAPS)
    metrics = json.loads(json.dumps(run.metrics)) | {"files": files}
    return dataclasses.replace(run, directory=directory, metrics=metrics)

  return make


def outlined(text):
  """Returns where the outline lies in each picture of an image, None if not.

  That is its first and last column of the picture's 288.
  """
  found = []
  for uri in re.findall(r'src="data:[^"]*base64,([^"]*)" alt="image"', text):
    data = np.frombuffer(base64.b64decode(uri), np.uint8)
    picture = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)
    green = picture[..., 1] - picture[..., 2] > 60
    columns = np.flatnonzero(green.any(axis=0))
    found.append((columns.min(), columns.max()) if len(columns) else None)
  return found


def test_runs_that_show_the_same_cases_share_a_block(made):
  runs = [made("a", maps()), made("b", maps()), made("without", None)]
  (section,) = gallery.render(runs)
  assert section.body.count('class="case"') == 2
  assert section.body.count("<h4>") == 4
  assert "without</h4>" not in section.body
  assert "same size" not in section.body
  # The outline stands once a block.
  assert [box is None for box in outlined(section.body)] == [False, True] * 2
  assert "&lt;b&gt;edema" in section.body and "<b>edema" not in section.body
  assert "+0.00 to" in section.body and "-0.00" not in section.body


@pytest.mark.parametrize(
  "other", [maps(size=128), maps(count=1), maps(finding="Mass")]
)
def test_other_cases_have_blocks_and_boxes_of_their_own(made, other):
  runs = [made("a", maps()), made("b", other)]
  (section,) = gallery.render(runs)
  blocks = 2 + len(other.images)
  assert section.body.count('class="case"') == blocks
  assert section.body.count("<h4>") == blocks
  assert "not shown the same images at the same size" in section.body
  for box in outlined(section.body):
    np.testing.assert_allclose(box, (144, 286), atol=4)


def test_no_run_with_maps_gives_no_section(made):
  assert gallery.render([made("a", None)]) == []
