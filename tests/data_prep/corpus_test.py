"""What is refused as no corpus, what is counted, and what is never said."""

import base64
import dataclasses
import json

import numpy as np
import pytest

from data_prep import corpus

FINDINGS = ("effusion", "edema", "nodule", "mass", "fracture", "scar", "air")
PLACES = ("left", "right", "apical", "basal", "hilar", "upper", "lower")


def _reports(count: int) -> list[str]:
  """Returns texts of which no two are alike, digits aside."""
  rng = np.random.default_rng(0)
  texts = {
    " ".join(
      f"{rng.choice(PLACES)} {rng.choice(FINDINGS)} near the"
      f" {rng.choice(PLACES)} {rng.choice(FINDINGS)}."
      for _ in range(4)
    )
    for _ in range(2 * count)
  }
  return sorted(texts)[:count]


POINTER = (
  "version https://git-lfs.github.com/spec/v1 oid sha256:"
  + "0" * 64
  + " size 9"
)
ENCODED = base64.b64encode(bytes(range(100))).decode()


@pytest.mark.parametrize(
  ("bad", "message"),
  [
    ([POINTER], "1 of 201 texts are pointers"),
    (["oid sha256:4d7a size 20"], "1 of 201 texts are pointers"),
    (["/annex/objects/SHA256E-s1--0"], "1 of 201 texts are pointers"),
    ([f"See {ENCODED} here."], "1 of 201 texts hold encoded data"),
    (["<p>No edema.</p>"] * 3, "3 of 203 texts hold HTML"),
    (["No&nbsp;edema."] * 3, "3 of 203 texts hold HTML"),
    (["<HTML lang='en'>", "<br/>", "a<br>b"], "3 of 203 texts hold HTML"),
    (["Normal."] * 1800, "1800 of 2000 texts are the same"),
    # Alike but for case, digits and blanks.
    (
      [f"See  Image {i}." for i in range(900)]
      + [f"see image {i}." for i in range(900)],
      "1800 of 2000 texts are the same",
    ),
  ],
)
def test_what_is_no_corpus_is_refused(bad, message):
  with pytest.raises(ValueError, match=message) as error:
    corpus.check([*_reports(200), *bad])
  for text in bad:
    assert text not in str(error.value)


@pytest.mark.parametrize(
  "fair",
  [
    ["<p>No edema.</p>"] * 2,
    ["Heart size < 15 cm, lung > 2 cm & R&D; x<y>z."] * 3,
    ["Normal."] * 1799,
    ["=" * 80, "-" * 80, "A" * 80, "pneumono" * 10],
    ["XXXX<XXXX>technologist"],
    ["The oid is 5; version 2 of the report."],
  ],
)
def test_what_is_odd_but_text_passes(fair):
  assert corpus.check([*_reports(200), *fair]).texts == 200 + len(fair)


@pytest.mark.parametrize(
  ("count", "warnings"),
  [
    (66, []),
    (
      67,
      ["  warning: 25.1% of 267 texts are the same, expected below 25%"],
    ),
  ],
)
def test_a_repeated_text_is_warned_of_and_not_quoted(count, warnings):
  lines = (
    corpus.check([*_reports(200), *["Quimby."] * count]).format().splitlines()
  )
  assert [line for line in lines if "warning" in line] == warnings


def test_small_corpora_may_repeat_themselves_but_not_throughout():
  assert corpus.check(["Normal."] * 98 + ["Edema."]).same_share == 0.9899
  assert corpus.check(["Normal."] * 9).same_share == 1.0
  with pytest.raises(ValueError, match="all 10 texts are the same"):
    corpus.check(["Normal."] * 10)


@pytest.mark.parametrize("texts", [[], ["", "", ""]])
def test_labels_alone_need_no_text(texts):
  got = corpus.check(texts)
  assert got == corpus.Statistics(
    empty=len(texts), private=dict.fromkeys(got.private, 0)
  )
  assert got.format() == "reports: none"


def test_statistics_against_a_count_by_hand():
  texts = ["Heart normal.", "", "___ XXXX no x-ray, don't.", "edema Edema 2.5"]
  got = corpus.check(iter(texts))
  assert got.to_dict() == {
    "texts": 3,
    "empty": 1,
    "characters": {"min": 13, "median": 15, "p95": 25, "max": 25},
    "words": {"min": 2, "median": 2, "p95": 3, "max": 3},
    # heart normal no x-ray don't edema
    "vocabulary": 6,
    "placeholder_share": 0.2222,
    "same_share": 0.3333,
    "private": {"dates": 0, "phones": 0, "emails": 0, "names": 0},
  }
  assert json.loads(json.dumps(got.to_dict())) == got.to_dict()


def test_lengths_against_numpy():
  texts = _reports(200)
  got = corpus.check(texts)
  lengths = sorted(map(len, texts))
  assert got.characters is not None
  assert dataclasses.astuple(got.characters) == (
    lengths[0],
    lengths[99],
    lengths[189],
    lengths[-1],
  )


@pytest.mark.parametrize(
  ("kind", "text"),
  [
    ("dates", "Compared to 3/14/2011."),
    ("dates", "Compared to 2011-03-14."),
    ("dates", "Compared to 14.03.11."),
    ("dates", "Compared to march 3, 2011."),
    ("phones", "Called (617) 555-0143."),
    ("phones", "Called 617-555-0143 twice."),
    ("phones", "Called +1 617 555 0143."),
    ("emails", "Sent to jane.doe@clinic.example."),
    ("names", "Told Dr. Quimby."),
    ("names", "Told DR Quimby."),
    ("names", "Mrs. O'Hara fell."),
  ],
)
def test_personal_data_is_counted_and_not_quoted(kind, text):
  got = corpus.check([text, "No edema."])
  assert got.private == {name: int(name == kind) for name in got.private}
  assert got.format().splitlines()[-1] == (
    f"  warning: texts with what looks like personal data: 1 {kind}"
  )
  for secret in ("2011", "0143", "clinic", "Quimby", "Hara"):
    assert secret not in got.format() + json.dumps(got.to_dict())


@pytest.mark.parametrize(
  "text",
  [
    "Compared to ___ at 10:32, 2.5 x 3.0 cm, T11-12.",
    "Told Dr. ___ by phone. Dr. XXXX agrees. dr quimby",
    "Views 1-2 of 3/4, 40-50 %, 1.2.3",
    "Marked by 12345678901 and 2011.",
  ],
)
def test_what_only_resembles_personal_data_is_not_counted(text):
  assert not any(corpus.check([text]).private.values())


@pytest.mark.parametrize(
  "unit",
  ["<p ", "&", "&#1", "1-", "a@", "x", "X", "_", "Dr", "a'-", "may ", "("],
)
def test_one_long_text_takes_no_long_time(unit):
  """Each pattern reads a bounded length ahead: under a second, or hours."""
  assert corpus.check([unit * (2**20 // len(unit)), "a"]).texts == 2
