"""What goes into a record comes out of it."""

from typing import Any

import numpy as np
import pytest
from tensorflow_datasets.proto import tf_example_pb2

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
    "masks": (("Edema", image > 99), ("Lung Lesion", image > 250)),
  }
  return records.Record(**(fields | change))


@pytest.mark.parametrize(
  "change", [{}, {"labels": {}, "boxes": (), "masks": ()}]
)
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
  assert [name for name, _ in got.masks] == [name for name, _ in record.masks]
  for (_, mask), (_, expected) in zip(got.masks, record.masks, strict=True):
    assert mask.dtype == np.bool_
    np.testing.assert_array_equal(mask, expected)


@pytest.mark.parametrize(
  "change", [{}, {"labels": {}, "boxes": (), "masks": ()}]
)
def test_tfds_reads_the_same(change):
  data = records.encode(example(**change))
  record = records.decode(data)
  features: Any = records.FEATURES
  want = features.deserialize_example_np(data)
  np.testing.assert_array_equal(want["image"][..., 0], record.image)
  for name in ("image_id", "study_id", "view", "findings", "age_band"):
    assert want[name].decode() == getattr(record, name)
  assert list(want["label_values"]) == list(record.labels.values())
  assert [n.decode() for n in want["label_names"]] == list(record.labels)
  boxes = np.reshape([box for _, box in record.boxes], (-1, 4))
  np.testing.assert_array_equal(want["boxes"], boxes)
  for mask, (_, got) in zip(want["masks"], record.masks, strict=True):
    np.testing.assert_array_equal(mask[..., 0] > 0, got)


def test_equal_records_have_equal_bytes_whatever_the_label_order():
  record = example()
  swapped = example(labels=dict(reversed(list(record.labels.items()))))
  assert records.encode(record) == records.encode(swapped)


def test_facts_are_all_but_the_pixels_which_are_not_looked_at():
  record = example()
  data = records.encode(record)
  broken = _break_png(_break_png(data, 0), 1)
  with pytest.raises(ValueError, match="does not decode"):
    records.decode(broken)
  for facts in (records.read_facts(data), records.read_facts(broken)):
    assert vars(facts) == {
      name: value
      for name, value in vars(record).items()
      if name not in ("image", "masks")
    }


def test_a_pair_is_what_training_takes_of_a_record():
  record = example()
  data = records.encode(record)
  sections = {"findings": "Größe normal.", "impression": "No ___."}
  for broken in (data, _break_png(data, 1)):  # masks are not looked at
    pair = records.decode_pair(broken)
    assert (pair.study_id, pair.sections) == ("b2", sections)
    np.testing.assert_array_equal(pair.image, record.image)
  broken = _break_png(data, 0)
  with pytest.raises(ValueError, match="image of record a1 does not decode"):
    records.decode_pair(broken)
  pair = records.decode_pair(broken, pixels=False)
  assert (pair.study_id, pair.sections) == ("b2", sections)
  assert pair.image.shape == (0, 0)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"image": np.zeros((4, 4), np.uint16)}, r"uint16 \(4, 4\), expected"),
    ({"image": np.zeros((4, 4, 3), np.uint8)}, "expected uint8"),
    ({"image": np.zeros((0, 4), np.uint8)}, r"uint8 \(0, 4\), expected"),
    ({"view": "oblique"}, "view 'oblique' is not one of"),
    ({"labels": {"Edema": 2}}, "label 'Edema' is 2"),
    ({"masks": (("A", np.zeros((9, 9), bool)),)}, r"'A' is bool \(9, 9\), exp"),
    ({"masks": (("A", np.ones((20, 30), int)),)}, "'A' is int64"),
  ],
)
def test_bad_records_are_refused(change, words):
  with pytest.raises(ValueError, match=words):
    records.encode(example(**change))


def test_broken_image_is_an_error():
  data = records.encode(example(masks=()))
  with pytest.raises(ValueError, match="image of record a1 does not decode"):
    records.decode(_break_png(data, 0))


def test_broken_mask_is_an_error():
  image = np.zeros((20, 30), np.uint8)
  data = records.encode(example(masks=(("Edema", image == 0),)))
  for place in range(data.count(b"IDAT")):
    what = ("the image", "a mask")[place]
    with pytest.raises(ValueError, match=f"{what} of record a1 does not dec"):
      records.decode(_break_png(data, place))


@pytest.mark.parametrize("names", [[], ["a", "b"]])
def test_masks_and_names_that_do_not_match_are_an_error(names):
  data = records.encode(example(masks=(("a", np.ones((20, 30), bool)),)))
  changed = tf_example_pb2.Example.FromString(data)
  values = changed.features.feature["mask_names"].bytes_list.value
  values[:] = [name.encode() for name in names]
  with pytest.raises(ValueError, match="zip"):
    records.decode(changed.SerializeToString())


def _break_png(data: bytes, place: int) -> bytes:
  """Overwrites the pixels of one of the PNGs inside."""
  start = -1
  for _ in range(place + 1):
    start = data.index(b"IDAT", start + 1)
  return data[: start + 4] + bytes(8) + data[start + 12 :]


def test_names_of_what_is_outlined_are_those_of_boxes_and_masks():
  found = records.read_outlined(records.encode(example()))
  assert found == ("Edema", "Lung Lesion")
  assert not records.read_outlined(records.encode(example(boxes=(), masks=())))
