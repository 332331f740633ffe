import dataclasses

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax import inference
from tier_jax.explore import index

LEVELS = (0, 30, 60, 90)
TEXTS = ("Left nodule.", "A small effusion.", "left  NODULE", "")


@pytest.fixture
def data(tmp_path):
  """Four images, brighter and brighter; the last has no report."""
  rows = [
    datasets.record(i, level=level, findings=text)
    for i, (level, text) in enumerate(zip(LEVELS, TEXTS, strict=True))
  ]
  lateral = dataclasses.replace(rows[1], view="lateral", image_id="side")
  return datasets.write(
    tmp_path / "some", {"validate": [rows[3], *rows[:3], lateral]}
  )


@pytest.fixture
def model():
  return inference.Model(
    datasets.Encoder(),
    None,
    1,
    "raw",
    "w",
    datasets.RENDERING,  # pyright: ignore
  )


def test_the_nearest_come_first(data, model, tmp_path):
  found = index.load(model, data, None, tmp_path / "kept")
  assert found.name == "some validate"
  assert len(found.vectors.image_embeds) == 3
  near = found.nearest_images(found.vectors.image_embeds[2], 2)
  assert [int(item.image[0, 0]) - 100 for item in near] == [60, 30]
  assert [item.text for item in near] == [TEXTS[2], TEXTS[1]]
  assert near[0].cosine == pytest.approx(1, abs=1e-6)
  assert near[1].cosine < 0.999
  reports = found.nearest_reports(found.vectors.text_embeds[0], 5)
  assert [(item.text, item.studies) for item in reports] == [
    (TEXTS[0], 2),
    (TEXTS[1], 1),
  ]


def test_vectors_are_computed_once(data, model, tmp_path):
  folder = tmp_path / "kept"
  first = index.load(model, data, "validate", folder)
  (path,) = folder.iterdir()
  before = len(model.encoder.batches)
  again = index.load(model, data, "validate", folder)
  assert len(model.encoder.batches) == before
  for name, array in vars(first.vectors).items():
    np.testing.assert_array_equal(getattr(again.vectors, name), array)
  content = path.read_bytes()
  assert b"nodule" not in content.lower() and b"patient" not in content
  path.write_bytes(content[:-30])
  mended = index.load(model, data, "validate", folder)
  np.testing.assert_array_equal(
    mended.vectors.image_embeds, first.vectors.image_embeds
  )
  assert path.read_bytes() == content  # built anew


@pytest.mark.parametrize("changed", ["weights", "data"])
def test_others_have_a_file_of_their_own(data, model, tmp_path, changed):
  folder = tmp_path / "kept"
  index.load(model, data, None, folder)
  if changed == "weights":
    model = dataclasses.replace(model, params_digest="other")
  else:
    manifest = data / "manifest.json"
    text = manifest.read_text()
    manifest.write_text(text.replace('"shards":', '"seen": 1, "shards":'))
  index.load(model, data, None, folder)
  assert len(list(folder.iterdir())) == 2


def test_what_cannot_be_indexed_is_refused(model, tmp_path):
  with pytest.raises(ValueError, match="holds no manifest.json"):
    index.load(model, tmp_path / "gone", None, tmp_path / "kept")
  blank = datasets.write(tmp_path / "blank", {"test": [datasets.record(0)]})
  with pytest.raises(ValueError, match="no image of blank test has a report"):
    index.load(model, blank, None, tmp_path / "kept")
  with pytest.raises(ValueError, match="no records in split 'train'"):
    index.load(model, blank, "train", tmp_path / "kept")
  assert not (tmp_path / "kept").exists()
