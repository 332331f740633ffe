"""What goes into a record comes out of it."""

import numpy as np
import pytest

from tier_jax.data import records


def example(**change):
  image = np.random.default_rng(0).integers(0, 255, (20, 30)).astype(np.uint8)
  fields = {
    "image": image,
    "image_id": "a1",
    "study_id": "b2",
    "patient_id": "c3",
    "view": "frontal",
    "findings": "Größe normal.",
    "impression": "No ___.",
    "labels": {"Edema": 1, "Pneumothorax": 0, "Atelectasis": -1},
    "sex": "F",
    "age_band": "90+",
    "boxes": (("Edema", (1.0, 2.5, 10.0, 12.0)),),
  }
  return records.Record(**(fields | change))


@pytest.mark.parametrize("change", [{}, {"labels": {}, "boxes": ()}])
def test_round_trip(change):
  record = example(**change)
  got = records.decode(records.encode(record))
  np.testing.assert_array_equal(got.image, record.image)
  for field in (
    "image_id",
    "study_id",
    "patient_id",
    "view",
    "findings",
    "impression",
    "sex",
    "age_band",
    "boxes",
  ):
    assert getattr(got, field) == getattr(record, field)
  assert dict(got.labels) == dict(record.labels)


def test_equal_records_have_equal_bytes_whatever_the_label_order():
  record = example()
  swapped = example(labels=dict(reversed(list(record.labels.items()))))
  assert records.encode(record) == records.encode(swapped)


def test_sections_can_be_read_alone():
  assert records.read_sections(records.encode(example())) == {
    "findings": "Größe normal.",
    "impression": "No ___.",
  }


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"image": np.zeros((4, 4), np.uint16)}, r"uint16 \(4, 4\), expected"),
    ({"image": np.zeros((4, 4, 3), np.uint8)}, "expected uint8"),
    ({"view": "oblique"}, "view 'oblique' is not one of"),
    ({"labels": {"Edema": 2}}, "label 'Edema' is 2"),
  ],
)
def test_bad_records_are_refused(change, words):
  with pytest.raises(ValueError, match=words):
    records.encode(example(**change))


def test_broken_image_is_an_error():
  data = records.encode(example())
  start = data.index(b"IDAT")
  broken = data[: start + 4] + bytes(20) + data[start + 24 :]
  with pytest.raises(ValueError, match="record a1 does not decode"):
    records.decode(broken)
