import itertools
import re

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import retrieval


class Reading:
  """Brightness and the last number in a text are one direction each."""

  image_size = 16
  grid = (1, 1)

  def embed_images(self, images):
    embeds = self.embed_image_vectors(images)
    return embeds, embeds[:, None]

  def embed_image_vectors(self, images):
    return self._one_hot((images[:, 8, 2] - 100).astype(int) // 10)

  def embed_texts(self, texts):
    embeds = self._one_hot([int(re.findall(r"\d+", t)[-1]) for t in texts])
    mask = np.ones((len(texts), 1), bool)
    return datasets.Texts(embeds, embeds[:, None], mask, [["x"]] * len(texts))

  def _one_hot(self, numbers):
    return np.eye(12, dtype=np.float32)[numbers]


class Constant(Reading):
  def _one_hot(self, numbers):
    return np.tile(np.array([1, 0], np.float32), (len(numbers), 1))


def _rows(numbers, text="Nodule of {} mm."):
  return [
    datasets.record(i, level=10 * n, findings=text.format(n))
    for i, n in enumerate(numbers)
  ]


def _evaluate(encoder, directory, num_resamples=100):
  return retrieval.evaluate(
    encoder, directory, "test", num_resamples=num_resamples
  )


def _recalls(part):
  return [part[f"recall@{k}"]["value"] for k in retrieval.CUTS]


def test_a_model_that_reads_finds_all_and_copies_of_a_text_are_right(tmp_path):
  numbers = [*range(12), 3, 3]
  rows = _rows(numbers)
  rows += [datasets.record(5, image=1, level=50, findings="Nodule of 5 mm.")]
  rows += [datasets.record(30)]  # no text
  rows[1] = datasets.record(1, level=10, findings="nodule of 1  MM")
  rows[12] = datasets.record(12, level=30, findings="1. Nodule of 3 mm")
  directory = datasets.write(tmp_path / "mimic_cxr", {"test": rows})
  part = _evaluate(Reading(), directory)
  assert part is not None
  assert (part["images"], part["studies"]) == (15, 14)
  for name in ("image_to_text", "text_to_image"):
    assert _recalls(part[name]) == [1, 1, 1]
    assert part[name]["recall@1"]["low"] == 1
    assert part[name]["median_rank"] == 1


def test_a_model_that_embeds_all_alike_scores_chance(tmp_path):
  directory = datasets.write(
    tmp_path / "mimic_cxr", {"test": _rows([0, 1, 2, 3, 3, 4, 5, 6])}
  )
  part = _evaluate(Constant(), directory)
  assert part is not None
  for name in ("image_to_text", "text_to_image"):
    chance = [part["chance"][name][f"recall@{k}"] for k in retrieval.CUTS]
    assert _recalls(part[name]) == pytest.approx(chance, rel=1e-12)
    # One right of 8 for six queries, two for the others.
    assert chance[0] == pytest.approx((6 / 8 + 2 * 2 / 8) / 8)
    assert chance[1] == pytest.approx((6 * 5 / 8 + 2 * (1 - 3 / 28)) / 8)
    assert chance[2] == 1
    assert part[name]["median_rank"] == 4.5


@pytest.mark.parametrize("seed", range(5))
def test_recall_and_rank_are_what_is_expected_of_ties_at_random(seed):
  rng = np.random.default_rng(seed)
  queries, candidates = rng.integers(0, 3, (2, 6, 2)).astype(np.float32)
  meanings = rng.integers(0, 3, 6)
  wanted = rng.choice(meanings, 6)
  above, tied, right = retrieval.search(queries, wanted, candidates, meanings)
  got = retrieval.recalls(above, tied, right)
  for q in range(6):
    cosines = candidates @ queries[q]
    firsts = []
    for order in itertools.permutations(range(6)):
      ranking = sorted(order, key=lambda c, x=cosines: -x[c])
      hit = [meanings[c] == wanted[q] for c in ranking]
      firsts.append(1 + hit.index(True))
    for i, k in enumerate(retrieval.CUTS):
      expected = np.mean(np.array(firsts) <= k)
      assert got[q, i] == pytest.approx(expected, abs=1e-12)
    rank = above[q] + (tied[q] + 1) / (right[q] + 1)
    assert rank == pytest.approx(np.mean(firsts), abs=1e-12)


def test_blocks_do_not_show(monkeypatch):
  rng = np.random.default_rng(0)
  embeds = rng.normal(size=(2, 50, 4))
  embeds /= np.linalg.norm(embeds, axis=2, keepdims=True)
  meanings = rng.permutation(50) // 2
  whole = retrieval.search(embeds[0], meanings, embeds[1], meanings)
  monkeypatch.setattr(retrieval, "_BLOCK", 7)
  parts = retrieval.search(embeds[0], meanings, embeds[1], meanings)
  np.testing.assert_array_equal(whole, parts)


def test_without_reports_there_is_nothing(tmp_path):
  assert _evaluate(Reading(), tmp_path / "nothing") is None
  directory = datasets.write(
    tmp_path / "chexpert", {"test": [datasets.record(0)]}
  )
  assert _evaluate(Reading(), directory) is None
  part = retrieval.evaluate(Reading(), directory, "validate")
  assert part is None
