import pytest

from data_prep import rejects, reports

WHOLE = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___-year-old woman with cough  // ? pneumonia

 TECHNIQUE:  Chest PA and lateral

 COMPARISON:  ___ at 10:32.

 FINDINGS:

 The heart is mildly
 enlarged.  No effusion.

 IMPRESSION:

 1.  Mild cardiomegaly.
 2.  No pneumonia.
"""


def test_whole_report():
  assert reports.parse_report(WHOLE) == {
    "examination": "CHEST (PA AND LAT)",
    "indication": "___-year-old woman with cough // ? pneumonia",
    "technique": "Chest PA and lateral",
    "comparison": "___ at 10:32.",
    "findings": "The heart is mildly enlarged. No effusion.",
    "impression": "1. Mild cardiomegaly. 2. No pneumonia.",
  }


@pytest.mark.parametrize(
  ("text", "findings", "impression"),
  [
    ("FINDINGS: A. IMPRESSION: B.", "A.", "B."),
    ("Findings: A.\nImpression: B.", "A.", "B."),
    (" FINDINGS AND IMPRESSION: A.", "", "A."),
    (" FINDINGS/IMPRESSION:\n A.", "", "A."),
    (" CONCLUSION: B.", "", "B."),
    (" IMPRESSIONS : B.", "", "B."),
    (" PA AND LATERAL CHEST RADIOGRAPHS: A.\n IMPRESSION: B.", "A.", "B."),
    (" REASON FOR EXAM: chest pain\n IMPRESSION: B.", "", "B."),
    (" EXAM: PORTABLE CHEST\n The lungs are clear.", "", ""),
    # Without a heading nothing is guessed.
    ("                 FINAL REPORT\n The lungs are clear.", "", ""),
    (" FINDINGS: A.\n\n FINDINGS: more.", "A. more.", ""),
    (" FINDINGS:\n\n IMPRESSION: B.", "", "B."),
    # A preliminary read does not speak for the final report.
    (
      " WET READ: ___ 9:12 PM\n Old.\n IMPRESSION: Old.\n"
      "      FINAL REPORT\n FINDINGS: New.\n",
      "New.",
      "",
    ),
    # What is added afterwards is kept apart.
    (
      "      FINAL REPORT\n IMPRESSION: B.\n      FINAL ADDENDUM\n Added.",
      "",
      "B.",
    ),
    # A time is no heading, nor is a lower-case sentence with a colon.
    (
      " FINDINGS: Seen at\n AT 10:30. Tubes: two.",
      "Seen at AT 10:30. Tubes: two.",
      "",
    ),
    ("IMPRESSION: A\\nB  ____  C\tD\x07", "", "A B ___ C D"),
    ("", "", ""),
  ],
)
def test_sections(text, findings, impression):
  sections = reports.parse_report(text)
  assert sections.get("findings", "") == findings
  assert sections.get("impression", "") == impression


def test_text_before_any_heading_has_no_name():
  sections = reports.parse_report("Lungs clear.\nWET READ: fine")
  assert sections == {"": "Lungs clear.", "wet read": "fine"}


def test_many_lines_take_no_time():
  reports.parse_report("A B, " * 50_000 + "\n" + "X" * 100_000)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b"version https://git-lfs.github.com/spec/v1\noid", "report:lfs_pointer"),
    (b"IMPRESSION: \xff", "report:not_utf8"),
    (b"IMPRESSION: \0", "report:binary"),
    (b"x" * (2**20 + 1), "report:too_large"),
  ],
)
def test_unusable_reports(tmp_path, data, reason):
  path = tmp_path / "r.txt"
  path.write_bytes(data)
  with pytest.raises(rejects.RejectError, match=reason):
    reports.read_report(path)


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (b'<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "report:unsafe_xml"),
    ("<!DOCTYPE a []><a/>".encode("utf-16"), "report:not_utf8"),
    (b"<a>", "report:not_xml"),
    (b"", "report:not_xml"),
  ],
)
def test_unusable_xml(tmp_path, data, reason):
  path = tmp_path / "r.xml"
  path.write_bytes(data)
  with pytest.raises(rejects.RejectError, match=reason):
    reports.read_xml(path)


def test_headings_of_parts_stay_in_the_text():
  text = (
    " FINDINGS:\n LUNGS: Clear.\n HEART: Enlarged.\n\n"
    " IMPRESSION:\n 1. Small effusion.\n PNEUMOTHORAX: None.\n"
    " RECOMMENDATION(S): CT.\n NOTIFICATION: By phone.\n"
  )
  got = reports.parse_report(text)
  assert got["findings"] == "LUNGS: Clear. HEART: Enlarged."
  assert got["impression"].startswith("1. Small effusion. PNEUMOTHORAX: None.")
  assert "phone" not in got["impression"]


def test_a_body_without_heading_is_not_the_indication():
  text = " INDICATION:\n\n Cough.\n\n The lungs are clear.\n"
  assert reports.parse_report(text) == {
    "indication": "Cough.",
    "": "The lungs are clear.",
  }
