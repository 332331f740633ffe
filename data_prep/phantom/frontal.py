"""A chest from the front: the normal anatomy, laid out as layers.

Positions are in the units of `canvas`; the patient's right is at negative x.
`draw` returns the layers apart, so that a finding can move, hide or add to
one of them before `film` adds them up.
"""

import dataclasses

import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import bones, vessels
from data_prep.phantom import canvas as canvas_lib


@dataclasses.dataclass
class Layers:
  """Attenuations (H, W) float32 and the shapes that findings go by.

  Attributes:
    solid: all that no finding changes: body, bones, mediastinum.
    vessels: of both lungs.
    lungs: {-1: right, 1: left} inside of each lung in [0, 1].
    air: what the air beside the heart takes away, positive.
    walls: {side: (n, 2)} the outer wall from apex to costophrenic angle.
    domes: {side: (n, 2)} the diaphragm from that angle to the midline.
    heart: (n, 2) outline.
    added: what findings add, of which lungs show the part inside them.
    over: what findings add wherever they lie, such as tubes.
  """

  solid: np.ndarray
  vessels: np.ndarray
  lungs: dict[int, np.ndarray]
  air: np.ndarray
  walls: dict[int, np.ndarray]
  domes: dict[int, np.ndarray]
  heart: np.ndarray
  added: np.ndarray
  over: np.ndarray

  def attenuation(self) -> np.ndarray:
    """Returns the sum (H, W) float32."""
    return self.solid + self.vessels + self.added + self.over


def draw(canvas: canvas_lib.Canvas, anatomy: anatomy_lib.Anatomy) -> Layers:
  """Returns the layers of a normal chest."""
  rng = np.random.default_rng(anatomy.seed)
  walls, domes, lungs = {}, {}, {}
  for side in (-1, 1):
    walls[side], domes[side], outline = _lung(anatomy, side)
    lungs[side] = canvas.fill(outline)
  either = np.maximum(lungs[-1], lungs[1])
  depth = _depth(canvas, anatomy, either)
  heart = _heart(anatomy)
  shade = canvas.blur(canvas.fill(heart), 0.007)
  solid = canvas.whole(_body(canvas.half(), anatomy))
  bone = bones.draw(canvas, anatomy, walls, either, shade, rng)
  solid += bone * (solid > 0.2)  # none beside the body
  solid -= anatomy.lung_depth * depth
  solid += _mediastinum(canvas, anatomy, shade) * canvas.blur(either, 0.004)
  if anatomy.stomach:
    solid -= _stomach(canvas, domes[1], rng)
  return Layers(
    solid=solid,
    vessels=vessels.draw(canvas, anatomy, depth, shade, rng),
    lungs=lungs,
    air=anatomy.lung_depth * depth * (1 - 0.55 * shade),
    walls=walls,
    domes=domes,
    heart=heart,
    added=np.zeros(canvas.shape, np.float32),
    over=np.zeros(canvas.shape, np.float32),
  )


def _lung(
  anatomy: anatomy_lib.Anatomy, side: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  a, apex = anatomy.half_width, anatomy.apex
  lift = anatomy.lift_left if side > 0 else anatomy.lift_right
  dome = anatomy.dome + (anatomy.dome_step if side > 0 else 0.0) - lift
  angle = dome + anatomy.dome_height + 0.4 * lift
  height = angle - apex
  flip = np.array([side, 1.0])
  wall = canvas_lib.curve(
    [
      (0.36 * a, apex),
      (0.55 * a, apex + 0.035 * height),
      (0.74 * a, apex + 0.15 * height),
      (0.89 * a, apex + 0.34 * height),
      (0.965 * a, apex + 0.58 * height),
      (0.995 * a, apex + 0.80 * height),
      (1.00 * a, angle),
    ],
    32,
  )
  floor = canvas_lib.curve(
    [
      (1.00 * a, angle),
      (0.93 * a, dome + 0.52 * anatomy.dome_height),
      (0.76 * a, dome + 0.12 * anatomy.dome_height),
      (0.53 * a, dome),
      (0.30 * a, dome + 0.16 * anatomy.dome_height),
      (0.10 * a, dome + 0.50 * anatomy.dome_height),
      (0.03, dome + 0.7 * anatomy.dome_height),
    ],
    32,
  )
  inner = canvas_lib.curve(
    [
      (0.03, dome),
      (0.03, 0.0),
      (0.035, apex + 0.2),
      (0.055, apex + 0.08),
      (0.22 * a, apex + 0.015),
      (0.36 * a, apex),
    ],
    16,
  )
  return (
    wall * flip,
    floor * flip,
    np.concatenate([wall, floor, inner]) * flip,
  )


def _depth(
  canvas: canvas_lib.Canvas, anatomy: anatomy_lib.Anatomy, either: np.ndarray
) -> np.ndarray:
  # A chest is round: less air near the walls, at the apex and over the spine.
  inner = canvas.blur(either, 0.06)
  depth = canvas.blur(either, 0.0035) * (0.38 + 0.62 * inner)
  depth *= canvas_lib.rise(np.abs(canvas.x), 0.015, 0.15) * 0.5 + 0.5
  depth *= 0.88 + 0.12 * canvas_lib.rise(canvas.y, anatomy.apex, -0.15)
  depth *= 1 - 0.16 * canvas_lib.rise(canvas.y, 0.0, anatomy.dome + 0.1)
  return depth


def _body(
  canvas: canvas_lib.Canvas, anatomy: anatomy_lib.Anatomy
) -> np.ndarray:
  out = anatomy.half_width + 0.045 + anatomy.fat
  top = anatomy.shoulder
  torso = [
    (0.12, -1.2),
    (0.12, -0.74),
    (0.15, -0.64),
    (0.26, top - 0.14),
    (out - 0.02, top - 0.055),
    (out + 0.10, top - 0.02),
    (out + 0.13, top + 0.08),
    (out + 0.09, top + 0.22),
    (out + 0.025, top + 0.38),
    (out, 0.08),
    (out - 0.005, 0.25),
    (out + 0.01 + 0.3 * anatomy.fat, 0.5),
    (out + 0.02 + 0.5 * anatomy.fat, 1.2),
  ]
  half = canvas_lib.curve(torso, 60)
  outline = np.concatenate([half, half[::-1] * (-1, 1)])
  body = canvas.blur(canvas.fill(outline), 0.012)
  x, y = canvas.x, canvas.y
  # A rounded cross-section; shoulders and neck are thinner than the trunk.
  round_ = np.sqrt(np.maximum(0.12, 1 - (x / np.float32(out + 0.16)) ** 2))
  body *= 0.40 + 0.36 * round_
  body *= 0.80 + 0.26 * canvas_lib.rise(y, -0.62, 0.35)
  belly = canvas_lib.rise(y, anatomy.dome - 0.02, anatomy.dome + 0.22)
  body += 0.06 * belly * (body > 0.2)
  arms = np.zeros(canvas.shape, np.uint8)
  for side in (-1, 1):
    arm = canvas_lib.curve(
      [
        (side * (out + 0.08), top + 0.07),
        (side * (out + 0.135), top + 0.25),
        (side * (out + 0.24), top + 0.70),
      ]
    )
    canvas.stroke([arm], 0.20, 1.0, arms)
  arms = canvas.blur(arms.astype(np.float32) / 255, 0.016)
  body = np.maximum(body, 0.42 * arms) + 0.06 * arms
  if anatomy.breast:
    for side in (-1, 1):
      mound = canvas.fill(
        canvas_lib.loop(
          [
            (side * 0.10, 0.10),
            (side * 0.28, -0.04),
            (side * (out - 0.02), 0.02),
            (side * (out + 0.01), 0.24),
            (side * 0.30, 0.33),
            (side * 0.13, 0.25),
          ]
        )
      )
      body += np.float32(anatomy.breast) * canvas.blur(mound, 0.03)
  return body


def _heart(anatomy: anatomy_lib.Anatomy) -> np.ndarray:
  width = anatomy.heart_ratio * 2 * anatomy.half_width
  left = anatomy.heart_left_share * width + anatomy.heart_shift
  right = width - left
  bottom = anatomy.dome + anatomy.dome_step + 0.5 * anatomy.dome_height
  # A big heart is also tall.
  top = anatomy.heart_top - 0.16 * max(0.0, anatomy.heart_ratio - 0.47)
  tip = bottom - anatomy.apex_height
  return canvas_lib.loop(
    [
      (0.045, top - 0.06),
      (0.38 * left, top + 0.015),
      (0.72 * left, 0.55 * top + 0.45 * tip),
      (0.965 * left, tip - 0.03),
      (0.985 * left, tip + 0.4 * anatomy.apex_height),
      (0.75 * left, bottom + 0.02),
      (0.0, bottom + 0.05),
      (-0.80 * right, bottom - 0.02),
      (-1.0 * right, 0.35 * top + 0.65 * bottom - 0.05),
      (-0.86 * right, 0.75 * top + 0.25 * bottom - 0.03),
      (-0.05, top - 0.07),
    ]
  )


def _mediastinum(
  canvas: canvas_lib.Canvas, anatomy: anatomy_lib.Anatomy, shade: np.ndarray
) -> np.ndarray:
  x, y = canvas.x, canvas.y
  layer = (0.13 + 0.23 * canvas.blur(shade, 0.08)) * shade
  pedicle = anatomy.vascular_pedicle
  knob_y = anatomy.apex + 0.26
  upper = canvas.fill(
    canvas_lib.curve(
      [
        (-0.62 * pedicle, anatomy.apex - 0.15),
        (-0.85 * pedicle, knob_y - 0.12),
        (-pedicle, knob_y),
        (-pedicle * 1.05, anatomy.heart_top + 0.05),
        (0.9 * pedicle, anatomy.heart_top + 0.05),
        (0.85 * pedicle, knob_y),
        (0.62 * pedicle, knob_y - 0.10),
        (0.5 * pedicle, anatomy.apex - 0.15),
      ],
      48,
    )
  )
  # The knob and the descending aorta under it.
  knob = canvas.fill(
    canvas_lib.loop(
      [
        (0.02, knob_y - anatomy.knob),
        (0.055 + 0.7 * anatomy.knob, knob_y - 0.6 * anatomy.knob),
        (0.055 + anatomy.knob, knob_y + 0.2 * anatomy.knob),
        (0.05 + 0.5 * anatomy.knob, knob_y + 1.3 * anatomy.knob),
        (0.02, knob_y + 1.2 * anatomy.knob),
      ]
    )
  )
  layer = np.maximum(
    layer, canvas.blur(np.maximum(0.24 * upper, 0.25 * knob), 0.009)
  )
  aorta = canvas_lib.rise(
    -np.abs(x - np.float32(0.035)), -0.045, -0.025
  ) * canvas_lib.rise(y, knob_y, knob_y + 0.08)
  layer = np.maximum(layer, 0.16 * aorta)
  return layer


def _stomach(
  canvas: canvas_lib.Canvas, dome: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
  top = dome[:, 1].min()
  x = rng.uniform(0.14, 0.24)
  rx, ry = rng.uniform(0.05, 0.10), rng.uniform(0.025, 0.05)
  angle = np.linspace(0, 2 * np.pi, 40)
  bubble = np.stack(
    [
      x + rx * np.cos(angle),
      top + 0.035 + ry + ry * np.sin(angle) * (0.8 + 0.2 * np.cos(angle)),
    ],
    1,
  )
  return rng.uniform(0.14, 0.26) * canvas.blur(canvas.fill(bubble), 0.008)
