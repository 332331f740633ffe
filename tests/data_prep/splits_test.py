import collections
import dataclasses
import time
from pathlib import Path

import pytest

from data_prep import ids, items, splits

KEY = bytes(range(32))


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


def make_plan(**change):
  found = [
    items.Item((f"{image}.png",), split, image, study, patient)
    for patient, study, image, split in (
      ("p1", "s1", "i1", "train"),
      ("p1", "s2", "i2", "train"),
      ("p1", "s2", "i3", "train"),
      ("p2", "s3", "i4", "validate"),
      ("p3", "s4", "i5", "test"),
      ("p4", "s5", "i6", "train"),
    )
  ]
  return items.Plan("ours", Path(), found, {"image:blank": 2}, **change)


def hashed(kind, raw_id, dataset="ours"):
  return ids.hash_id(KEY, dataset, kind, raw_id)


@pytest.mark.parametrize(
  ("denied", "images", "unmatched"),
  [
    (["p1"], ["i1", "i2", "i3"], 0),
    (["s2"], ["i2", "i3"], 0),
    # The study's other image has the same report.
    (["i3", "i6"], ["i2", "i3", "i6"], 0),
    ([hashed("patient", "p1")], ["i1", "i2", "i3"], 0),
    ([hashed("study", "s2"), "i6"], ["i2", "i3", "i6"], 0),
    ([hashed("image", "i3")], ["i3"], 0),
    # Another dataset's hash, and the hash of another kind of id.
    ([hashed("image", "i3", "theirs"), hashed("study", "p1")], [], 2),
    # The test set is what the others are kept from.
    (["p2", "s4", hashed("image", "i5")], ["i4"], 0),
    (["p9", "p1", "P4"], ["i1", "i2", "i3"], 2),
  ],
)
def test_deny_list_marks_items(denied, images, unmatched, capsys):
  plan = make_plan(settings={"split": "official"})
  got = splits.apply_deny_list(plan, frozenset(denied), KEY)
  # None is taken out: shards are stretches of the plan.
  assert [item.image_id for item in got.items] == [
    item.image_id for item in plan.items
  ]
  assert [item.image_id for item in got.items if item.denied] == images
  assert {item.denied for item in got.items} <= {"", "denied:deny_list"}
  expected = {"deny_list:unmatched": unmatched} if unmatched else {}
  assert got.filtered == {"image:blank": 2, **expected}
  assert got.settings == {"split": "official", "deny_list_ids": len(denied)}
  assert plan == make_plan(settings={"split": "official"})
  warning = capsys.readouterr().err
  assert (f"{unmatched} of {len(denied)} ids" in warning) == (unmatched > 0)


UUID = "-".join(["0a1b2c3d"] * 5)
# What the plan has -> what a list may have for it, and what is another's.
SPELLINGS = {
  # NIH: in the name of a file, and in the table.
  "00000001": (["1", "0001"], ["10", "01x"]),
  "00000001_000.png": (["00000001_000"], ["00000001_001.png", "1_000.png"]),
  # Open-i
  "CXR1": (["1", "CXR1.xml"], ["11", "CXR11", "CXR"]),
  "1_IM-0001-3001": (
    ["CXR1_IM-0001-3001", "CXR1_IM-0001-3001.DCM", "1_IM-0001-3001.dcm.png"],
    ["CXR1_1_IM-0001-3001"],
  ),
  # CheXpert
  "patient1": (
    ["CheXpert-v1.0/train/patient1", "train/patient1/", "patient1"],
    ["patient01", "1", "CheXpert-v1.0"],
  ),
  "patient1/study2": (
    ["CheXpert-v1.0-small/train/patient1/study2"],
    ["patient2/study1", "train/patient1/study2/view1_frontal.jpg"],
  ),
  "train/patient1/study2/view1_frontal.jpg": (
    [
      "CheXpert-v1.0/train/patient1/study2/view1_frontal.jpg",
      "CheXpert-v1.0-small/train/patient1/study2/view1_frontal.jpg",
      "patient1/study2/view1_frontal",
    ],
    ["view1_frontal.jpg", "train/patient1/study2/view2_frontal.jpg"],
  ),
  # MIMIC
  "10000032": (
    ["p10000032", "files/p10/p10000032", "p10/p10000032/"],
    ["p10", "10000033", "q10000032", "s100000320"],
  ),
  "50414267": (
    ["s50414267", "p10/p10000032/s50414267.txt", "p10000032/s50414267"],
    ["p10000032"],
  ),
  UUID: (
    [f"{UUID}.dcm", f"files/p10/p10000032/s50414267/{UUID}.jpg"],
    [UUID[:-1], f"x/{UUID}"],
  ),
}


@pytest.mark.parametrize("kind", ["patient", "study", "image"])
@pytest.mark.parametrize("raw_id", SPELLINGS)
def test_deny_list_knows_the_spellings_of_the_sources(kind, raw_id):
  item = items.Item((), "train", "image", "study", "patient")
  item = dataclasses.replace(item, **{f"{kind}_id": raw_id})
  plan = items.Plan("ours", Path(), [item])
  right, wrong = SPELLINGS[raw_id]
  for entry in (raw_id, *right):
    got = splits.apply_deny_list(plan, {entry}, KEY)
    assert (got.items[0].denied, got.filtered) == ("denied:deny_list", {}), (
      entry
    )
  got = splits.apply_deny_list(plan, set(wrong), KEY)
  assert got.items[0].denied == ""
  assert got.filtered == {"deny_list:unmatched": len(wrong)}


@pytest.mark.parametrize("part", [".png", "0", "p10/", "CXR", "train/", "/"])
def test_long_lines_of_a_deny_list_take_no_time(part):
  start = time.process_time()
  entry = part * (2**20 // len(part))
  splits.apply_deny_list(make_plan(), {entry, f"{entry}x"}, KEY)
  assert time.process_time() - start < 5


def test_deny_list_is_read_a_line_an_id(tmp_path):
  path = tmp_path / "deny.txt"
  path.write_bytes(
    b"\xef\xbb\xbf007\r\n# of the test set\r\n\r\n p 1 \r\n007\n"
  )
  assert splits.read_deny_list(path) == {"007", "p 1"}


@pytest.mark.parametrize(
  ("data", "message"),
  [
    (b"# none yet\n", "holds no id"),
    (b"p1\n\xff\n", "not UTF-8"),
    (b"p1\n" + b"x" * 2**20, "row of 1048576"),
    (b"p\x001\n", "NUL"),
  ],
)
def test_hostile_deny_lists(tmp_path, data, message):
  path = tmp_path / "deny.txt"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=message) as error:
    splits.read_deny_list(path)
  assert "p1" not in str(error.value)
  with pytest.raises(ValueError, match="list none.txt cannot be read"):
    splits.read_deny_list(tmp_path / "none.txt")
