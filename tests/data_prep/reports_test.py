import dataclasses
import time

import pytest

from data_prep import items, rejects, reports
from tests.data_prep import awkward_reports

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


@pytest.mark.parametrize(
  ("text", "sections"),
  [report[1:] for report in awkward_reports.REPORTS],
  ids=[report[0] for report in awkward_reports.REPORTS],
)
def test_awkward_reports(text, sections):
  assert reports.parse_report(text) == sections


@pytest.mark.parametrize("before", ["\n", "\n\n", " ", "  "])
@pytest.mark.parametrize("text", ["No effusion.", "NO EFFUSION"])
@pytest.mark.parametrize("heading", ["", "FINDINGS: ", "IMPRESSION: "])
@pytest.mark.parametrize(
  "tail",
  [
    "ELECTRONICALLY SIGNED BY: JANE ROE",
    "Electronically signed by Jane Roe MD on 3/4/2020",
    "*** Electronically Signed by Jane Roe ***",
    "Signed electronically by Jane Roe",
    "This report has been electronically signed by JANE ROE",
    "DICTATED BY JANE ROE",
    "Dictated By: Jane Roe",
    "Dictated and Authenticated by: Jane Roe",
    "TRANSCRIBED BY: JANE ROE",
    "-- Authenticated by Jane Roe",
    "Read by Jane Roe",
    "READ BY: JANE ROE",
    "Final report read by Jane Roe",
    "Interpreted by Jane Roe",
    "Reported by the attending radiologist Jane Roe",
    "PATIENT NAME: JANE ROE",
    "Patient's name: Jane Roe",
    "PATIENT: JANE ROE",
    "MRN: 12345 ROE",
    "(MRN 12345) ROE",
    "Medical Record Number: 12345 ROE",
    "RADIOLOGIST: JANE ROE",
    "Attending Physician: Jane Roe",
    "ACCESSION #: 12345 ROE",
    "D.O.B.: 1/2/1970 ROE",
    "DATE OF BIRTH : 1/2/1970 ROE",
  ],
)
def test_personal_data_stays_out(heading, text, before, tail):
  sections = reports.parse_report(f"{heading}{text}{before}{tail}")
  name = heading.lower().strip(": ")
  assert sections.pop(name) == text
  assert list(sections) in (["personal"], ["signature"])
  assert "ROE" in sections.popitem()[1].upper()


@pytest.mark.parametrize(
  ("text", "whole"),
  [
    ("LUNGS: Clear.\nHEART: Normal.", "LUNGS: Clear. HEART: Normal."),
    ("MRI BRAIN: Mass (arrow).", "MRI BRAIN: Mass (arrow)."),
    ("CT scan: a mass.", "CT scan: a mass."),
    ("HISTORY: Cough.\n\nClear.\nSigned by: A. Reader", "Clear."),
    ("HISTORY: Cough.", ""),
    ("___ XXXX.", ""),
  ],
)
def test_parts_of_a_report_without_findings_and_impression(text, whole):
  assert reports.join_parts(reports.parse_report(text)) == whole


@pytest.mark.parametrize(
  ("heading", "section"),
  [
    # One letter less, more, changed; two swapped; all from real reports.
    ("MPRESSION", "impression"),
    ("IMPRSSION", "impression"),
    ("IMPRRESSION", "impression"),
    ("IMOREESSION", None),
    ("IMPRESSOIN", "impression"),
    ("FINDINDGS", "findings"),
    ("COINCLUSION", "impression"),
    ("NDICATION", "indication"),
    ("COMPARISIONS", "comparison"),
    # Other words are not mistaken for them.
    ("COMPRESSION", None),
    ("DEPRESSION", None),
    ("MEDICATION", None),
    ("EXCLUSION", None),
    ("LUNGS", None),
  ],
)
def test_typing_errors_in_headings(heading, section):
  text = f"TECHNIQUE: A.\n{heading}: B.\n"
  assert reports.parse_report(text).get(section or heading.lower()) == "B."


@pytest.mark.parametrize(
  "unit",
  [
    *(":", "_", " ", "\n", "a\t", "A ", "*", "- #", "1:22", "A/&", "\\n", "\0"),
    *("FINAL REPORT\n", "FINDINGS:\n", "a IMPRESSION: ", "HISTORY: a\n\n"),
    *("HISTORY:\n\n\n", "WET READ\n__________\n", "Findings\n", "XXXX"),
    *("FINAL ADDENDUM\nIMPRESSION: a\n", "CHEST: a\nHISTORY: a\n\n"),
    *(
      "Z" * 60 + ": a\n",
      "a. FINDINGS AND ",
      "THE HISTORY OF CHEST ",
      "\u2028",
    ),
    *("Report read and ", "Signed by ", "(( ", "#", "MRN ", "Attending "),
  ],
)
def test_time_is_in_proportion_to_length(unit):
  """The largest report allowed takes a second or two, at worst.

  What is quadratic in lines, chunks or blanks would take minutes: hence a
  limit that no slow machine reaches.
  """
  started = time.process_time()
  reports.parse_report(unit * (reports.MAX_BYTES // len(unit)))
  assert time.process_time() - started < 20


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


def _item(name: str, report: str, *, labelled: bool = True) -> items.Item:
  return items.Item(
    image_paths=(f"{name}.png",),
    split="train",
    image_id=name,
    study_id=report,
    patient_id="p",
    report_paths=(f"none/{report}.txt", f"{report}.txt") if report else (),
    labels={"Edema": 1} if labelled else {},
  )


def test_fill_reads_each_report_once(tmp_path, monkeypatch):
  reads = []
  read_report = reports.read_report
  monkeypatch.setattr(
    reports,
    "read_report",
    lambda path: reads.append(path.name) or read_report(path),
  )
  names = [f"r{i:03}" for i in range(600)]
  for name in names:
    (tmp_path / f"{name}.txt").write_text(
      f"FINDINGS: {name}.\nIMPRESSION: I {name}."
    )
  plan = items.Plan(
    "x",
    tmp_path,
    [_item(f"{name}{view}", name) for name in names for view in "ab"],
    {"split:none": 3},
    (("i", "file:odd"),),
    {"seed": 1},
  )
  got, notes = reports.fill(plan, num_threads=3)
  assert sorted(reads) == [f"{name}.txt" for name in names]
  assert notes == {}
  assert got == dataclasses.replace(
    plan,
    items=[
      dataclasses.replace(
        item,
        report_paths=(),
        findings=f"{item.study_id}.",
        impression=f"I {item.study_id}.",
      )
      for item in plan.items
    ],
  )


@pytest.mark.parametrize(
  ("data", "reason"),
  [
    (None, "report:missing"),
    (b"Nothing with a heading.", "report:no_findings_or_impression"),
    (b"", "report:no_findings_or_impression"),
    (b"version https://git-lfs.github.com/spec/v1\noid", "report:lfs_pointer"),
    (b"IMPRESSION: \xff", "report:not_utf8"),
    (b"IMPRESSION: \0", "report:binary"),
    (b"x" * (2**20 + 1), "report:too_large"),
  ],
)
def test_images_without_report_live_by_their_labels(tmp_path, data, reason):
  if data is not None:
    (tmp_path / "r.txt").write_bytes(data)
  plan = items.Plan(
    "x",
    tmp_path,
    [_item("a", "r"), _item("b", "r", labelled=False), _item("c", "")],
  )
  got, notes = reports.fill(plan)
  assert got.items == [
    dataclasses.replace(plan.items[0], report_paths=()),
    plan.items[2],
  ]
  assert got.rejected == (("b", reason),)
  assert notes == {reason: 1}


@pytest.mark.parametrize(
  ("name", "reason"),
  [
    ("../r.txt", "path:outside_source_dir"),
    ("a\0", "path:invalid"),
    ("x" * 5000, "report:unreadable"),
  ],
)
def test_hostile_paths_of_reports_are_counted(tmp_path, name, reason):
  item = dataclasses.replace(_item("a", "r"), report_paths=(name,))
  got, notes = reports.fill(items.Plan("x", tmp_path, [item]))
  assert notes == {reason: 1}
  assert got.items[0].impression == ""


def test_reports_of_denied_items_are_not_read(tmp_path):
  (tmp_path / "r.txt").write_text("IMPRESSION: Read.")
  item = dataclasses.replace(_item("a", "r"), denied="denied:deny_list")
  got, notes = reports.fill(items.Plan("x", tmp_path, [item]))
  assert got.items == [dataclasses.replace(item, report_paths=())]
  assert notes == {}


def test_fill_leaves_texts_alone_that_are_there(tmp_path):
  item = dataclasses.replace(_item("a", ""), impression="Given.")
  plan = items.Plan("x", tmp_path, [item])
  assert reports.fill(plan) == (plan, {})
