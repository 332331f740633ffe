import numpy as np

from tests.evaluators import datasets
from tier_jax.evaluators import location_prior, regions

SIZE = 16
LEFT, RIGHT = (2.0, 10.0, 10.0, 20.0), (22.0, 10.0, 30.0, 20.0)
PHRASE = "There is a {} pneumothorax."


def _row(patient, *boxes):
  return datasets.record(
    patient, boxes=tuple(("Pneumothorax", box) for box in boxes)
  )


def _mask(*boxes):
  return regions.of_record(_row(0, *boxes), SIZE)["Pneumothorax"]


def test_map_is_the_mean_truth_of_a_finding_and_of_a_sentence(tmp_path):
  train = [_row(0, LEFT), _row(1, LEFT), _row(2, RIGHT), _row(3, LEFT, RIGHT)]
  directory = datasets.write(
    tmp_path / "mimic_cxr", {"train": train, "test": [_row(9, RIGHT)]}
  )
  prior = location_prior.fit(directory, "test", SIZE)
  assert prior is not None
  assert prior.split == "train"
  assert prior.rows == {"Pneumothorax": 4}
  left, right = _mask(LEFT), _mask(RIGHT)
  np.testing.assert_allclose(
    prior.by_finding["Pneumothorax"], left * 0.75 + right * 0.5
  )
  # The image's left is the patient's right.
  np.testing.assert_array_equal(prior.by_phrase[PHRASE.format("right")], left)
  np.testing.assert_array_equal(prior.by_phrase[PHRASE.format("left")], right)


def test_without_train_outlines_it_is_of_validate_and_never_of_what_is_scored(
  tmp_path,
):
  splits = {
    "train": [datasets.record(5)],
    "validate": [_row(0, LEFT)],
    "test": [_row(1, RIGHT)],
  }
  directory = datasets.write(tmp_path / "mimic_cxr", splits)
  prior = location_prior.fit(directory, "test", SIZE)
  assert prior is not None
  assert prior.split == "validate"
  np.testing.assert_array_equal(prior.by_finding["Pneumothorax"], _mask(LEFT))
  assert location_prior.fit(directory, "validate", SIZE) is None
