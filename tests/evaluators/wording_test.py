import pytest

from tier_jax.evaluators import wording


@pytest.mark.parametrize(
  ("value", "sign", "words"),
  [
    (0.12345, False, "0.123"),
    (-0.12345, True, "-0.123"),
    (0.12345, True, "+0.123"),
    (-0.0004, False, "0.000"),  # no minus before what rounds to zero
    (-0.0004, True, "+0.000"),
    (0.0, True, "+0.000"),
    (-0.0006, True, "-0.001"),
    (None, True, "-"),
  ],
)
def test_number(value, sign, words):
  assert wording.number(value, sign=sign) == words


def test_interval():
  item = {"value": -0.0001, "low": -0.02, "high": 0.0}
  assert wording.interval(item, sign=True) == "+0.000 [-0.020, +0.000]"
  assert wording.interval({**item, "low": None}) == "0.000"
  assert wording.interval({**item, "value": None}) == "not available"
  assert wording.interval(None) == "not available"


@pytest.mark.parametrize(
  ("value", "words"), [(None, "-"), (0.0009, "< 0.001"), (0.0301, "0.030")]
)
def test_p_value(value, words):
  assert wording.p_value(value) == words


def test_listing_and_capitals():
  assert wording.listing(["a"]) == "a"
  assert wording.listing(["a", "b", "c"]) == "a, b and c"
  titles = [wording.capital(title) for title in wording.GROUNDING.values()]
  assert titles == ["Pointing game", "CNR", "mIoU", "Dice"]
