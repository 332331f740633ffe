import dataclasses

import numpy as np
import pytest
from PIL import Image

from tests.evaluators import datasets
from tier_jax import inference
from tier_jax.data import transforms
from tier_jax.evaluators import prompts
from tier_jax.explore import explorer, index

ASKED = prompts.parse(["Edema", "Pneumothorax"])


class Encoder(datasets.Encoder):
  def in_batches_of(self, batch_size):
    return self


@pytest.fixture(scope="module")
def explore():
  model = inference.Model(
    Encoder(),
    None,
    1,
    "raw",
    "",
    datasets.RENDERING,  # pyright: ignore
  )
  return explorer.Explorer(model)


@pytest.fixture(scope="module")
def image():
  """The left half is bright."""
  pixels = np.full((50, 40), 100, np.uint8)
  pixels[:, :20] = 190
  return pixels


@pytest.fixture(scope="module")
def opened(explore, image, tmp_path_factory):
  path = tmp_path_factory.mktemp("in") / "a.png"
  Image.fromarray(image).save(path)
  return explore.open(path)


def test_an_opened_image_is_scored_as_the_model_scores_it(
  explore, opened, image
):
  np.testing.assert_array_equal(opened.preview, image)
  found = explore.score(opened, ASKED)
  assert [item.finding for item in found] == list(ASKED)
  assert [item.prompts for item in found] == list(ASKED.values())
  want = explore.model.score(image, ASKED)[0]
  np.testing.assert_allclose([item.value for item in found], want, atol=1e-6)
  assert {item.rank for item in found} == {None}


@pytest.mark.parametrize("against", [(), ("No effusion.",)])
def test_the_map_is_the_models_own(explore, opened, image, against):
  got = explore.similarity(opened, "An effusion.", *against)
  want = explore.model.similarity_map(image, "An effusion.", against)
  on_pixels = transforms.eval_map(got, image.shape, 16)
  np.testing.assert_allclose(on_pixels, want, atol=1e-6)
  assert got.shape == (4, 4) and np.ptp(got) > 0.1


def test_sentences_are_embedded_once(explore, opened):
  explore.score(opened, ASKED)
  explore.similarity(opened, "An effusion.")
  before = len(explore.model.encoder.texts)
  explore.score(opened, ASKED)
  explore.similarity(opened, "An effusion.")
  assert len(explore.model.encoder.texts) == before
  explore.similarity(opened, "An effusion.", "None.")
  assert len(explore.model.encoder.texts) == before + 1


@pytest.mark.parametrize(
  ("name", "reason"),
  [("a.dcm", "dicom:not_dicom"), ("a", "image:not_an_image")],
)
def test_what_is_no_image_is_refused(explore, tmp_path, name, reason):
  path = tmp_path / name
  path.write_bytes(b"of a PATIENT")
  with pytest.raises(ValueError, match=reason) as error:
    explore.open(path)
  assert "PATIENT" not in str(error.value)


def test_ranks_are_shares_of_the_index_that_score_lower(explore, opened):
  direction = np.diff(explore.model.embed_classes(ASKED), axis=0)[0]
  own = float(opened.image_embed @ direction[0])
  angles = np.linspace(-np.pi, np.pi, 101)
  others = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
  nothing = np.zeros(0, np.int64)
  vectors = index.Vectors(others, nothing, others, nothing, nothing)
  indexed = explorer.Explorer(
    explore.model,
    index.Index("a", vectors, None),  # pyright: ignore
  )
  want = np.mean([float(-(x @ direction[0])) < -own for x in others])
  (got, _) = indexed.score(opened, ASKED)
  assert got.rank == pytest.approx(want) and 0 < want < 1


def test_pictures(explore, opened, image):
  show = explorer.Display()
  alone = explore.draw(opened, None, show)
  np.testing.assert_array_equal(alone, image[..., None].repeat(3, axis=2))
  similarity = explore.similarity(opened, "An effusion.")
  faint, full = (
    explore.draw(opened, similarity, dataclasses.replace(show, opacity=share))
    for share in (0.1, 1.0)
  )
  np.testing.assert_array_equal(
    explore.draw(opened, similarity, dataclasses.replace(show, opacity=0.0)),
    alone,
  )
  change = [np.abs(x.astype(int) - alone).mean() for x in (faint, full)]
  assert 0 < 5 * change[0] < change[1]
  assert (full[:2] == alone[:2]).all()  # outside of what the model sees


def test_the_window_spreads_grey_levels():
  image = np.arange(256, dtype=np.uint8)[None]
  np.testing.assert_array_equal(explorer.window(image, 128, 256), image)
  half = explorer.window(image, 64, 128)
  assert half[0, 0] == 0 and half[0, 64] == pytest.approx(128, abs=1)
  assert (half[0, 127:] >= 254).all()
  step = explorer.window(image, 100, 0)
  assert (step[0, :99] == 0).all() and (step[0, 101:] == 255).all()


def test_findings_are_written_and_read():
  asked = prompts.parse(
    {
      "a": {"positive": ["A.", "Aa -b."], "negative": ["No a."]},
      "b + c": {"positive": ["B."], "negative": ["No b."]},
    }
  )
  assert explorer.parse_findings(explorer.format_findings(asked)) == asked
  typed = " Edema \n\nmine\n+ Mine is there.\n-None of mine.\n"
  assert explorer.parse_findings(typed) == {
    "Edema": prompts.for_label("Edema"),
    "mine": prompts.Prompts(("Mine is there.",), ("None of mine.",)),
  }


@pytest.mark.parametrize(
  ("text", "words"),
  [
    ("\n", "prompts are empty"),
    ("+ A.\nEdema", "'+ A.' stands above all findings"),
    ("Edema\nmine\n+ A.", "prompts of 'mine' are not as expected"),
    ("mine\n+ A.\n- ", "prompts of 'mine' are not as expected"),
    ("Edema\nEdema", "finding 'Edema' stands twice"),
    ("...", "label '...' is empty"),
  ],
)
def test_findings_that_cannot_be_scored_are_refused(text, words):
  with pytest.raises(ValueError) as error:
    explorer.parse_findings(text)
  assert words in str(error.value)
