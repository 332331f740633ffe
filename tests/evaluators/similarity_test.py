import dataclasses
import functools

import jax
import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.data import shards
from tier_jax.evaluators import pairs, similarity
from tier_jax.losses import entropy, statistics

TEXTS = ["No large effusion.", "Edema.", "The heart is enlarged today.", "x y"]


def _rows(count=8):
  return [
    datasets.record(i, level=9 * i, findings=TEXTS[i % 4]) for i in range(count)
  ]


def _evaluate(directory, temperature=0.5, num_resamples=100):
  return similarity.evaluate(
    datasets.Encoder(), directory, temperature, num_resamples=num_resamples
  )


def test_measures_are_the_loss_s():
  rng = np.random.default_rng(0)
  mask = rng.random((5, 7)) < 0.6
  mask[0] = [True] + [False] * 6  # alone: the loss leaves it out
  sims = rng.uniform(-1, 1, (5, 7, 9)).astype(np.float32)
  rows = [
    similarity.measure(s[m].astype(np.float64), {"": 0.3, "t1": 1.0})
    for s, m in zip(sims, mask, strict=True)
  ]

  def mean(name):
    return np.nanmean([row[name] for row in rows])

  for suffix, temperature in (("", 0.3), ("_t1", 1.0)):
    loss = functools.partial(
      entropy.similarity_entropies, temperature=temperature
    )
    token, patch = jax.jit(loss)(sims, mask)
    assert mean(f"token_entropy{suffix}") == pytest.approx(
      float(token), rel=1e-5
    )
    assert mean(f"patch_entropy{suffix}") == pytest.approx(
      float(patch), rel=1e-5
    )
  whole = np.ones((5, 7), bool)
  got = [similarity.measure(s.astype(np.float64), {}) for s in sims]
  expected = jax.jit(statistics.similarity_statistics)(sims, whole)
  for name, other in (
    ("near_zero", "share_near_zero"),
    ("mean_max", "mean_max_similarity"),
    ("row_cosine", "row_cosine"),
  ):
    assert np.mean([row[name] for row in got]) == pytest.approx(
      float(expected[other]), rel=1e-5
    )


def test_effective_patches_count_what_is_matched_alike():
  sims = np.zeros((2, 8))
  sims[0, :4] = 1.0  # so much above the rest that four share all
  got = similarity.measure(sims, {"": 0.01})
  assert got["effective_patches"] == pytest.approx((4 + 8) / 2)
  assert got["token_entropy"] == pytest.approx((np.log(4) + np.log(8)) / 2)


def test_reports_without_tokens_are_not_counted():
  got = similarity.measure(np.zeros((0, 4)), {"": 1.0})
  assert np.isnan(list(got.values())).all()
  one = similarity.measure(np.full((1, 4), 0.5), {"": 1.0})
  assert one["mean_max"] == 0.5
  assert np.isnan(one["token_entropy"])


def test_figures_are_of_reports_with_their_own_images(tmp_path):
  directory = datasets.write(
    tmp_path / "mimic_cxr",
    {"validate": _rows(3), "test": [*_rows(), datasets.record(9)]},
  )
  part = _evaluate(directory)
  assert part is not None
  assert (part["split"], part["pairs"]) == ("test", 8)
  assert len(part["histogram"]) == similarity.NUM_BINS
  tokens = 2 * sum(len(text.split()) for text in TEXTS)
  assert sum(part["histogram"]) == tokens * 16

  encoder, row = datasets.Encoder(), _rows()[2]
  source = shards.open_split(directory, "test")
  image = next(pairs.images(source, [2], 16))
  _, patches = encoder.embed_images(image)
  texts = encoder.embed_texts([row.findings])
  sims = texts.token_embeds[0][texts.token_mask[0]] @ patches[0].T
  alone = datasets.write(tmp_path / "alone", {"test": [row]})
  got = _evaluate(alone)
  assert got is not None
  for name, value in similarity.measure(sims, {"": 0.5, "t1": 1.0}).items():
    assert got[name]["value"] == pytest.approx(value, rel=1e-5)
  assert (
    1 <= part["effective_patches"]["low"] <= part["effective_patches"]["high"]
  )
  assert part["near_zero"]["low"] <= part["near_zero"]["value"]


def test_many_pairs_are_thinned_evenly(tmp_path, monkeypatch):
  directory = datasets.write(tmp_path / "mimic_cxr", {"test": _rows()})
  monkeypatch.setattr(similarity, "NUM_PAIRS", 3)
  seen = []

  def images(source, places, size):
    seen.extend(places)
    return pairs_images(source, places, size)

  pairs_images = pairs.images
  monkeypatch.setattr(pairs, "images", images)
  part = _evaluate(directory, num_resamples=0)
  assert part is not None
  assert part["pairs"] == 3
  assert seen == [0, 4, 7]
  assert part["near_zero"]["low"] is None


def test_without_reports_there_is_nothing(tmp_path):
  assert _evaluate(tmp_path / "nothing") is None
  rows = [
    datasets.record(0),
    dataclasses.replace(datasets.record(1, findings="x y"), view="lateral"),
  ]
  directory = datasets.write(tmp_path / "mimic_cxr", {"test": rows})
  assert _evaluate(directory) is None
  train = datasets.write(tmp_path / "open_i", {"train": _rows()})
  assert _evaluate(train) is None
  with pytest.raises(ValueError, match="temperature is 0"):
    _evaluate(directory, temperature=0)
