import re

import numpy as np
import pytest

from data_prep.phantom import findings as findings_lib
from data_prep.phantom import patients, phrases, reports

# A labeler of our own, written from the sentences and not from the code.
_WORDS = {
  "Atelectasis": "atelecta",
  "Cardiomegaly": "cardiomegaly|heart is enlarged|heart may be mildly enlarged"
  "|cardiac silhouette is enlarged|enlargement of the cardiac|cardiac enlarge",
  "Consolidation": "consolidation",
  "Edema": "edema",
  "Pleural Effusion": "effusion|pleural fluid",
  "Pneumothorax": "pneumothora",
  "Lung Lesion": "nodule|nodular",
  "Support Devices": "tube|line is|line tip|catheter|pacemaker|picc"
  "|central line|support devices|lines or tubes",
}
_DENIED = re.compile(r"\b(no|without)\b")
_UNSURE = re.compile(r"\b(may|possible|cannot be excluded|suspected)\b")


def _write(seed):
  patient = patients.draw(seed, 0)
  study = patient.studies[0]
  report = reports.write(
    study.findings,
    patient.sex == "F",
    study.pictures[0].portable,
    len(study.pictures),
    study.number > 0,
    np.random.default_rng(study.seed),
  )
  return study, report


def _body(text):
  """Returns the sentences of the findings and the impression."""
  body = "".join(re.split(r" (?:FINDINGS|IMPRESSION):", text)[1:])
  body = re.sub(r"\b\d\. ", "", " ".join(body.split()))
  return [part.lower() for part in re.findall(r"[^.]+\.", body)]


def _label(text):
  labels = {}
  for sentence in _body(text):
    # "without shift of the mediastinum" denies no finding before it, and a
    # later "which may represent pneumonia" doubts none.
    claim = sentence.split(", which may")[0].replace("without shift", "")
    for name, words in _WORDS.items():
      match = re.search(words, claim)
      if not match:
        continue
      if _UNSURE.search(claim):
        value = -1
      elif _DENIED.search(claim[: match.start()]):
        value = 0
      else:
        value = 1
      order = (0, -1, 1)
      old = labels.get(name, 0)
      labels[name] = max(old, value, key=order.index)
  return labels


@pytest.mark.parametrize("start", range(0, 400, 100))
def test_labels_are_what_the_sentences_say(start):
  for seed in range(start, start + 100):
    _, report = _write(seed)
    stated = {n: v for n, v in report.labels.items() if n in _WORDS}
    assert _label(report.text) == stated, report.text


def test_reports_agree_with_the_findings():
  mentioned = missed = 0
  for seed in range(400):
    study, report = _write(seed)
    has = {reports.LABELS[finding.name] for finding in study.findings}
    for name in _WORDS:
      if report.labels.get(name) == 1:
        assert name in has
      if report.labels.get(name) == 0:
        assert name not in has
    if "IMPRESSION" in report.text or "FINDINGS" in report.text:
      mentioned += sum(report.labels.get(name) in (1, -1) for name in has)
      missed += sum(name not in report.labels for name in has)
      well = not has - {"Support Devices"}
      assert well or "No Finding" not in report.labels
    else:
      assert report.labels == {}
  assert missed < 0.05 * mentioned


def test_layout_is_mimics():
  texts = [_write(seed)[1].text for seed in range(60)]
  for text in texts:
    lines = text.split("\n")
    assert lines[0] == " " * 33 + "FINAL REPORT"
    assert all(line.startswith(" ") for line in lines[:-1])
    assert max(map(len, lines)) <= 80
  assert any("FINDINGS:" in t and "IMPRESSION:" not in t for t in texts)
  assert any("FINDINGS:" not in t and "IMPRESSION:" in t for t in texts)


def test_named_sentences_stand_in_the_report():
  for seed in range(50):
    _, report = _write(seed)
    flat = " ".join(report.text.split())
    for sentence in report.named.values():
      assert sentence in flat


def test_phrasings_are_many_and_words_few():
  boxed = set(findings_lib.NAMES) - {"devices", "atelectasis"}
  for name in (*boxed, "plate", "volume loss"):
    assert len(set(phrases.PRESENT[name])) >= 8
  words = set()
  for seed in range(400):
    words |= set(re.findall("[a-z]+", _write(seed)[1].text.lower()))
  assert len(words) < 1000
