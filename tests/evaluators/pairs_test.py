import dataclasses

import numpy as np

from tests.evaluators import datasets
from tier_jax.data import shards, transforms
from tier_jax.evaluators import pairs


def test_pairs_are_images_with_a_text_and_no_laterals(tmp_path):
  first = datasets.record(0, findings="Clear.")
  rows = [
    dataclasses.replace(first, impression="Normal."),
    dataclasses.replace(first, view="lateral"),
    datasets.record(1),
    datasets.record(2, level=50, findings="Edema."),
    dataclasses.replace(first, view="unknown"),
  ]
  directory = datasets.write(tmp_path / "mimic_cxr", {"test": rows})
  source = shards.open_split(directory, "test")
  assert pairs.read(source) == [
    pairs.Pair(0, "study0", "patient0", "Normal."),
    pairs.Pair(3, "study2", "patient2", "Edema."),
    pairs.Pair(4, "study0", "patient0", "Clear."),
  ]
  (images,) = pairs.images(source, [3, 0], 16)
  for image, row in zip(images, (rows[3], rows[0]), strict=True):
    np.testing.assert_array_equal(image, transforms.eval_image(row.image, 16))


def test_held_out_is_test_or_else_validate(tmp_path):
  row = [datasets.record(0)]
  for name, splits, expected in (
    ("a", {"train": row, "validate": row, "test": row}, "test"),
    ("b", {"train": row, "validate": row, "test": []}, "validate"),
    ("c", {"train": row}, None),
  ):
    assert pairs.held_out(datasets.write(tmp_path / name, splits)) == expected
  assert pairs.held_out(tmp_path / "nothing") is None
