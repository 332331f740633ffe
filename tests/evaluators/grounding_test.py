"""Scores of a model that sees, of one that does not, and of the priors."""

import dataclasses

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import (
  grounding,
  grounding_metrics,
  grounding_scores,
  location_prior,
  prompts,
)

LEFT, RIGHT = (2.0, 10.0, 10.0, 20.0), (22.0, 10.0, 30.0, 20.0)
PLACES = {"Edema": (LEFT, RIGHT), "Pneumothorax": (LEFT,), "Mass": (RIGHT,)}


class Seeing:
  """The cosine of any text with a patch is the patch's brightness."""

  image_size = 16
  grid = (4, 4)

  def embed_images(self, images):
    patches = images.reshape(len(images), 4, 4, 4, 4).mean(axis=(2, 4)) / 255
    bright = patches.reshape(len(images), 16).astype(np.float32)
    embeds = np.stack([bright, np.sqrt(1 - bright**2)], axis=-1)
    return embeds.mean(axis=1), embeds

  def embed_patches(self, images):
    # Of other norms, which count in the contrast alone.
    _, embeds = self.embed_images(images)
    return embeds * (1 + embeds[..., :1])

  def embed_image_vectors(self, images):
    return self.embed_images(images)[0]

  def embed_texts(self, texts):
    across = np.tile(np.array([1, 0], np.float32), (len(texts), 1))
    # The second token counts, the first points the other way.
    tokens = np.stack([-across, across], axis=1)
    mask = np.tile([False, True], (len(texts), 1))
    return datasets.Texts(across, tokens, mask, [["[CLS]", "x"]] * len(texts))


class Denying(Seeing):
  """Sentences that deny a finding are as near to dark patches."""

  def embed_texts(self, texts):
    found = super().embed_texts(texts)
    denials = {t for n in PLACES for t in prompts.for_label(n).negative}
    denies = np.array([text in denials for text in texts])
    vectors = np.where(denies[:, None], [[0, 1]], found.text_embeds)
    return dataclasses.replace(found, text_embeds=vectors.astype(np.float32))


class Blind(Seeing):
  """All patches alike."""

  def embed_images(self, images):
    return super().embed_images(np.zeros_like(images))


def _row(patient, finding):
  """An image that is bright where the finding is."""
  record = datasets.record(
    patient, boxes=tuple((finding, box) for box in PLACES[finding])
  )
  pixels = record.image.copy()
  for x0, y0, x1, y1 in PLACES[finding]:
    pixels[int(y0) : int(y1), int(x0) : int(x1)] = 250
  return dataclasses.replace(record, image=pixels)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  names = ["Edema", "Pneumothorax", "Edema", "Mass", "Edema", "Pneumothorax"]
  return datasets.write(
    tmp_path_factory.mktemp("data") / "mimic_cxr",
    {
      "train": [datasets.record(20)],
      "validate": [_row(10, "Edema"), _row(11, "Pneumothorax")],
      "test": [datasets.record(9), *map(_row, range(6), names)],
    },
  )


def _evaluate(encoder, directory, tmp_path, split="test"):
  return grounding.evaluate(
    encoder, directory, split, tmp_path / "grounding.csv", num_resamples=200
  )


def test_a_model_that_sees_beats_chance_and_ties_a_perfect_prior(
  directory, tmp_path
):
  part = _evaluate(Seeing(), directory, tmp_path)
  assert part is not None
  assert part["split"] == "test"
  assert part["prior_from"] == "validate"
  assert part["prior_rows"] == {"Edema": 1, "Pneumothorax": 1}
  seen = part["maps"]["phrase"]
  assert seen["rows"] == 6
  assert seen["macro"]["pointing_game"] == {"value": 1, "low": 1, "high": 1}
  assert seen["macro"]["cnr"]["value"] > 1
  assert seen["findings"]["Edema"]["rows"] == 3
  assert set(seen["macro"]) == set(grounding_metrics.METRICS)
  assert set(seen["findings"]["Edema"]) == {"rows", *grounding_metrics.SUMMARY}
  # The mean over counted tokens, here one.
  assert part["maps"]["token"] == seen
  # Every finding lies where validate's did; Mass was not there.
  assert part["prior"]["rows"] == 5
  assert part["prior"]["findings"]["Mass"] == {
    "rows": 0,
    **dict.fromkeys(grounding_metrics.SUMMARY),
  }
  for metric in ("pointing_game", "miou", "dice"):
    assert part["prior"]["macro"][metric]["value"] == 1
  assert part["prior"]["macro"]["cnr"]["value"] == pytest.approx(10)
  assert part["against_prior"]["pointing_game"]["value"] == 0
  assert part["against_prior"]["miou"]["high"] < 0
  assert part["token_against_prior_of_phrase"] == part["against_prior"]
  share = part["random"]["macro"]["pointing_game"]["value"]
  assert 0.05 < share < 0.3


def test_what_the_denial_shares_with_the_phrase_does_not_count(
  directory, tmp_path
):
  blind, seeing, denying = (
    _evaluate(model, directory, tmp_path)
    for model in (Blind(), Seeing(), Denying())
  )

  def pointing(part, name):
    assert part is not None
    return part["maps"][name]["macro"]["pointing_game"]

  # The same vector for both says nothing; only their difference points.
  assert pointing(seeing, "contrast") == pointing(blind, "phrase")
  assert pointing(denying, "contrast") == pointing(denying, "phrase")
  assert pointing(denying, "contrast")["value"] == 1


def test_a_blind_model_scores_chance(directory, tmp_path):
  part = _evaluate(Blind(), directory, tmp_path)
  assert part is not None
  blind, chance = part["maps"]["phrase"]["macro"], part["random"]["macro"]
  # The centres of 16 patches stand for the area: 1/16 more or less.
  assert blind["pointing_game"]["value"] == pytest.approx(
    chance["pointing_game"]["value"], abs=1 / 16
  )
  assert blind["cnr"]["value"] == 0
  assert part["against_prior"]["pointing_game"]["high"] < 0


def test_macro_is_the_mean_over_findings(directory, tmp_path):
  _evaluate(Seeing(), directory, tmp_path)
  scores = grounding_scores.read(tmp_path / "grounding.csv")
  column = grounding_metrics.METRICS.index("miou")
  names = np.array(scores.findings)

  def mean(values, findings):
    means = [values[names == name, column].mean() for name in findings]
    return pytest.approx(np.mean(means), rel=1e-12)

  # Mass has no prior, and would count in some of the maps alone.
  part = grounding_scores.summarise(scores, num_resamples=50)
  assert part["without_prior"] == ["Mass"]
  for name, item in {**part["maps"], **part}.items():
    if name in grounding_scores.MAPS:
      macro = item["macro"]["miou"]["value"]
      assert macro == mean(scores.values[name], ("Edema", "Pneumothorax"))
  phrase = part["maps"]["phrase"]
  assert phrase["findings"]["Mass"]["miou"]["value"] == mean(
    scores.values["phrase"], ["Mass"]
  )
  own, prior = phrase["macro"]["dice"], part["prior"]["macro"]["dice"]
  assert part["against_prior"]["dice"]["value"] == pytest.approx(
    own["value"] - prior["value"], abs=1e-12
  )

  # Without any, all findings count.
  scores = dataclasses.replace(
    scores,
    values={
      **scores.values,
      "prior": np.full_like(scores.values["prior"], np.nan),
    },
  )
  part = grounding_scores.summarise(scores, num_resamples=50)
  assert part["without_prior"] == []
  macro = part["maps"]["phrase"]["macro"]["miou"]
  assert macro["value"] == mean(scores.values["phrase"], PLACES)


def test_what_is_written_is_read_again(directory, tmp_path):
  prior = location_prior.fit(directory, "test", 16)
  scores = grounding.score(Seeing(), directory, "test", prior)
  assert scores is not None
  grounding_scores.write(tmp_path / "a.csv", scores)
  again = grounding_scores.read(tmp_path / "a.csv")
  assert again.findings == scores.findings
  assert again.patient_ids == scores.patient_ids
  for name, values in scores.values.items():
    np.testing.assert_array_equal(again.values[name], values)


def test_difference_is_paired(directory):
  one = grounding.score(Seeing(), directory, "test", None)
  two = grounding.score(Blind(), directory, "test", None)
  assert one is not None
  assert two is not None
  same = grounding_scores.difference(one, one, num_resamples=50)
  assert same["phrase"]["macro"]["miou"] == {"value": 0, "low": 0, "high": 0}
  other = grounding_scores.difference(one, two, num_resamples=50)
  assert other["token"]["macro"]["miou"]["low"] > 0
  assert other["left_out"] == 0
  assert grounding_scores.summarise(one, num_resamples=0)["prior"] is None


def test_difference_is_of_the_items_that_both_have(directory):
  one = grounding.score(Seeing(), directory, "test", None)
  two = grounding.score(Blind(), directory, "test", None)
  assert one is not None
  assert two is not None

  def kept(scores, rows):
    return dataclasses.replace(
      scores,
      image_ids=tuple(scores.image_ids[i] for i in rows),
      patient_ids=tuple(scores.patient_ids[i] for i in rows),
      findings=tuple(scores.findings[i] for i in rows),
      values={name: item[rows] for name, item in scores.values.items()},
    )

  # Each lacks an item of the other's, and they stand in another order.
  found = grounding_scores.difference(
    kept(one, [4, 1, 2, 3, 0]), kept(two, [1, 2, 5, 3, 4]), num_resamples=50
  )
  assert found.pop("left_out") == 2
  alike = grounding_scores.difference(
    kept(one, [4, 1, 2, 3]), kept(two, [4, 1, 2, 3]), num_resamples=50
  )
  assert alike.pop("left_out") == 0
  assert found == alike
  assert found["phrase"]["rows"] == 4
  nothing = grounding_scores.difference(kept(one, [0]), kept(two, [1]))
  assert nothing == {
    **dict.fromkeys(grounding_scores.ASKED),
    "left_out": 2,
  }


def test_nothing_outlined_gives_nothing(directory, tmp_path):
  assert _evaluate(Seeing(), directory, tmp_path, "train") is None
  assert _evaluate(Seeing(), directory, tmp_path, "holiday") is None
  assert _evaluate(Seeing(), tmp_path / "nothing", tmp_path) is None
  assert not (tmp_path / "grounding.csv").exists()


def test_prior_of_the_scored_split_is_refused(directory):
  prior = location_prior.fit(directory, "test", 16)
  with pytest.raises(ValueError, match="taken from 'validate'"):
    grounding.score(Seeing(), directory, "validate", prior)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    (lambda text: text.replace("finding", "sex", 1), "expected the columns"),
    (lambda text: text + "a,b\n", "expected the columns"),
    (lambda text: text.replace(",1.0,", ",one,", 1), "is no number"),
    (lambda text: text.replace(",1.0,", ",inf,", 1), "is infinite"),
    (lambda text: "", "expected the columns"),
  ],
)
def test_bad_file(directory, tmp_path, change, words):
  _evaluate(Seeing(), directory, tmp_path)
  path = tmp_path / "grounding.csv"
  path.write_text(change(path.read_text("utf-8")), "utf-8")
  with pytest.raises(ValueError, match=words):
    grounding_scores.read(path)
  path.unlink()
  with pytest.raises(ValueError, match="is missing"):
    grounding_scores.read(path)
