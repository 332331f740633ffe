import collections

import pytest

from data_prep import splits


def test_shares_are_as_asked_and_fixed():
  counts = collections.Counter(
    splits.assign_split(str(patient), (0.8, 0.1, 0.1), 0)
    for patient in range(5000)
  )
  assert counts["train"] == pytest.approx(4000, abs=100)
  assert counts["validate"] == pytest.approx(500, abs=80)
  assert counts["test"] == pytest.approx(500, abs=80)


def test_seed_changes_the_division():
  def division(seed):
    return [
      splits.assign_split(str(patient), (0.5, 0.25, 0.25), seed)
      for patient in range(50)
    ]

  assert division(0) == division(0)
  assert division(0) != division(1)


@pytest.mark.parametrize(
  "fractions", [(1, 0), (0.5, 0.5, 0.5), (1.2, -0.1, -0.1), (float("nan"),) * 3]
)
def test_bad_fractions(fractions):
  with pytest.raises(ValueError, match="split_fractions"):
    splits.check_fractions(fractions)


def test_overlap_is_refused_with_a_count_and_no_id():
  pairs = [("p1", "train"), ("p2", "test"), ("p1", "test"), ("p3", "train")]
  with pytest.raises(ValueError, match=r"1 patient id\(s\)") as error:
    splits.check_disjoint("patient", pairs)
  assert "p1" not in str(error.value)
  splits.check_disjoint("patient", [*pairs[:2], ("p1", "train")])


@pytest.mark.parametrize(
  ("text", "split"),
  [
    ("train", "train"),
    (" VALID", "validate"),
    ("val", "validate"),
    ("x", None),
  ],
)
def test_spellings(text, split):
  assert splits.parse_split(text) == split
