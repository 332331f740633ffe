"""Eight fake CPU devices, set before anything starts a jax backend."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest
from absl import flags

jax.config.update("jax_num_cpu_devices", 8)


def pytest_configure(config):
  # Grain reads absl flags, which only absl.app would have parsed.
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()


@pytest.fixture(scope="module")
def unoptimized():
  """Compiles a module's functions in less than half of the time.

  They are the same but for rounding, and most run once.
  """
  jax.config.update("jax_disable_most_optimizations", True)
  yield
  jax.config.update("jax_disable_most_optimizations", False)
