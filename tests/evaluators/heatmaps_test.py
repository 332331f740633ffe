import dataclasses

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.data import records
from tier_jax.evaluators import heatmaps, zero_shot
from tier_jax.evaluators.benchmarks import chexpert

LEFT = (2.0, 10.0, 10.0, 20.0)


def _evaluators(tmp_path):
  rows = [
    datasets.record(i, level=9 * i, labels={"Edema": i % 2}) for i in range(8)
  ]
  directory = datasets.write(tmp_path / "chexpert", {"test": rows})
  return [zero_shot.ZeroShot(chexpert.TEST, directory)]


def _compute(tmp_path, encoder=None):
  encoder = encoder or datasets.Encoder()
  cases = heatmaps.Cases(
    tmp_path / "reports", _evaluators(tmp_path), encoder.image_size
  )
  return cases.compute(encoder)


def _boxed():
  names = ["Edema", "Consolidation", "Edema", "Edema"]
  return [
    datasets.record(
      i, level=9 * i, boxes=((name, LEFT),), findings="No large effusion."
    )
    for i, name in enumerate(names)
  ]


def test_maps_are_the_cosines_of_tokens_and_patches(tmp_path):
  datasets.write(tmp_path / "reports", {"test": _boxed()})
  encoder = datasets.Encoder()
  maps = _compute(tmp_path)
  assert maps.findings.tolist() == ["Consolidation", "Edema", "Edema", "Edema"]
  # LEFT of the image is the patient's right.
  assert maps.phrases[0] == "There is consolidation in the right lung."
  assert maps.words[0].tolist() == ["consolidation", "right", "lung"]

  _, patches = encoder.embed_images(maps.images[:1])
  texts = encoder.embed_texts([maps.phrases[0]])
  sims = texts.token_embeds[0] @ patches[0].T  # (T, P)
  expected = sims[texts.token_mask[0]].mean(axis=0).reshape(4, 4)
  np.testing.assert_allclose(maps.phrase_maps[0], expected, rtol=1e-5)
  position = texts.tokens[0].index("right")
  np.testing.assert_allclose(
    maps.word_maps[0, 1], sims[position].reshape(4, 4), rtol=1e-5
  )
  # The crop of 40 x 32 keeps 28 x 28 about the centre: (2, 6) is its corner.
  assert maps.box_image.tolist() == [0, 1, 2, 3]
  # Half a pixel: the crop starts at a whole one.
  np.testing.assert_allclose(maps.boxes[0], [0, 2.3, 4.6, 8.0], atol=0.5)


def test_only_what_is_shown_is_decoded(tmp_path, monkeypatch):
  rows = [datasets.record(i, level=i) for i in range(20)] + _boxed()
  rows.append(dataclasses.replace(_boxed()[1], view="lateral"))
  datasets.write(tmp_path / "reports", {"validate": rows})
  decoded = []
  decode = records.decode
  monkeypatch.setattr(
    records, "decode", lambda data: decoded.append(0) or decode(data)
  )
  maps = _compute(tmp_path)
  assert len(maps.images) == len(decoded) == 4
  # No word of a report lies in the file.
  assert not any("large" in str(text) for text in maps.phrases)


def test_damaged_dataset_is_an_error_and_a_missing_one_is_none(tmp_path):
  directory = datasets.write(tmp_path / "reports", {"test": _boxed()})
  shard = next(directory.glob("*.array_record*"))
  shard.write_bytes(shard.read_bytes()[:100])
  with pytest.raises(ValueError, match=r"reports-test\.array_record"):
    heatmaps.Cases(directory, [], 16)
  assert (
    heatmaps.Cases(tmp_path / "no", [], 16).compute(datasets.Encoder()) is None
  )


def test_without_boxes_the_benchmark_s_positives_are_shown(tmp_path):
  maps = _compute(tmp_path)
  assert maps.findings.tolist() == ["Edema"] * 4
  assert maps.boxes.shape == (0, 4)


def test_pieces_of_a_word_share_a_map():
  words = heatmaps._words(
    ["[CLS]", "There", "is", "card", "##io", "##megaly", ".", "[SEP]"],
    np.array([0, 1, 1, 1, 1, 1, 1, 0], bool),
  )
  assert words == [("cardiomegaly", [3, 4, 5])]


def test_file_is_plain_arrays_and_the_same_each_time(tmp_path):
  datasets.write(tmp_path / "reports", {"test": _boxed()})
  maps = _compute(tmp_path)
  maps.save(tmp_path / "a.npz")
  again = heatmaps.load(tmp_path / "a.npz")
  again.save(tmp_path / "b.npz")
  assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
  for field in dataclasses.fields(maps):
    np.testing.assert_array_equal(
      getattr(again, field.name), getattr(maps, field.name)
    )
  np.savez(tmp_path / "c.npz", images=maps.images)
  with pytest.raises(ValueError, match=r"c\.npz lacks box_image, boxes"):
    heatmaps.load(tmp_path / "c.npz")
