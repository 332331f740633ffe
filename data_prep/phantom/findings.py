"""What the phantoms may have, how often and how plainly: the knobs.

Everything that makes the phantoms harder or easier to read stands in the three
tables below. A finding is a plan; `frontal_findings` and `lateral_findings`
draw it, `reports` puts it in words.
"""

import dataclasses

import numpy as np

SEVERITIES = ("mild", "moderate", "severe")
SEVERITY_WEIGHTS = (0.10, 0.38, 0.52)

# Patients come in kinds, so that what goes together in life does so here.
# kind: (share of studies, {finding: chance in that kind})
KINDS = {
  "well": (0.22, {"devices": 0.35}),
  "heart failure": (
    0.24,
    {
      "cardiomegaly": 0.85,
      "edema": 0.72,
      "effusion": 0.50,
      "atelectasis": 0.15,
      "consolidation": 0.06,
      "devices": 0.60,
    },
  ),
  "infection": (
    0.21,
    {
      "consolidation": 0.85,
      "effusion": 0.24,
      "atelectasis": 0.12,
      "edema": 0.10,
      "cardiomegaly": 0.10,
      "devices": 0.40,
    },
  ),
  "after surgery": (
    0.18,
    {
      "atelectasis": 0.80,
      "effusion": 0.40,
      "pneumothorax": 0.15,
      "cardiomegaly": 0.15,
      "consolidation": 0.10,
      "edema": 0.10,
      "devices": 0.90,
    },
  ),
  "other": (
    0.20,
    {
      "nodule": 0.60,
      "pneumothorax": 0.40,
      "cardiomegaly": 0.20,
      "effusion": 0.20,
      "consolidation": 0.20,
      "atelectasis": 0.20,
      "edema": 0.20,
      "devices": 0.45,
    },
  ),
}


@dataclasses.dataclass(frozen=True)
class Look:
  """Ranges (low, high) for mild, moderate and severe.

  Attributes:
    extent: in chest widths; of cardiomegaly the cardiothoracic ratio.
    contrast: the share of the lung's air that it takes the place of, at its
      densest; of nodules, devices and the air of a pneumothorax the
      attenuation, where a lung is about 0.4 less dense than soft tissue.
  """

  extent: tuple[tuple[float, float], ...]
  contrast: tuple[tuple[float, float], ...]


LOOKS = {
  "cardiomegaly": Look(
    ((0.57, 0.61), (0.62, 0.68), (0.67, 0.75)), ((0.0, 0.0),) * 3
  ),
  "effusion": Look(
    ((0.28, 0.34), (0.36, 0.46), (0.48, 0.62)),
    ((0.80, 0.95), (0.90, 1.0), (0.95, 1.05)),
  ),
  "consolidation": Look(
    ((0.125, 0.155), (0.155, 0.19), (0.18, 0.23)),
    ((0.78, 0.90), (0.86, 0.98), (0.94, 1.05)),
  ),
  "atelectasis": Look(
    ((0.24, 0.30), (0.29, 0.38), (0.35, 0.46)),
    ((0.90, 1.00), (0.95, 1.10), (1.00, 1.15)),
  ),
  "edema": Look(
    ((0.09, 0.13), (0.11, 0.16), (0.14, 0.20)),
    ((0.22, 0.32), (0.32, 0.48), (0.48, 0.68)),
  ),
  "pneumothorax": Look(
    ((0.10, 0.14), (0.14, 0.20), (0.20, 0.28)),
    ((0.13, 0.16), (0.15, 0.19), (0.17, 0.21)),
  ),
  "nodule": Look(
    ((0.040, 0.050), (0.050, 0.065), (0.065, 0.085)),
    ((0.28, 0.34), (0.32, 0.40), (0.38, 0.46)),
  ),
  "devices": Look(((0.0, 0.0),) * 3, ((0.70, 0.95),) * 3),
}

# A heart below the smallest cardiomegaly, with a gap no reader would argue on.
NORMAL_HEART = (0.38, 0.48)

NAMES = tuple(LOOKS)
DEVICES = (
  "endotracheal tube",
  "jugular line",
  "subclavian line",
  "pacemaker",
  "nasogastric tube",
  "chest tube",
)


@dataclasses.dataclass(frozen=True)
class Finding:
  """One finding of one study.

  Attributes:
    name: one of `NAMES`.
    severity: one of `SEVERITIES`.
    side: "left", "right", "both" or "" (of the patient, not of the image).
    zone: "upper", "mid", "lower" or "".
    form: what kind: of atelectasis "plate" or "volume loss", of devices one
      of `DEVICES`, else "".
    extent, contrast: drawn from `LOOKS`.
    seed: of the details of its drawing.
  """

  name: str
  severity: str
  side: str
  zone: str
  form: str
  extent: float
  contrast: float
  seed: int

  @property
  def sides(self) -> tuple[int, ...]:
    """The image's sides: -1 left of the image, which is the patient's right."""
    return {"right": (-1,), "left": (1,), "both": (-1, 1), "": ()}[self.side]


def draw_study(rng: np.random.Generator) -> tuple[Finding, ...]:
  """Returns the findings of a study, none for a normal one."""
  kinds = list(KINDS.values())
  weights = np.array([weight for weight, _ in kinds])
  chances = kinds[rng.choice(len(kinds), p=weights / weights.sum())][1]
  names = [name for name in chances if rng.random() < chances[name]]
  sick = {name: p for name, p in chances.items() if name != "devices"}
  if sick and not set(names) & set(sick):
    p = np.array(list(sick.values()))
    names.append(str(rng.choice(list(sick), p=p / p.sum())))
  return tuple(finding for name in names for finding in draw_finding(name, rng))


def draw_finding(
  name: str, rng: np.random.Generator, severity: str | None = None
) -> list[Finding]:
  """Returns one finding called `name`, or one to four devices."""
  if name == "devices":
    count = rng.choice([1, 2, 3, 4], p=[0.45, 0.35, 0.15, 0.05])
    forms = rng.choice(
      DEVICES, size=count, replace=False, p=[0.18, 0.19, 0.15, 0.19, 0.16, 0.13]
    )
    return [_draw(name, str(form), "mild", rng) for form in forms]
  if severity is None:
    severity = str(rng.choice(SEVERITIES, p=SEVERITY_WEIGHTS))
  form = ""
  if name == "atelectasis":
    form = "plate" if rng.random() < 0.75 else "volume loss"
  return [_draw(name, form, severity, rng)]


def _draw(
  name: str, form: str, severity: str, rng: np.random.Generator
) -> Finding:
  one = "left" if rng.random() < 0.5 else "right"
  side, zone = one, ""
  if name in ("cardiomegaly",):
    side = ""
  elif name == "edema":
    side = "both" if rng.random() < 0.8 else one
  elif name == "effusion":
    side = "both" if rng.random() < 0.35 else one
  elif name in ("consolidation", "nodule"):
    zone = str(rng.choice(["upper", "mid", "lower"], p=[0.34, 0.36, 0.30]))
    if name == "consolidation" and rng.random() < 0.1:
      side = "both"
  elif name == "atelectasis":
    zone = str(rng.choice(["upper", "mid", "lower"], p=[0.12, 0.22, 0.66]))
    if form == "volume loss" and zone == "mid":
      zone = "lower"
    if zone == "lower" and rng.random() < 0.3:
      side = "both"
  elif form in ("endotracheal tube", "nasogastric tube"):
    side = ""
  look, rank = LOOKS[name], SEVERITIES.index(severity)
  return Finding(
    name=name,
    severity=severity,
    side=side,
    zone=zone,
    form=form,
    extent=float(rng.uniform(*look.extent[rank])),
    contrast=float(rng.uniform(*look.contrast[rank])),
    seed=int(rng.integers(2**32)),
  )
