import csv

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.evaluators import datasets
from tier_jax import inference, predict
from tier_jax.evaluators import overlays, prompts

ASKED = prompts.parse(["Edema", "Mass / Nodule"])


class Encoder(datasets.Encoder):
  """As it is, but it says in what batches it was asked for, and may end."""

  sizes = ()
  ends_after = 10**9

  def in_batches_of(self, batch_size):
    self.sizes = (*self.sizes, batch_size)
    return self

  def embed_image_vectors(self, images):
    if len(self.batches) >= self.ends_after:
      raise KeyboardInterrupt
    return self.embed_images(images)[0]


@pytest.fixture
def model():
  return inference.Model(Encoder(), None, 1, "raw", "", datasets.RENDERING)


@pytest.fixture
def paths(tmp_path):
  """Five images, brighter and brighter, with a broken one and none between."""
  found = {}
  for i, name in enumerate(["a", "b", "broken", "c", "gone", "d", "e"]):
    path = tmp_path / "in" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    pixels = np.full((40, 32), 100, np.uint8)
    pixels[:, :16] += np.uint8(10 * i + 1)
    if name == "broken":
      path.write_bytes(b"no image")
    elif name != "gone":
      Image.fromarray(pixels).save(path)
    found[str(path)] = f"=name {name}, as given\udcff"
  return found


def _rows(path):
  with path.open(encoding="utf-8", errors="surrogateescape", newline="") as f:
    return list(csv.reader(f))


def test_each_file_has_a_row(model, paths, tmp_path):
  output = tmp_path / "new" / "scores.csv"
  counts = predict.predict(model, paths, ASKED, output)
  reasons = {2: "image:not_an_image", 4: "image:missing"}
  assert counts == predict.Counts(5, dict.fromkeys(reasons.values(), 1))
  head, *rows = _rows(output)
  assert head == ["path", "status", "notes", "Edema", "Mass / Nodule"]
  assert [row[0] for row in rows] == list(paths.values())
  scores = []
  for i, (row, path) in enumerate(zip(rows, paths, strict=True)):
    assert row[1] == reasons.get(i, "ok")
    if i in reasons:
      assert row[3:] == ["", ""]
      continue
    scores.append([np.float32(cell) for cell in row[3:]])
    image = np.asarray(Image.open(path))
    np.testing.assert_allclose(
      scores[-1], model.score(image, ASKED)[0], atol=1e-6
    )
  ordered = np.sort(np.array(scores), axis=0)
  np.testing.assert_array_equal(scores, ordered)  # brighter and brighter
  assert len(np.unique(ordered[:, 0])) == 5
  assert [path.name for path in output.parent.iterdir()] == ["scores.csv"]


def test_a_batch_is_no_larger_than_need_be(model, paths, tmp_path, monkeypatch):
  predict.predict(model, paths, ASKED, tmp_path / "scores.csv")
  assert model.encoder.sizes[0] == 8
  assert model.encoder.batches == [5]
  monkeypatch.setattr(inference, "BATCH_SIZE", 2)
  predict.predict(model, paths, ASKED, tmp_path / "scores.csv")
  assert model.encoder.batches[1:] == [2, 1, 1, 1]


def test_what_is_done_stays_when_the_work_is_ended(
  model, paths, tmp_path, monkeypatch
):
  monkeypatch.setattr(inference, "BATCH_SIZE", 2)
  model.encoder.ends_after = 2
  output = tmp_path / "scores.csv"
  output.write_text("of an earlier run")
  with pytest.raises(KeyboardInterrupt):
    predict.predict(model, paths, ASKED, output)
  assert output.read_text() == "of an earlier run"
  rows = _rows(tmp_path / "scores.csv.part")
  assert [row[0] for row in rows[1:]] == list(paths.values())[:4]


def test_heat_maps_lie_over_the_whole_picture(model, paths, tmp_path):
  folder = tmp_path / "maps"
  output = tmp_path / "scores.csv"
  predict.predict(model, paths, ASKED, output, folder)
  assert sorted(path.name for path in folder.iterdir()) == [
    f"{row:06d}_{name}.png"
    for row in (1, 2, 4, 6, 7)
    for name in ("01_Edema", "02_Mass_Nodule")
  ]
  plain = tmp_path / "plain.csv"
  predict.predict(model, paths, ASKED, plain)
  assert output.read_bytes() == plain.read_bytes()
  # Colour in the crop alone, warmest on the bright half.
  picture = cv2.imread(str(folder / "000007_01_Edema.png")).astype(int)
  assert picture.shape == (40, 32, 3)
  colour = picture.max(axis=2) - picture.min(axis=2)
  assert (colour[:5] == 0).all() and (colour[:, :1] == 0).all()
  red = picture[..., 2] - picture[..., 0]
  assert red[8:32, 4:12].min() > red[8:32, 20:28].max()


def test_colours_leave_alone_what_is_not_a_number():
  image = np.full((4, 6), 80, np.uint8)
  level = np.linspace(0, 1, 6, dtype=np.float32) * np.ones((4, 1), np.float32)
  level[0] = np.nan
  picture = overlays.paint(image, level)
  assert (picture[0] == 80).all()
  assert (np.diff(picture[1].astype(int).sum(axis=1)) > 0)[2:].all()


def test_a_label_cannot_be_a_column_of_the_tables_own(model, paths, tmp_path):
  with pytest.raises(ValueError, match="a label 'notes', which is a column"):
    predict.predict(
      model, paths, prompts.parse(["notes"]), tmp_path / "scores.csv"
    )
  assert not (tmp_path / "scores.csv.part").exists()
