"""Resized position embeddings against torch's."""

import numpy as np
import pytest

from tests.models import vit_reference as reference
from tier_jax.models import positions


@pytest.mark.parametrize("antialias", [False, True])
@pytest.mark.parametrize(("old", "new"), reference.RESIZES)
def test_equals_torch(old, new, antialias):
  table = reference.positions(old)
  got = positions.resize(table, 1 + new**2, antialias=antialias)
  want = np.load(reference.PATH)[f"positions/{old}/{new}/{antialias}"]
  np.testing.assert_array_equal(got[:, :1], table[:, :1])  # the class token's
  np.testing.assert_allclose(got[:, 1:], want, atol=2e-6)
  alone = positions.resize(table[:, 1:], new**2, antialias=antialias)
  np.testing.assert_array_equal(alone, got[:, 1:])


@pytest.mark.parametrize("antialias", [False, True])
def test_the_same_grid_stays(antialias):
  table = reference.positions(4)
  np.testing.assert_allclose(
    positions.resize(table, 17, antialias=antialias), table, atol=1e-7
  )


@pytest.mark.parametrize(
  ("count", "words"),
  [
    (12, "12 positions, expected a square"),
    (9, "17 positions cannot become 9"),
  ],
)
def test_counts_without_a_grid_are_refused(count, words):
  with pytest.raises(ValueError, match=words):
    positions.resize(reference.positions(4), count)
