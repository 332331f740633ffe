"""One person's chest as numbers, drawn once and seen from any side."""

import dataclasses

import numpy as np

# field: (low, high) of a uniform draw, in units unless said.
_RANGES = {
  "half_width": (0.425, 0.465),  # inner half width of the chest
  "apex": (-0.51, -0.47),
  "dome": (0.20, 0.25),  # top of the right diaphragm
  "dome_step": (0.0, 0.035),  # how much lower the left one lies
  "dome_height": (0.075, 0.15),
  "heart_left_share": (0.62, 0.75),  # of the heart's width, left of midline
  "heart_top": (-0.12, -0.03),
  "heart_shift": (-0.02, 0.02),
  "apex_height": (0.06, 0.16),  # of the heart's apex over its lower edge
  "knob": (0.030, 0.052),  # radius of the aortic knob
  "vascular_pedicle": (0.055, 0.085),
  "fat": (0.0, 0.09),  # outside the ribs
  "shoulder": (-0.50, -0.40),
  "rib_slope": (0.15, 0.27),
  "rib_contrast": (0.045, 0.085),
  "clavicle": (0.035, 0.10),  # below the apex
  "vessels": (0.8, 1.25),
  "lung_depth": (0.36, 0.44),  # attenuation that air takes away
  "scoliosis": (-0.015, 0.015),
  "trachea": (-0.012, 0.016),
  "breast": (0.0, 0.08),  # attenuation; only drawn in women
}


@dataclasses.dataclass(frozen=True)
class Anatomy:
  """One person's chest; see `_RANGES` for the meaning and the units.

  `heart_ratio` is the cardiothoracic ratio, `lift_right` and `lift_left` how
  far volume loss pulls a diaphragm up.
  """

  half_width: float
  apex: float
  dome: float
  dome_step: float
  dome_height: float
  heart_left_share: float
  heart_top: float
  heart_shift: float
  apex_height: float
  knob: float
  vascular_pedicle: float
  fat: float
  shoulder: float
  rib_slope: float
  rib_contrast: float
  clavicle: float
  vessels: float
  lung_depth: float
  scoliosis: float
  trachea: float
  breast: float
  heart_ratio: float
  stomach: bool
  seed: int
  lift_right: float = 0.0
  lift_left: float = 0.0


def draw(rng: np.random.Generator, female: bool, heart_ratio: float) -> Anatomy:
  """Returns a person's chest."""
  fields = {
    name: float(rng.uniform(low, high)) for name, (low, high) in _RANGES.items()
  }
  if not female:
    fields["breast"] = 0.0
  return Anatomy(
    **fields,
    heart_ratio=heart_ratio,
    stomach=bool(rng.random() < 0.55),
    seed=int(rng.integers(2**32)),
  )
