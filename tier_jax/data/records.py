"""The record format: one image of one study, as the shards hold it.

`encode` and `decode` stand side by side so that writer and reader cannot
drift. The format is a TFDS feature spec, so `tfds.builder_from_directory`
opens what data_prep wrote; see `FEATURES` for all that a shard may contain.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

from tier_jax.data import png

FEATURES = tfds.features.FeaturesDict(
  {
    # Grey, as read after windowing: MONOCHROME1 is already turned over.
    "image": tfds.features.Image(
      shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
    ),
    # Keyed hashes (HMAC-SHA256, hex) of the source's own ids.
    "image_id": tfds.features.Text(),
    "study_id": tfds.features.Text(),
    "patient_id": tfds.features.Text(),
    "view": tfds.features.Text(),  # one of VIEWS
    "findings": tfds.features.Text(),
    "impression": tfds.features.Text(),
    # Only stated labels stand here; a blank one is absent from both lists.
    "label_names": tfds.features.Sequence(tfds.features.Text()),
    "label_values": tfds.features.Sequence(np.int32),
    "sex": tfds.features.Text(),  # "F", "M" or "" when unknown
    "age_band": tfds.features.Text(),  # "60-69", ..., "90+", or ""
    # x0, y0, x1, y1 in pixels of the stored image.
    "box_names": tfds.features.Sequence(tfds.features.Text()),
    "boxes": tfds.features.Tensor(shape=(None, 4), dtype=np.float32),
    # Outlines of findings, as large as the image: 255 inside, 0 outside.
    "mask_names": tfds.features.Sequence(tfds.features.Text()),
    "masks": tfds.features.Sequence(
      tfds.features.Image(
        shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
      )
    ),
  }
)

_Example = tf_example_pb2.Example  # pyright: ignore[reportAttributeAccessIssue]

VIEWS = ("frontal", "lateral", "unknown")
_NO_PIXELS = np.zeros((0, 0), np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """What is known of one image, without its pixels.

  Attributes:
    image_id, study_id, patient_id: hashed ids.
    view: one of `VIEWS`.
    findings, impression: report sections, "" when absent.
    labels: name -> 1 (present), 0 (absent) or -1 (uncertain); blank labels
      are left out.
    sex: "F", "M" or "".
    age_band: such as "60-69" or "90+", "" when unknown.
    boxes: (name, (x0, y0, x1, y1)) pairs, in pixels of the stored image.
  """

  image_id: str
  study_id: str
  patient_id: str
  view: str = "unknown"
  findings: str = ""
  impression: str = ""
  labels: Mapping[str, int] = dataclasses.field(default_factory=dict)
  sex: str = ""
  age_band: str = ""
  boxes: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record(Facts):
  """One image with its study's text and labels.

  Attributes:
    image: (H, W) uint8.
    masks: (name, (H, W) bool) pairs, True where the finding is.
  """

  image: np.ndarray
  masks: tuple[tuple[str, np.ndarray], ...] = ()


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
  """What training takes of a record.

  Attributes:
    study_id: hashed.
    sections: text of `findings` and `impression`, "" when absent.
    image: (H, W) uint8; (0, 0) where it was not asked for.
  """

  study_id: str
  sections: Mapping[str, str]
  image: np.ndarray


def encode(record: Record) -> bytes:
  """Returns the serialised record; equal records give equal bytes.

  Raises:
    ValueError: if the image is not (H, W) uint8, a mask is not bool of the
      image's shape, the view is not one of `VIEWS`, or a label value is not
      1, 0 or -1.
  """
  image = record.image
  if image.ndim != 2 or image.dtype != np.uint8 or not image.size:
    raise ValueError(
      f"image is {image.dtype} {image.shape}, expected uint8 (H, W)"
    )
  if record.view not in VIEWS:
    raise ValueError(f"view {record.view!r} is not one of {VIEWS}")
  for name, value in record.labels.items():
    if value not in (1, 0, -1):
      raise ValueError(f"label {name!r} is {value!r}, expected 1, 0 or -1")
  for name, mask in record.masks:
    if mask.shape != image.shape or mask.dtype != np.bool_:
      raise ValueError(
        f"mask {name!r} is {mask.dtype} {mask.shape}, expected bool "
        f"{image.shape}"
      )
  labels = sorted(record.labels.items())
  boxes = np.array([box for _, box in record.boxes], np.float32)
  example = {
    "image": png.encode(image),
    "image_id": record.image_id,
    "study_id": record.study_id,
    "patient_id": record.patient_id,
    "view": record.view,
    "findings": record.findings,
    "impression": record.impression,
    "label_names": [name for name, _ in labels],
    "label_values": [value for _, value in labels],
    "sex": record.sex,
    "age_band": record.age_band,
    "box_names": [name for name, _ in record.boxes],
    "boxes": boxes.reshape(-1, 4),
    "mask_names": [name for name, _ in record.masks],
    "masks": [png.encode(np.uint8(255) * mask) for _, mask in record.masks],
  }
  data = FEATURES.serialize_example(example)
  # The features are a map, which a protocol buffer writes in an order of the
  # process; sorted, equal records have equal bytes everywhere.
  return _Example.FromString(data).SerializeToString(deterministic=True)


def decode(data: bytes) -> Record:
  """Returns the record that `encode` serialised.

  Raises:
    ValueError: if the image or a mask inside does not decode, or masks and
      their names are not equally many.
  """
  # Read by hand: TFDS takes longer than the picture does. What it reads is the
  # same, as a test holds.
  feature = _Example.FromString(data).features.feature
  masks = [
    _picture(feature, mask, "a mask") > 0
    for mask in feature["masks"].bytes_list.value
  ]
  return Record(
    **_fields(feature),
    image=_picture(feature, feature["image"].bytes_list.value[0], "the image"),
    masks=tuple(zip(_names(feature["mask_names"]), masks, strict=True)),
  )


def decode_pair(data: bytes, pixels: bool = True) -> Pair:
  """Returns what training takes of a record, in less time than `decode`.

  Args:
    data: what `encode` returned.
    pixels: whether the image is decoded, which takes most of the time.

  Raises:
    ValueError: if the image does not decode.
  """
  feature = _Example.FromString(data).features.feature
  image = _NO_PIXELS
  if pixels:
    image = _picture(feature, feature["image"].bytes_list.value[0], "the image")
  return Pair(
    study_id=_text(feature, "study_id"),
    sections={
      "findings": _text(feature, "findings"),
      "impression": _text(feature, "impression"),
    },
    image=image,
  )


def read_facts(data: bytes) -> Facts:
  """Returns all but the pixels of a record, without decoding them.

  Some ten times faster than `decode`: for scanning whole splits.
  """
  return Facts(**_fields(_Example.FromString(data).features.feature))


def read_outlined(data: bytes) -> tuple[str, ...]:
  """Returns the sorted names of what a record has boxes or masks of.

  Faster than `read_facts`.
  """
  feature = _Example.FromString(data).features.feature
  names = {*_names(feature["box_names"]), *_names(feature["mask_names"])}
  return tuple(sorted(names))


def _fields(feature: Any) -> dict[str, Any]:
  corners = iter(feature["boxes"].float_list.value)
  boxes = list(zip(corners, corners, corners, corners, strict=True))
  values = feature["label_values"].int64_list.value
  return {
    "image_id": _text(feature, "image_id"),
    "study_id": _text(feature, "study_id"),
    "patient_id": _text(feature, "patient_id"),
    "view": _text(feature, "view"),
    "findings": _text(feature, "findings"),
    "impression": _text(feature, "impression"),
    "labels": dict(zip(_names(feature["label_names"]), values, strict=True)),
    "sex": _text(feature, "sex"),
    "age_band": _text(feature, "age_band"),
    "boxes": tuple(zip(_names(feature["box_names"]), boxes, strict=True)),
  }


def _text(feature: Any, name: str) -> str:
  return feature[name].bytes_list.value[0].decode()


def _picture(feature: Any, data: bytes, what: str) -> np.ndarray:
  image = png.decode(data)
  if image is None:
    name = _text(feature, "image_id")
    raise ValueError(f"{what} of record {name} does not decode")
  return image


def _names(feature: Any) -> list[str]:
  return [value.decode() for value in feature.bytes_list.value]
