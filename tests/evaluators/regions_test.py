import dataclasses

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.data import shards
from tier_jax.evaluators import regions

SIZE = 16
# Of the 40 x 32 image the view keeps 28 x 28 about the centre, 4 / 7 as large.
LEFT, RIGHT = (2.0, 10.0, 10.0, 20.0), (22.0, 10.0, 30.0, 20.0)
HIDDEN = (0.0, 0.0, 1.0, 2.0)


def test_pixels_of_a_box_are_those_with_their_centre_inside():
  mask = regions.of_box(np.array([1.0, 0.4, 2.5, 3.6]), 4)
  assert mask.astype(int).tolist() == [
    [0, 1, 0, 0],
    [0, 1, 0, 0],
    [0, 1, 0, 0],
    [0, 1, 0, 0],
  ]
  assert not regions.of_box(np.array([0.6, 0.6, 1.4, 1.4]), 4).any()


def test_boxes_and_masks_of_a_finding_are_one_region():
  record = datasets.record(
    0, boxes=(("Edema", LEFT), ("Mass", HIDDEN), ("Edema", RIGHT))
  )
  drawn = np.zeros((40, 32), bool)
  drawn[25:35, 4:28] = True
  record = dataclasses.replace(
    record, masks=(("Edema", drawn), ("Atelectasis", drawn))
  )
  found = regions.of_record(record, SIZE)
  assert list(found) == ["Atelectasis", "Edema"]  # Mass lies out of view
  one = regions.of_record(dataclasses.replace(record, masks=()), SIZE)["Edema"]
  assert one[4, 2]
  assert one[4, 13]
  assert not one[4, 8]
  np.testing.assert_array_equal(found["Edema"], one | found["Atelectasis"])


@pytest.mark.parametrize(
  ("boxes", "side"),
  [
    ([(1, 2, 6, 8)], "right"),  # of the patient
    ([(10, 2, 15, 8)], "left"),
    ([(1, 2, 6, 8), (2, 10, 4, 12)], "right"),
    ([(1, 2, 6, 8), (10, 2, 15, 8)], ""),
    ([(4, 2, 12, 8)], ""),
    ([], ""),
  ],
)
def test_side_is_where_all_parts_lie(boxes, side):
  mask = np.zeros((SIZE, SIZE), bool)
  for box in boxes:
    mask |= regions.of_box(np.array(box), SIZE)
  assert regions.side(mask) == side


@pytest.mark.parametrize(
  ("finding", "side", "phrase"),
  [
    ("Pneumothorax", "left", "There is a left pneumothorax."),
    ("Pneumothorax", "", "A pneumothorax is present."),
    ("Consolidation", "right", "There is consolidation in the right lung."),
    ("Cardiomegaly", "left", "The cardiac silhouette is enlarged."),
  ],
)
def test_phrase_names_the_side_where_prompts_do(finding, side, phrase):
  assert regions.phrase(finding, side) == phrase


def test_only_records_with_something_in_view_are_read(tmp_path):
  rows = [
    datasets.record(0, boxes=(("Edema", LEFT),)),
    datasets.record(1),
    datasets.record(2, boxes=(("Edema", HIDDEN),)),
    datasets.record(3, boxes=(("Mass", RIGHT), ("Edema", LEFT))),
  ]
  directory = datasets.write(tmp_path / "mimic_cxr", {"test": rows})
  source = shards.open_split(directory, "test")
  assert regions.outlined(source) == [0, 2, 3]
  found = list(regions.read(source, SIZE))
  assert [record.patient_id for record, _ in found] == ["patient0", "patient3"]
  assert [item.finding for item in found[1][1]] == ["Edema", "Mass"]
  assert found[1][1][1].phrase == "There is a mass in the left lung."
