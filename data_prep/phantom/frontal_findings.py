"""Draws findings on a chest seen from the front, and boxes them.

What a finding adds is an attenuation, written to the layers of `frontal`; its
box is the extent of what was drawn, on the picture of this patient.
"""

import dataclasses
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import canvas as canvas_lib
from data_prep.phantom import findings as findings_lib
from data_prep.phantom import frontal

Box = tuple[int, int, int, int]

# A finding ends where it has this share of its own greatest density.
_EDGE = 0.35


def adapt(
  anatomy: anatomy_lib.Anatomy, findings: Sequence[findings_lib.Finding]
) -> anatomy_lib.Anatomy:
  """Returns the anatomy as findings change it: heart size, pulled-up domes."""
  for finding in findings:
    if finding.name == "cardiomegaly":
      anatomy = dataclasses.replace(anatomy, heart_ratio=finding.extent)
    if finding.name == "atelectasis" and finding.form == "volume loss":
      lift = 0.25 * finding.extent
      if finding.zone != "upper" and 1 in finding.sides:
        anatomy = dataclasses.replace(anatomy, lift_left=lift)
      if finding.zone != "upper" and -1 in finding.sides:
        anatomy = dataclasses.replace(anatomy, lift_right=lift)
  return anatomy


def draw(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  findings: Sequence[findings_lib.Finding],
) -> list[list[Box]]:
  """Adds `findings` to `layers`.

  Args:
    canvas: the sheet of `layers`.
    layers: of `anatomy`, changed in place.
    anatomy: as `adapt` returned it.
    findings: of this study.

  Returns:
    A list a finding of its boxes (x0, y0, x1, y1), ends excluded, inside the
    picture: one a side, none for devices.
  """
  boxes: list[list[Box]] = [[] for _ in findings]
  # Air outside the lung hides vessels, so it comes before all else.
  order = sorted(
    range(len(findings)), key=lambda i: findings[i].name != "pneumothorax"
  )
  for index in order:
    finding = findings[index]
    rng = np.random.default_rng(finding.seed)
    if finding.name == "cardiomegaly":
      found = [canvas.fill(layers.heart) > 0.5]
    elif finding.name == "devices":
      _device(canvas, layers, anatomy, finding, rng)
      found = []
    else:
      draw_side = _DRAW[finding.name]
      found = [
        draw_side(canvas, layers, anatomy, finding, side, rng)
        for side in finding.sides
      ]
    boxes[index] = [
      box for mask in found if (box := canvas_lib.box(mask)) is not None
    ]
  return boxes


def _place(
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> tuple[float, float]:
  top, bottom = anatomy.apex, anatomy.dome + 0.02
  shares = {"upper": (0.16, 0.36), "mid": (0.42, 0.60), "lower": (0.70, 0.90)}
  y = top + rng.uniform(*shares[finding.zone]) * (bottom - top)
  low, high = (0.40, 0.62) if finding.zone == "upper" else (0.38, 0.78)
  if finding.zone == "lower" and side > 0:
    low = 0.5  # beside the heart, where it can be seen
  return side * rng.uniform(low, high) * anatomy.half_width, y


def _blob(
  canvas: canvas_lib.Canvas,
  x: float,
  y: float,
  size: float,
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns an irregular cloud of (H, W) in [0, 1] about (x, y)."""
  shape = np.zeros(canvas.shape, np.float32)
  for _ in range(4):
    dx, dy = rng.normal(0, 0.5 * size, 2)
    rx, ry = size * rng.uniform(0.45, 0.9, 2)
    shape += canvas.spot(x + dx, y + dy, rx, ry, rng.uniform(0, 3))
  shape += 0.22 * canvas.clouds(rng, 0.35 * size) * np.minimum(shape, 1)
  return canvas_lib.rise(shape, 0.25, 1.5)


def _consolidation(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  x, y = _place(anatomy, finding, side, rng)
  blob = _blob(canvas, x, y, finding.extent, rng)
  if finding.zone == "upper" and rng.random() < 0.4:
    # A fissure cuts it off below.
    blob *= canvas_lib.rise(-canvas.y, -(y + 0.6 * finding.extent), -y)
  blob *= layers.lungs[side]
  mask = blob > _EDGE * max(0.3, float(blob.max()))
  if finding.severity != "mild":
    # Air bronchograms: dark branches that run from the hilum through it.
    start = np.array([side * 0.10, -0.04])
    ends = [
      np.array([x, y]) + rng.normal(0, 0.7 * finding.extent, 2)
      for _ in range(3)
    ]
    lines = [
      canvas_lib.curve([start, 0.5 * (start + end) + (0, 0.012), end], 8)
      for end in ends
    ]
    air = canvas.stroke(lines, 0.008).astype(np.float32) / 255
    blob *= 1 - 0.4 * canvas.blur(air, 0.004)
  layers.added += finding.contrast * blob * layers.air
  layers.vessels *= 1 - 0.7 * blob
  return mask


def _nodule(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  x, y = _place(anatomy, finding, side, rng)
  r = finding.extent
  dx, dy = canvas.x - np.float32(x), canvas.y - np.float32(y)
  distance = np.sqrt(dx * dx + dy * dy)
  ball = np.sqrt(np.maximum(0, 1 - (distance / np.float32(r)) ** 2))
  ball = canvas.blur(ball, 0.15 * r) * layers.lungs[side]
  layers.added += np.float32(finding.contrast) * ball
  return ball > 0.15


def _atelectasis(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  x, y = _place(anatomy, finding, side, rng)
  size = finding.extent
  lung = layers.lungs[side]
  if finding.form == "plate":
    shape = np.zeros(canvas.shape, np.float32)
    for number in range(int(rng.integers(2, 4))):
      length = size * rng.uniform(0.7, 1.1)
      tilt = side * rng.uniform(-0.15, 0.45)
      cx = x + rng.normal(0, 0.02)
      cy = y + (0.0, -0.05, 0.045)[number] + rng.normal(0, 0.008)
      half = 0.5 * length * np.array([np.cos(tilt), np.sin(tilt)])
      middle = np.array([cx, cy])
      sag = np.array([0, rng.normal(0, 0.008)])
      line = canvas_lib.curve([middle - half, middle + sag, middle + half], 10)
      band = canvas.stroke([line], rng.uniform(0.026, 0.040))
      band = canvas.blur(band.astype(np.float32) / 255, 0.005)
      # It thins out to its ends.
      reach = 0.40 * length
      band *= np.minimum(1, 1.5 * canvas.spot(cx, cy, reach, reach))
      shape = np.maximum(shape, band)
    # Haze about the bands, where air is short too.
    shape = shape + 0.3 * canvas.spot(x, y, 0.35 * size, 0.05)
  elif finding.zone == "upper":
    # The lobe folds up against the mediastinum under a sharp, hollow edge.
    level = anatomy.apex + 0.75 * size
    edge = level + 0.5 * (np.abs(canvas.x) - 0.10) * -0.9
    shape = canvas_lib.rise(edge - canvas.y, -0.008, 0.012)
    shape *= canvas_lib.rise(-np.abs(canvas.x), -0.30, -0.12)
  else:
    # A wedge against the spine and the diaphragm, that side drawn up.
    level = y - 0.15 * size
    slope = canvas.y - np.float32(level) - 0.9 * (np.abs(canvas.x) - 0.12)
    shape = canvas_lib.rise(slope, -0.02, 0.05)
    shape *= canvas_lib.rise(canvas.y, level - 0.10, level + 0.06)
    shape = 0.75 * shape + 0.5 * _blob(canvas, x, y + 0.03, 0.35 * size, rng)
  shape = np.minimum(shape, 1.2) * lung
  layers.added += finding.contrast * shape * layers.air
  return shape > _EDGE * max(0.3, float(shape.max()))


def _effusion(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  angle = float(layers.walls[side][-1, 1])
  a = anatomy.half_width
  high = finding.extent * rng.uniform(0.85, 1.15)
  inward = np.maximum(0, a - side * canvas.x)  # from the wall
  # The meniscus climbs the wall, and a little the mediastinum.
  level = angle - high * (0.45 + 0.55 * np.exp(-inward / np.float32(0.10)))
  if finding.severity == "mild":
    level = angle - high * np.exp(-((inward / np.float32(0.16)) ** 2))
  fluid = canvas_lib.rise(canvas.y - level, -0.010, 0.018)
  if finding.severity != "mild":
    # Fluid behind the lung veils it above the line.
    veil = canvas_lib.rise(canvas.y - level, -0.22, 0.0)
    fluid = np.maximum(fluid, 0.18 * veil)
  fluid *= layers.lungs[side]
  layers.added += finding.contrast * fluid * layers.air
  layers.vessels *= 1 - 0.8 * fluid
  return fluid > 0.5


def _edema(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  size = finding.extent
  x = side * rng.uniform(0.13, 0.24)
  y = rng.uniform(-0.16, 0.10)
  haze = canvas.spot(
    x, y, size * rng.uniform(0.6, 0.9), size * rng.uniform(0.9, 1.4)
  )
  haze *= 1 + 0.16 * canvas.clouds(rng, 0.04) * haze
  haze = np.maximum(haze, 0) * layers.lungs[side]
  weight = rng.uniform(0.8, 1.1)
  lung = layers.lungs[side]
  film = haze + 0.15 * lung
  layers.added += weight * finding.contrast * film * layers.air
  # Vessels lose their edges in the haze, and swell above the hila.
  soft = 1.5 * canvas.blur(layers.vessels, 0.014)
  layers.vessels += np.minimum(1, 1.2 * haze) * (soft - layers.vessels)
  above = lung * canvas_lib.rise(-canvas.y, 0.0, 0.2)
  layers.vessels += 0.6 * above * layers.vessels
  if finding.severity != "mild":
    # Kerley's lines: short, level, at the wall above the diaphragm.
    lines = []
    for _ in range(int(rng.integers(4, 9))):
      ky = rng.uniform(0.02, anatomy.dome + 0.03)
      wall = layers.walls[side]
      edge = abs(float(np.interp(ky, wall[:, 1], wall[:, 0]))) - 0.008
      lines.append(
        np.array(
          [(side * edge, ky), (side * (edge - rng.uniform(0.03, 0.05)), ky)]
        )
      )
    kerley = canvas.stroke(lines, 0.004).astype(np.float32) / 255
    layers.added += 0.10 * canvas.blur(kerley, 0.0025)
  return haze > _EDGE * max(0.3, float(haze.max()))


def _pneumothorax(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  side: int,
  rng: np.random.Generator,
) -> np.ndarray:
  lung = layers.lungs[side]
  # Distance from the chest wall, not from mediastinum or diaphragm.
  inside = (lung > 0.5).astype(np.uint8)
  inward = side * canvas.x < 0.6 * anatomy.half_width
  solid = np.where(inward & (canvas.y > anatomy.apex + 0.1), 1, inside)
  solid = np.where(canvas.y > anatomy.dome, 1, solid).astype(np.uint8)
  distance = cv2.distanceTransform(solid, cv2.DIST_L2, 5)
  distance = distance / np.float32(canvas.scale)
  # Air gathers at the apex of one who stands.
  foot = anatomy.apex + rng.uniform(0.45, 0.75)
  width = finding.extent * (
    0.25 + 1.1 * canvas_lib.rise(-canvas.y, -foot, -anatomy.apex)
  )
  air = canvas_lib.rise(width - distance, -0.002, 0.006) * lung
  line = np.exp(-(((distance - width) / np.float32(0.0045)) ** 2)) * lung
  layers.vessels *= 1 - air
  layers.added -= np.float32(finding.contrast) * air
  layers.added += 0.085 * line
  # The lung that is left is smaller and so denser.
  layers.added += np.float32(0.3 * finding.extent) * lung * (1 - air)
  return (air > 0.5) & (width > 0.3 * finding.extent)


def _device(
  canvas: canvas_lib.Canvas,
  layers: frontal.Layers,
  anatomy: anatomy_lib.Anatomy,
  finding: findings_lib.Finding,
  rng: np.random.Generator,
) -> None:
  side = finding.sides[0] if finding.sides else 1
  apex, heart = anatomy.apex, layers.heart
  width = 0.011
  cavity = (-0.055, anatomy.heart_top + rng.uniform(-0.02, 0.08))
  ends = []
  if finding.form == "endotracheal tube":
    tip = apex + rng.uniform(0.18, 0.29)
    x = anatomy.trachea
    path = [(0.01, -1.2), (0.4 * x, apex), (x, tip)]
    width = 0.030
  elif finding.form == "nasogastric tube":
    low = float(layers.domes[1][:, 1].min())
    path = [
      (0.0, -1.2),
      (0.012, -0.2),
      (0.03, low),
      (0.10, low + 0.09),
      (0.17, low + 0.10),
    ]
    width = 0.016
  elif finding.form == "jugular line":
    path = [
      (side * 0.10, -1.0),
      (side * 0.085, apex - 0.04),
      (-0.02 if side > 0 else -0.06, apex + 0.12),
      cavity,
    ]
  elif finding.form == "subclavian line":
    path = [
      (side * (anatomy.half_width + 0.02), apex + 0.10),
      (side * 0.24, apex + 0.03),
      (side * 0.09, apex + 0.06),
      (-0.03 if side > 0 else -0.055, apex + 0.16),
      cavity,
    ]
  elif finding.form == "pacemaker":
    x = side * anatomy.half_width * rng.uniform(0.66, 0.84)
    y = apex + rng.uniform(0.10, 0.18)
    case = canvas_lib.loop(
      [
        (x - 0.070, y - 0.03),
        (x - 0.015, y - 0.065),
        (x + 0.060, y - 0.045),
        (x + 0.065, y + 0.03),
        (x, y + 0.065),
        (x - 0.060, y + 0.045),
      ]
    )
    layers.over += 0.55 * canvas.blur(canvas.fill(case), 0.003)
    tip = 0.55 * heart[:, 0].max(), heart[:, 1].max() - 0.07
    lead = [
      (x, y - 0.02),
      (side * 0.16, apex + 0.02),
      (side * 0.06, apex + 0.09),
      (-0.05, apex + 0.20),
      (-0.06, anatomy.heart_top + 0.10),
    ]
    ends = [[*lead, (0.0, tip[1] - 0.01), tip]]
    path = [*lead, (-0.085, anatomy.heart_top + 0.12)]
  else:
    wall = anatomy.half_width
    y = rng.uniform(-0.02, 0.14)
    path = [
      (side * (wall + 0.25), y + 0.10),
      (side * wall, y),
      (side * (wall - 0.09), y - 0.14),
      (side * (wall - 0.14), apex + rng.uniform(0.10, 0.2)),
    ]
    width = 0.030
  curves = [canvas_lib.curve(points, 40) for points in [path, *ends]]
  tube = canvas.stroke(curves, width).astype(np.float32) / 255
  if width > 0.02:
    # A wide tube shows its walls and a stripe.
    hollow = canvas.stroke(curves, 0.5 * width).astype(np.float32) / 255
    tube = tube - 0.5 * hollow
  layers.over += np.float32(finding.contrast) * canvas.blur(tube, 0.002)


_DrawSide = Callable[
  [
    canvas_lib.Canvas,
    frontal.Layers,
    anatomy_lib.Anatomy,
    findings_lib.Finding,
    int,
    np.random.Generator,
  ],
  np.ndarray,
]
_DRAW: dict[str, _DrawSide] = {
  "atelectasis": _atelectasis,
  "consolidation": _consolidation,
  "edema": _edema,
  "effusion": _effusion,
  "nodule": _nodule,
  "pneumothorax": _pneumothorax,
}
