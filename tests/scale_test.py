"""A few rows of `scale.py`'s table; `python -m tests.scale` makes all."""

import numpy as np
import pytest

from tests import scale, train_step_test

pytestmark = pytest.mark.usefixtures("unoptimized")


def test_ten_steps_are_those_of_one_device():
  setting = scale.Setting(2, 4, accumulate=2, ring=True)
  found = scale.differences(setting, "sgd", "infonce")
  for name, tolerance in scale.TOLERANCES["sgd"].items():
    assert found[name] < tolerance, name


def test_a_training_that_moves():
  found = scale.results(scale.REFERENCE, "sgd", "infonce")
  assert np.ptp(found["losses"]) > 1e-3
  moved = train_step_test.relative(found["params"], scale.make_params())
  assert moved > 1e-4
