"""A chest from the side: anatomy and findings in one, without boxes.

The patient faces left. A finding's zone gives its height, its extent the size;
front or back is drawn, since the view from the front does not tell.
"""

from collections.abc import Sequence

import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import canvas as canvas_lib
from data_prep.phantom import findings as findings_lib
from data_prep.phantom import vessels


def draw(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  findings: Sequence[findings_lib.Finding],
) -> np.ndarray:
  """Returns the attenuation (H, W) float32 of a chest and its findings.

  Args:
    canvas: the sheet.
    anatomy: as `frontal_findings.adapt` returned it.
    findings: of this study.
  """
  rng = np.random.default_rng((anatomy.seed, 1))
  build = _build(anatomy)
  lungs = {
    side: canvas.blur(canvas.fill(_lung(anatomy, build, side)), 0.004)
    for side in (-1, 1)
  }
  either = np.maximum(lungs[-1], lungs[1])
  both = 0.5 * (lungs[-1] + lungs[1])
  air = anatomy.lung_depth * both * (0.45 + 0.55 * canvas.blur(both, 0.06))
  heart = canvas.blur(canvas.fill(_heart(anatomy, build)), 0.010)
  added = np.zeros(canvas.shape, np.float32)
  for finding in findings:
    detail = np.random.default_rng((finding.seed, 1))
    added += _finding(canvas, anatomy, build, finding, air, lungs, detail)
  layer = canvas.whole(_body(canvas.half(), anatomy, build))
  layer += _bones(canvas, anatomy, build, either, rng)
  layer -= air
  layer += (0.07 + 0.17 * canvas.blur(heart, 0.07)) * heart * either
  layer += _vessels(canvas, build, both, rng)
  return layer + added


def _build(anatomy: anatomy_lib.Anatomy) -> dict[str, float]:
  """Returns the landmarks of the side view."""
  deep = 0.80 * anatomy.half_width
  return {
    "front": -deep,  # inner front wall at its foremost
    "back": deep,
    "apex": anatomy.apex,
    "dome": anatomy.dome,
    "gutter": anatomy.dome + 0.05 + 1.4 * anatomy.dome_height,
  }


def _lung(
  anatomy: anatomy_lib.Anatomy, build: dict[str, float], side: int
) -> np.ndarray:
  front, back, apex = build["front"], build["back"], build["apex"]
  lift = anatomy.lift_left if side > 0 else anatomy.lift_right
  step = anatomy.dome_step + 0.02 if side > 0 else 0.0
  dome, gutter = build["dome"] + step - lift, build["gutter"] - 0.4 * lift
  wall = canvas_lib.curve(
    [
      (0.02, apex),
      (-0.10, apex + 0.03),
      (0.62 * front, apex + 0.17),
      (0.90 * front, apex + 0.36),
      (front, apex + 0.56),
      (0.98 * front, dome + 0.05),
    ],
    28,
  )
  floor = canvas_lib.curve(
    [
      (0.98 * front, dome + 0.05),
      (0.62 * front, dome + 0.005),
      (0.20 * front, dome - 0.005),
      (0.25 * back, dome + 0.045),
      (0.62 * back, dome + 0.14),
      (0.90 * back, gutter),
    ],
    28,
  )
  spine = canvas_lib.curve(
    [
      (0.90 * back, gutter),
      (0.99 * back, gutter - 0.12),
      (1.02 * back, -0.02),
      (0.93 * back, apex + 0.24),
      (0.60 * back, apex + 0.06),
      (0.25 * back, apex),
    ],
    28,
  )
  return np.concatenate([wall, floor, spine])


def _heart(anatomy: anatomy_lib.Anatomy, build: dict[str, float]) -> np.ndarray:
  big = 1 + 1.5 * (anatomy.heart_ratio - 0.45)
  x, y = 0.42 * build["front"], build["dome"] - 0.085 * big
  angle = np.linspace(0, 2 * np.pi, 60)
  rx, ry = 0.215 * big, 0.150 * big
  # It lies along the diaphragm, its tip towards the breastbone.
  dx, dy = rx * np.cos(angle), ry * np.sin(angle)
  cos, sin = np.cos(0.5), np.sin(0.5)
  return np.stack(
    [x + 0.15 * (big - 1) + dx * cos + dy * sin, y - dx * sin + dy * cos], 1
  )


def _body(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  build: dict[str, float],
) -> np.ndarray:
  front, back = build["front"], build["back"]
  skin = 0.045 + 0.8 * anatomy.fat
  bust = 0.55 * anatomy.breast
  chest = [
    (-0.16, -1.2),
    (-0.15, -0.72),
    (-0.20, anatomy.apex - 0.02),
    (0.75 * front - skin, anatomy.apex + 0.17),
    (front - skin - 0.3 * bust, anatomy.apex + 0.40),
    (front - skin - bust, 0.06),
    (front - skin - 0.4 * bust, 0.22),
    (front - skin - 0.5 * anatomy.fat, 0.45),
    (front - skin - 0.5 * anatomy.fat, 1.2),
  ]
  spine = [
    (back + skin - 0.02, 1.2),
    (back + skin, 0.40),
    (back + skin + 0.075, 0.10),
    (back + skin + 0.09, -0.15),
    (back + skin + 0.06, anatomy.apex + 0.12),
    (0.27, -0.66),
    (0.15, -0.8),
    (0.13, -1.2),
  ]
  outline = np.concatenate(
    [canvas_lib.curve(chest, 40), canvas_lib.curve(spine, 40)]
  )
  shape = canvas.fill(outline)
  body = canvas.blur(shape, 0.012)
  body = body * (0.42 + 0.34 * canvas.blur(shape, 0.09))
  x, y = canvas.x, canvas.y
  # Shoulders lie across the top; the arms are held up and forward.
  body += 0.30 * body * canvas_lib.rise(-y, 0.16, 0.56)
  arms = canvas.stroke(
    [
      canvas_lib.curve(
        [(0.10, anatomy.apex - 0.02), (-0.22, -0.66), (-0.50, -0.90)]
      )
    ],
    0.21,
  )
  body = np.maximum(
    body, 0.62 * canvas.blur(arms.astype(np.float32) / 255, 0.02)
  )
  belly = canvas_lib.rise(y - 0.35 * x, build["dome"] - 0.05, 0.40)
  return body + 0.10 * belly * (body > 0.2)


def _bones(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  build: dict[str, float],
  either: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  front, back, apex = build["front"], build["back"], build["apex"]
  ribs = np.zeros(canvas.shape, np.uint8)
  spine = np.zeros(canvas.shape, np.uint8)
  bars = []
  for shift in (0.0, rng.uniform(0.015, 0.03)):
    for number in range(10):
      y = apex + 0.02 + 0.082 * number + shift
      rib = canvas_lib.curve(
        [
          (1.03 * back, y),
          (0.55 * back, y + 0.035),
          (-0.05 * back, y + 0.13),
          (0.55 * front, y + 0.25),
        ],
        14,
      )
      bars.append(rib)
  canvas.stroke(bars, 0.022, 1.0, ribs)
  canvas.stroke(bars, 0.013, 0.6, ribs)
  column = canvas_lib.curve(
    [
      (0.02, -1.2),
      (0.06, -0.72),
      (0.46 * back, apex + 0.02),
      (0.76 * back, apex + 0.22),
      (0.86 * back, -0.02),
      (0.76 * back, build["gutter"] - 0.02),
      (0.60 * back, 1.0),
    ],
    200,
  )
  steps = np.hypot(*np.diff(column, axis=0).T)
  place = np.concatenate([[0], np.cumsum(steps)])
  size = rng.uniform(0.072, 0.082)
  along = np.arange(size, place[-1] - size, size)
  centres = np.stack([np.interp(along, place, c) for c in column.T], 1)
  across = np.gradient(centres, axis=0)[:, ::-1] * (-1, 1)
  across *= 0.024 / np.hypot(*across.T)[:, None]
  bodies = [
    np.array([c - d, c + d]) for c, d in zip(centres, across, strict=True)
  ]
  canvas.stroke([column], 0.080, 0.45, spine)
  canvas.stroke(bodies, 0.84 * size, 1.0, spine)
  canvas.stroke(bodies, 0.60 * size, 0.75, spine)
  breastbone = canvas_lib.curve(
    [
      (0.60 * front - 0.03, apex + 0.14),
      (0.90 * front - 0.02, apex + 0.33),
      (front - 0.015, apex + 0.52),
      (front - 0.015, apex + 0.62),
    ]
  )
  sternum = canvas.stroke([breastbone], 0.030)
  canvas.stroke([breastbone], 0.018, 0.6, sternum)
  blade = canvas.stroke(
    [
      canvas_lib.curve(
        [
          (0.55 * back, apex - 0.02),
          (0.80 * back, apex + 0.14),
          (0.94 * back, apex + 0.34),
        ]
      )
    ],
    0.02,
  )
  chest = canvas.blur(either, 0.02)
  layer = 0.32 * anatomy.rib_contrast * ribs.astype(np.float32) * chest
  # Vertebrae grow darker downwards as less muscle lies over them.
  fade = 1.15 - 0.5 * canvas_lib.rise(canvas.y, apex, 0.3)
  layer += 0.13 * spine.astype(np.float32) * fade
  layer += 0.075 * sternum.astype(np.float32)
  layer += 0.07 * blade.astype(np.float32)
  return canvas.blur(layer / 255, 0.005)


def _vessels(
  canvas: canvas_lib.Canvas,
  build: dict[str, float],
  both: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  layer = np.zeros(canvas.shape, np.uint8)
  for side in (-1, 1):
    hilum = np.array([[0.02, -0.05]])
    starts = np.repeat(hilum, 8, 0)
    heads = np.linspace(-1.4, 1.4, 8) + rng.normal(0, 0.15, 8)
    for length, width, value in vessels.TWIGS[:3]:
      twigs, heads = vessels.grow(starts, heads, side, length, rng)
      canvas.stroke(list(twigs), 0.9 * width, 0.75 * value, layer)
      starts = np.repeat(twigs[:, -1], 2, 0)
      turns = rng.uniform(0.1, 0.6, len(starts))
      turns[::2] *= -1
      heads = np.repeat(heads, 2) + turns
  lines = 0.10 * canvas.blur(layer.astype(np.float32) / 255, 0.004)
  lines *= canvas.spot(0.03, 0.0, 0.15, 0.17)
  lines += 0.10 * canvas.spot(0.03, -0.05, 0.045, 0.055)
  arch = canvas_lib.curve(
    [
      (-0.09, 0.0),
      (-0.07, build["apex"] + 0.28),
      (0.03, build["apex"] + 0.24),
      (0.14, build["apex"] + 0.30),
      (0.62 * build["back"], 0.0),
      (0.66 * build["back"], build["gutter"]),
    ],
    30,
  )
  aorta = canvas.stroke([arch], 0.085).astype(np.float32) / 255
  pipe = canvas.stroke(
    [
      canvas_lib.curve(
        [(-0.03, -1.2), (0.0, build["apex"]), (0.045, -0.10)], 10
      )
    ],
    0.038,
  )
  layer = (lines + 0.055 * canvas.blur(aorta, 0.010)) * both
  return layer - 0.075 * canvas.blur(pipe.astype(np.float32) / 255, 0.007)


def _finding(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  build: dict[str, float],
  finding: findings_lib.Finding,
  air: np.ndarray,
  lungs: dict[int, np.ndarray],
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the attenuation that a finding adds; 0 for a heart's size."""
  size, dense = finding.extent, finding.contrast
  heights = {"upper": 0.22, "mid": 0.50, "lower": 0.80, "": 0.5}
  span = build["dome"] - build["apex"]
  y = build["apex"] + span * (heights[finding.zone] + rng.uniform(-0.06, 0.06))
  x = rng.uniform(0.55 * build["front"], 0.7 * build["back"])
  layer = np.zeros(canvas.shape, np.float32)
  if finding.name == "devices":
    return _device(canvas, anatomy, build, finding)
  for side in finding.sides:
    lung = lungs[side]
    if finding.name == "effusion":
      behind = np.maximum(0, 0.92 * build["back"] - canvas.x)
      rate = 0.14 if finding.severity == "mild" else 0.30
      level = build["gutter"] - size * 1.2 * np.exp(-behind / rate)
      shape = canvas_lib.rise(canvas.y - level, -0.012, 0.02) * lung
    elif finding.name == "edema":
      shape = canvas.spot(0.02, -0.04, 1.1 * size, 1.3 * size) + 0.15
      shape = shape * (1 + 0.12 * canvas.clouds(rng, 0.03)) * lung
    elif finding.name == "atelectasis":
      tilt = rng.uniform(-0.3, 0.6)
      half = 0.6 * size * np.array([np.cos(tilt), np.sin(tilt)])
      wide = 0.018 if finding.form == "plate" else 0.05
      middle = np.array([x, y])
      line = np.array([middle - half, middle + half])
      band = canvas.stroke([line], wide).astype(np.float32) / 255
      shape = canvas.blur(band, 0.3 * wide) * lung
    elif finding.name == "pneumothorax":
      # Free air behind the breastbone.
      edge = build["front"] + 0.6 * size
      shape = canvas_lib.rise(-canvas.x, -edge, -edge + 0.01) * lung
      layer -= dense * shape
      continue
    else:
      shape = canvas.spot(x, y, 0.8 * size, 0.7 * size, rng.uniform(0, 3))
      if finding.name == "nodule":
        layer += 0.7 * dense * canvas_lib.rise(shape, 0.4, 0.8) * lung
        continue
      shape = shape + 0.15 * canvas.clouds(rng, 0.4 * size) * shape
      shape = canvas_lib.rise(shape, 0.15, 0.8) * lung
    # One lung of two lies in the beam: 0.7 of the air, not half, since what
    # is behind the other's edges shows too.
    layer = np.maximum(layer, 0.7 * dense * shape * air)
  return layer


def _device(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  build: dict[str, float],
  finding: findings_lib.Finding,
) -> np.ndarray:
  apex, dome = build["apex"], build["dome"]
  cavity = (-0.02, anatomy.heart_top + 0.06)
  paths = {
    "endotracheal tube": [(-0.03, -1.2), (0.0, apex), (0.02, apex + 0.2)],
    "nasogastric tube": [
      (0.0, -1.2),
      (0.08, -0.2),
      (0.09, dome),
      (-0.02, dome + 0.12),
    ],
    "pacemaker": [
      (0.70 * build["front"] - 0.03, apex + 0.18),
      (-0.06, apex + 0.10),
      (-0.02, anatomy.heart_top),
      (0.45 * build["front"], dome - 0.05),
    ],
    "chest tube": [
      (0.2, 0.22),
      (0.24, 0.0),
      (0.10, apex + 0.15),
    ],
  }
  path = paths.get(finding.form, [(-0.06, -1.0), (-0.05, apex), cavity])
  tube = canvas.stroke([canvas_lib.curve(path, 30)], 0.008)
  layer = canvas.blur(tube.astype(np.float32) / 255, 0.002)
  if finding.form == "pacemaker":
    x, y = path[0]
    case = canvas.stroke(
      [np.array([(x, y - 0.03), (x + 0.01, y + 0.03)])], 0.025
    )
    layer += 1.5 * case.astype(np.float32) / 255
  return finding.contrast * layer
