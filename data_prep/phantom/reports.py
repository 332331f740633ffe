"""Writes a study's report, and the labels that a reader would take from it."""

import dataclasses
import textwrap
from collections.abc import Sequence

import numpy as np

from data_prep.phantom import findings as findings_lib
from data_prep.phantom import phrases

LABELS = {
  "atelectasis": "Atelectasis",
  "cardiomegaly": "Cardiomegaly",
  "consolidation": "Consolidation",
  "devices": "Support Devices",
  "edema": "Edema",
  "effusion": "Pleural Effusion",
  "nodule": "Lung Lesion",
  "pneumothorax": "Pneumothorax",
}

# How often a finding that is there is called a mere possibility.
_UNSURE = {"mild": 0.12, "moderate": 0.03, "severe": 0.0}
# How often the impression leaves a finding to the section above it.
_LEFT_OUT = {"mild": 0.08, "moderate": 0.03, "severe": 0.0}
# How often a finding that is not there "cannot be excluded".
_HEDGE = 0.02


@dataclasses.dataclass(frozen=True)
class Sentence:
  """One statement.

  Attributes:
    text: ends with a full stop.
    labels: what it says, label -> 1 (present), 0 (absent), -1 (uncertain).
    finding: the index of the finding that it names, or None.
  """

  text: str
  labels: dict[str, int]
  finding: int | None = None


@dataclasses.dataclass(frozen=True)
class Report:
  """A report.

  Attributes:
    text: as MIMIC-CXR lays it out.
    labels: label -> 1, 0 or -1 over all sentences; present wins over
      uncertain, uncertain over absent; unmentioned ones are left out.
    named: index of a finding -> the sentence that names it, the impression's
      before the findings section's.
  """

  text: str
  labels: dict[str, int]
  named: dict[int, str]


def write(
  findings: Sequence[findings_lib.Finding],
  female: bool,
  portable: bool,
  num_views: int,
  follow_up: bool,
  rng: np.random.Generator,
) -> Report:
  """Returns the report of a study.

  Args:
    findings: what the pictures show.
    female: the patient's sex.
    portable: whether the pictures were taken at the bedside.
    num_views: pictures in the study.
    follow_up: whether an earlier study exists.
    rng: the study's own.
  """
  kind = rng.choice(
    ["both", "impression", "findings", "neither"], p=[0.74, 0.14, 0.10, 0.02]
  )
  described: list[Sentence] = []
  concluded: list[Sentence] = []
  if kind in ("both", "findings"):
    described = _describe(findings, follow_up, rng)
  if kind in ("both", "impression"):
    concluded = _conclude(findings, kind == "both", rng)
  person = str(rng.choice(["woman", "female"] if female else ["man", "male"]))
  indication = _pick(rng, phrases.INDICATION).format(
    person=person, Person=person.capitalize()
  )
  examination = "CHEST (PORTABLE AP)" if portable else "CHEST (PA AND LAT)"
  if num_views == 1 and not portable:
    examination = "CHEST (PA ONLY)"
  technique = (
    "Portable AP chest radiograph."
    if portable
    else (
      "Chest PA and lateral."
      if num_views > 1
      else "Single PA view of the chest."
    )
  )
  sections = [
    ("EXAMINATION", examination, 0.85),
    (str(rng.choice(["INDICATION", "HISTORY"])), indication, 0.9),
    ("TECHNIQUE", technique, 0.6),
    ("COMPARISON", "___." if follow_up else "None.", 0.8),
  ]
  lines = [" " * 33 + "FINAL REPORT"]
  for name, text, chance in sections:
    if rng.random() < chance:
      lines += [*_wrap(f"{name}:  {text}"), " "]
  for name, sentences in (("FINDINGS", described), ("IMPRESSION", concluded)):
    if sentences:
      lines += [f" {name}: ", " ", *_paragraph(sentences, name, rng), " "]
  if kind == "neither":
    lines += _wrap("Please refer to the separately dictated report.")
  spoken = concluded + described
  named: dict[int, str] = {}
  for sentence in spoken:
    if sentence.finding is not None:
      named.setdefault(sentence.finding, sentence.text)
  return Report(
    text="\n".join(lines) + "\n", labels=_labels(spoken), named=named
  )


def _labels(sentences: Sequence[Sentence]) -> dict[str, int]:
  weight = {0: 0, -1: 1, 1: 2}
  labels: dict[str, int] = {}
  for sentence in sentences:
    for name, value in sentence.labels.items():
      if weight[value] >= weight[labels.get(name, 0)]:
        labels[name] = value
  sick = [
    name
    for name, value in labels.items()
    if value and name != "Support Devices"
  ]
  if sentences and not sick:
    labels["No Finding"] = 1
  return labels


def _describe(
  findings: Sequence[findings_lib.Finding],
  follow_up: bool,
  rng: np.random.Generator,
) -> list[Sentence]:
  sentences = [
    _present(index, finding, rng) for index, finding in enumerate(findings)
  ]
  rng.shuffle(sentences)  # pyright: ignore
  has = {finding.name for finding in findings}
  denied: set[str] = set()
  for _ in range(int(rng.integers(2, 5))):
    sentence = _absent(has | denied, rng)
    if sentence is not None:
      sentences.insert(int(rng.integers(len(sentences) + 1)), sentence)
      denied |= {
        name for name, label in LABELS.items() if label in sentence.labels
      }
  healthy = [name for name in phrases.UNCERTAIN if name not in has | denied]
  if healthy and rng.random() < _HEDGE * len(healthy):
    name = str(rng.choice(healthy))
    ghost = findings_lib.draw_finding(name, rng, "mild")[0]
    text = _fill(_pick(rng, phrases.UNCERTAIN[name]), ghost, rng)
    sentences.append(Sentence(text, {LABELS[name]: -1, **_opacity(text, -1)}))
  for _ in range(int(rng.integers(1, 3))):
    aside = Sentence(_pick(rng, phrases.ASIDE), {})
    sentences.insert(int(rng.integers(len(sentences) + 1)), aside)
  if follow_up and rng.random() < 0.7:
    sentences.insert(0, Sentence(_pick(rng, phrases.CHANGE), {}))
  return sentences


def _conclude(
  findings: Sequence[findings_lib.Finding],
  described: bool,
  rng: np.random.Generator,
) -> list[Sentence]:
  order = sorted(
    range(len(findings)),
    key=lambda i: (
      findings[i].name == "devices",
      -findings_lib.SEVERITIES.index(findings[i].severity),
      i,
    ),
  )
  sentences = []
  for index in order:
    finding = findings[index]
    left_out = _LEFT_OUT[finding.severity]
    if described and sentences and rng.random() < left_out:
      continue
    sentences.append(_present(index, finding, rng))
  has = {finding.name for finding in findings}
  if not has - {"devices"}:
    sentences.insert(0, Sentence(_pick(rng, phrases.NORMAL), {}))
  if rng.random() < 0.45:
    sentence = _absent(has, rng)
    if sentence is not None:
      sentences.append(sentence)
  return sentences


def _present(
  index: int, finding: findings_lib.Finding, rng: np.random.Generator
) -> Sentence:
  name, value = finding.name, 1
  templates = phrases.PRESENT.get(finding.form) or phrases.PRESENT[name]
  if name != "devices" and rng.random() < _UNSURE[finding.severity]:
    templates, value = phrases.UNCERTAIN[name], -1
  text = _fill(_pick(rng, templates), finding, rng)
  labels = {LABELS[name]: value, **_opacity(text, value)}
  if name == "consolidation" and rng.random() < 0.2:
    text = text[:-1] + ", which may represent pneumonia."
    labels["Pneumonia"] = -1
  return Sentence(text, labels, index)


def _opacity(text: str, value: int) -> dict[str, int]:
  """Returns the label of a word that templates of several findings use."""
  # The opacity is there even where its cause is in doubt.
  return {"Lung Opacity": 1} if value and "opaci" in text.lower() else {}


def _absent(has: set[str], rng: np.random.Generator) -> Sentence | None:
  fitting = [
    (text, names)
    for text, names in phrases.ABSENT
    if not has.intersection(names)
    and not ("lungs are clear" in text and has - {"devices"})
  ]
  if not fitting:
    return None
  text, names = fitting[int(rng.integers(len(fitting)))]
  return Sentence(text, {LABELS[name]: 0 for name in names})


def _fill(
  template: str, finding: findings_lib.Finding, rng: np.random.Generator
) -> str:
  both = finding.side == "both"
  rank = findings_lib.SEVERITIES.index(finding.severity)
  words = phrases.SEVERITY.get(finding.name)
  severity = _pick(rng, words[rank]) if words else ""
  where = phrases.WHERE.get((finding.side, finding.zone), ("lungs",))
  text = template.format(
    sev=severity,
    Sev=severity.capitalize(),
    side="bilateral" if both else finding.side,
    Side=finding.side.capitalize(),
    side2="left and right" if both else finding.side,
    where=_pick(rng, where),
    s="s" if both else "",
    **{"is": "are" if both else "is"},
  )
  return text[0].upper() + text[1:]


def _paragraph(
  sentences: Sequence[Sentence], name: str, rng: np.random.Generator
) -> list[str]:
  texts = [sentence.text for sentence in sentences]
  if name == "IMPRESSION" and len(texts) > 1 and rng.random() < 0.5:
    return [
      line
      for number, text in enumerate(texts, 1)
      for line in _wrap(f"{number}. {text}")
    ]
  return _wrap("  ".join(texts))


def _wrap(text: str) -> list[str]:
  return textwrap.wrap(
    text,
    78,
    initial_indent=" ",
    subsequent_indent=" ",
    break_long_words=False,
    break_on_hyphens=False,
  )


def _pick(rng: np.random.Generator, options: Sequence[str]) -> str:
  return options[int(rng.integers(len(options)))]
