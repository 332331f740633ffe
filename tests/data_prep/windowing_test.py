import numpy as np
import pytest

from data_prep import windowing


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (64, 63), (301, 257)])
@pytest.mark.parametrize("spread", [1, 7, 200])
def test_percentiles_are_numpys(dtype, shape, spread):
  """To the last bit, also where the values do not rise with the pixels."""
  rng = np.random.default_rng(3)
  image = (rng.integers(0, spread, shape) + 50).astype(dtype)
  values = rng.normal(size=np.iinfo(dtype).max + 1)
  sample = values[image][::4, ::4]
  low, high = np.percentile(sample, (0.5, 99.5))
  if low == high:
    low, high = sample.min(), sample.max()
  limits = windowing.percentile_limits(values, windowing.count(image))
  assert limits == (low, high)


def test_counts():
  image = np.array([[3, 3, 9], [65535, 9, 9]], np.uint16)
  counts = windowing.count(image, stride=1)
  assert counts.shape == (65536,)
  assert {int(at): int(counts[at]) for at in np.flatnonzero(counts)} == {
    3: 2,
    9: 3,
    65535: 1,
  }


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_counts_of_the_low_bits(dtype, bits):
  """As if the counts of all that share them were added up."""
  bits = min(bits, 8 * np.dtype(dtype).itemsize)
  image = np.random.default_rng(4).integers(
    0, np.iinfo(dtype).max, (61, 47), dtype, endpoint=True
  )
  before = image.copy()
  for stride in (1, 4):
    counts = windowing.count(image, stride, bits)
    whole = windowing.count(image, stride).reshape(-1, 1 << bits).sum(0)
    np.testing.assert_array_equal(counts, whole)
  np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
  ("low", "high", "blank"), [(0, 0.09, True), (0.4, 0.51, False)]
)
def test_blank(low, high, blank):
  unit = np.linspace(low, high, 256)
  assert windowing.is_blank(unit, np.ones(256)) == blank


@pytest.mark.parametrize("width", [1, 1.5, 300])
@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT"])
def test_windows_follow_the_standards_pseudocode(width, function):
  x = np.arange(-200.0, 700.0)
  center = 255.25
  c, w = (center - 0.5, width - 1) if function == "LINEAR" else (center, width)
  expected = np.empty(x.size)
  for at, value in enumerate(x):
    if value <= c - w / 2:
      expected[at] = 0
    elif value > c + w / 2:
      expected[at] = 1
    else:
      expected[at] = (value - c) / w + 0.5
  np.testing.assert_allclose(
    windowing.apply_window(x, center, width, function), expected, atol=1e-12
  )
