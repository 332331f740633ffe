import numpy as np

from data_prep import duplicates


def image(name, split, digest="", perceptual_hash=0):
  return duplicates.Image(name, split, digest, perceptual_hash)


def test_equal_pixels_in_two_splits_are_named_once_too_often():
  images = [
    image("a", "train", "1"),
    image("b", "train", "1"),  # twice in one split is no leak
    image("c", "test", "1"),
    image("d", "validate", "2"),
    image("e", "test", "2"),
    image("f", "train", "3"),
    image("g", "train", "3"),
    image("h", "test", "4"),
  ]
  assert duplicates.find_equal(images) == ["a", "b", "d"]
  rest = [i for i in images if i.image_id not in ("a", "b", "d")]
  assert not duplicates.find_equal(rest)


def test_near_pairs_are_those_of_a_slow_search():
  rng = np.random.default_rng(0)
  bases = [int(value) for value in rng.integers(2**63, size=20)]
  images = []
  for number in range(400):
    value = bases[number % 20]
    for bit in rng.integers(64, size=rng.integers(6)):
      value ^= 1 << int(bit)
    split = ("train", "validate", "test")[number % 3]
    images.append(image(f"{number:03d}", split, str(number), value))
  order = ["train", "validate", "test"]
  expected = []
  for one in images:
    for other in images:
      if order.index(one.split) < order.index(other.split):
        distance = (one.perceptual_hash ^ other.perceptual_hash).bit_count()
        if distance <= 4:
          expected.append((one.image_id, other.image_id, distance))
  assert len(expected) > 100
  assert duplicates.find_near(images) == sorted(expected)


def test_alike_without_end_is_bounded(monkeypatch):
  monkeypatch.setattr(duplicates, "MAX_PAIRS", 10)
  images = [image(str(n), ("train", "test")[n % 2]) for n in range(20)]
  assert len(duplicates.find_near(images)) == 10


def test_nothing_is_near_nothing():
  assert duplicates.find_near([]) == []
  assert duplicates.find_near([image("a", "train")]) == []
