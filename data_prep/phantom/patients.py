"""Who the synthetic patients are, and what each of their pictures shows.

A patient is drawn from `SeedSequence((seed, index))` alone, so that it comes
out the same whichever process draws it and however many others there are.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import film, frontal, frontal_findings, lateral
from data_prep.phantom import findings as findings_lib

# Twenty patients' datasets; the first six hold each dataset at least once.
# M mimic_cxr, C chexpert, P padchest.
_CYCLE = tuple(
  {"M": "mimic_cxr", "C": "chexpert", "P": "padchest"}[letter]
  for letter in "MCPMMCMMPMMCMMPMMMMM"
)
# Splits go round within a dataset, so that a few patients fill all of them.
_SPLITS = {
  "mimic_cxr": ["train", "validate", "test", *["train"] * 9],
  "chexpert": ["valid", "test", "test", "valid", "test"],
  "padchest": ["all"],
}


@dataclasses.dataclass(frozen=True)
class Picture:
  """One picture to take.

  Attributes:
    view: "frontal" or "lateral".
    portable: taken at the bedside, from the front (AP).
    exposure: how it is taken.
  """

  view: str
  portable: bool
  exposure: film.Exposure


@dataclasses.dataclass(frozen=True)
class Study:
  """One examination.

  Attributes:
    number: 0 for the patient's first.
    day: days since the first of 2012, of a made-up calendar.
    findings: what is there, empty for a normal chest.
    pictures: at least one.
    seed: of the report and of all else about the study.
  """

  number: int
  day: int
  findings: tuple[findings_lib.Finding, ...]
  pictures: tuple[Picture, ...]
  seed: int

  def has(self, name: str) -> bool:
    """Returns whether a finding of that name is there."""
    return any(finding.name == name for finding in self.findings)


@dataclasses.dataclass(frozen=True)
class Patient:
  """One synthetic patient.

  Attributes:
    seed: of the run.
    index: in the run, from 0.
    dataset: "mimic_cxr", "chexpert" or "padchest".
    rank: of the patient within the dataset, from 0.
    split: by the dataset's own names.
    split_rank: of the patient within the split, from 0.
    sex: "F" or "M".
    age: years at the first study.
    anatomy: without findings.
    studies: in time's order.
  """

  seed: int
  index: int
  dataset: str
  rank: int
  split: str
  split_rank: int
  sex: str
  age: int
  anatomy: anatomy_lib.Anatomy
  studies: tuple[Study, ...]


def draw(seed: int, index: int) -> Patient:
  """Returns patient `index` of the run that `seed` names."""
  rng = np.random.default_rng(np.random.SeedSequence((seed, index)))
  dataset, rank = _turn(_CYCLE, index)
  split, split_rank = _turn(_SPLITS[dataset], rank)
  sex = "F" if rng.random() < 0.48 else "M"
  anatomy = anatomy_lib.draw(
    rng, sex == "F", float(rng.uniform(*findings_lib.NORMAL_HEART))
  )
  day = int(rng.integers(0, 1500))
  studies = []
  for number in range(2 if rng.random() < 0.12 else 1):
    day += int(rng.integers(2, 200)) if number else 0
    studies.append(_draw_study(rng, number, day))
  return Patient(
    seed=seed,
    index=index,
    dataset=dataset,
    rank=rank,
    split=split,
    split_rank=split_rank,
    sex=sex,
    age=int(np.clip(rng.normal(62, 16), 18, 96)),
    anatomy=anatomy,
    studies=tuple(studies),
  )


def _turn(cycle: Sequence[str], number: int) -> tuple[str, int]:
  """Returns the name at turn `number` of a cycle, and how often it came yet."""
  rounds, place = divmod(number, len(cycle))
  name = cycle[place]
  return name, rounds * cycle.count(name) + list(cycle[:place]).count(name)


def _draw_study(rng: np.random.Generator, number: int, day: int) -> Study:
  findings = findings_lib.draw_study(rng)
  tubes = any(finding.form == "endotracheal tube" for finding in findings)
  portable = bool(tubes or rng.random() < (0.35 if findings else 0.1))
  views = ["frontal"]
  if not portable and rng.random() < 0.30:
    views.append("lateral")
  return Study(
    number=number,
    day=day,
    findings=findings,
    pictures=tuple(
      Picture(view, portable, film.draw_exposure(rng, view, portable))
      for view in views
    ),
    seed=int(rng.integers(2**32)),
  )


def photograph(
  anatomy: anatomy_lib.Anatomy,
  findings: Sequence[findings_lib.Finding],
  picture: Picture,
) -> tuple[np.ndarray, list[list[frontal_findings.Box]]]:
  """Takes a picture.

  Args:
    anatomy: without findings.
    findings: of the study.
    picture: which to take.

  Returns:
    The picture, (H, W) float32 in [0, 1] with dense parts bright, and a list
    a finding of its boxes (x0, y0, x1, y1) in pixels; laterals have none.
  """
  canvas = picture.exposure.canvas()
  anatomy = frontal_findings.adapt(anatomy, findings)
  boxes: list[list[frontal_findings.Box]] = [[] for _ in findings]
  if picture.view == "lateral":
    attenuation = lateral.draw(canvas, anatomy, findings)
  else:
    layers = frontal.draw(canvas, anatomy)
    boxes = frontal_findings.draw(canvas, layers, anatomy, findings)
    attenuation = layers.attenuation()
  return film.develop(attenuation, canvas, picture.exposure), boxes
