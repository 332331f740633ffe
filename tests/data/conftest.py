"""What several tests of the input path read."""

import pytest

from tests.data import pairs
from tier_jax.data import pair_source


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  pairs.write_dataset(root / "a", [f"Nodule {i}. Clear." for i in range(9)])
  pairs.write_dataset(root / "b", ["", "Edema.", "", "No edema.", "Effusion."])
  return pair_source.DataConfig(
    data_dir=str(root),
    datasets=("a", "b"),
    max_length=12,
    sentence_probability=0.5,
    num_threads=2,
  )
