"""The bones of a chest seen from the front, and the air of the windpipe."""

import numpy as np

from data_prep.phantom import anatomy as anatomy_lib
from data_prep.phantom import canvas as canvas_lib


def draw(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  walls: dict[int, np.ndarray],
  either: np.ndarray,
  shade: np.ndarray,
  rng: np.random.Generator,
) -> np.ndarray:
  """Returns the attenuation (H, W) of all bones, negative in the windpipe.

  Args:
    canvas: the sheet.
    anatomy: whose.
    walls: {side: (n, 2)} the lungs' outer walls, where ribs turn.
    either: (H, W) inside of both lungs.
    shade: (H, W) the heart, behind which ribs fade.
    rng: of the details.
  """
  x, y = canvas.x, canvas.y
  back, front = (np.zeros(canvas.shape, np.uint8) for _ in range(2))
  width = rng.uniform(0.022, 0.029)
  posterior, anterior = [], []
  for side in (-1, 1):
    wall = np.abs(walls[side])
    wall[:, 1] = walls[side][:, 1]
    for number in range(11):
      start = anatomy.apex - 0.01 + 0.079 * number
      drop = anatomy.rib_slope * (0.55 + 0.07 * number)
      t = np.linspace(0, 1, 16)
      end = start + drop
      reach = float(np.interp(end, wall[:, 1], wall[:, 0])) + 0.012
      if number == 0:
        reach *= 0.80
      across = 0.035 + (reach - 0.035) * np.sin(t * np.pi / 2)
      along = start - 0.022 * np.sin(np.pi * np.minimum(1, 1.5 * t))
      along = along + drop * t**2.4
      posterior.append(np.stack([side * across, along], 1))
      if number < 8:
        stop = 0.24 + 0.012 * number
        fall = (0.10 + 0.012 * number) * np.sin(t * np.pi / 2)
        across = reach - (reach - stop) * t**1.3
        anterior.append(np.stack([side * across, end + fall], 1))
  # The rind of a bone is denser than its middle.
  canvas.stroke(posterior, width, 1.0, back)
  canvas.stroke(posterior, width * 0.55, 0.6, back)
  canvas.stroke(anterior, width * 1.15, 0.8, front)
  canvas.stroke(anterior, width * 0.75, 0.6, front)
  # Ribs show over the lungs and the wall beside them, not over the belly.
  chest = canvas.blur(either, 0.03)
  chest = canvas_lib.rise(chest, 0.02, 0.45) * (0.35 + 0.65 * chest)
  chest *= 1 - 0.45 * shade
  layer = np.float32(anatomy.rib_contrast) * (
    back.astype(np.float32) + 0.62 * front.astype(np.float32)
  )
  layer *= chest / 255
  layer = canvas.blur(layer, 0.0035)
  layer += _girdle(canvas, anatomy, rng)
  # Vertebrae: a column with darker discs and a ridge of spinous processes.
  bend = np.float32(anatomy.scoliosis) * np.sin(y[:, :1] * 4)
  off = np.abs(x - bend)
  column = canvas_lib.rise(-off, -0.066, -0.046)
  period = rng.uniform(0.072, 0.084)
  disc = np.square(np.square(np.cos(y * np.float32(np.pi / period))))
  layer += column * (0.085 - 0.028 * disc)
  layer += 0.030 * canvas_lib.rise(-off, -0.014, -0.004) * (1 - disc)
  # Air in the windpipe and the main bronchi.
  pipe_x = anatomy.trachea
  fork = anatomy.apex + 0.34
  pipe = canvas.stroke(
    [
      canvas_lib.curve(
        [(0, -1.2), (0.3 * pipe_x, anatomy.apex), (pipe_x, fork)], 12
      )
    ],
    0.042,
  )
  canvas.stroke(
    [
      canvas_lib.curve(
        [(pipe_x, fork - 0.01), (-0.03, fork + 0.05), (-0.075, fork + 0.10)], 8
      ),
      canvas_lib.curve(
        [(pipe_x, fork - 0.01), (0.05, fork + 0.045), (0.10, fork + 0.075)], 8
      ),
    ],
    0.026,
    0.6,
    pipe,
  )
  layer -= 0.12 * canvas.blur(pipe.astype(np.float32) / 255, 0.006)
  return layer


def _girdle(
  canvas: canvas_lib.Canvas,
  anatomy: anatomy_lib.Anatomy,
  rng: np.random.Generator,
) -> np.ndarray:
  a, y0 = anatomy.half_width, anatomy.apex + anatomy.clavicle
  bone = np.zeros(canvas.shape, np.uint8)
  faint = np.zeros(canvas.shape, np.uint8)
  tilt = rng.uniform(-0.01, 0.06)
  top = anatomy.shoulder + 0.035
  for side in (-1, 1):
    x = a + anatomy.fat + 0.125
    head = np.array([(side * x, top + 0.02), (side * (x + 0.01), top + 0.05)])
    shaft = canvas_lib.curve(
      [
        (side * (x + 0.012), top + 0.05),
        (side * (x + 0.05), top + 0.25),
        (side * (x + 0.14), top + 0.65),
      ]
    )
    canvas.stroke([shaft], 0.062, 0.9, bone)
    canvas.stroke([shaft], 0.036, 0.5, bone)
    canvas.stroke([head], 0.105, 0.75, bone)
    canvas.stroke([head], 0.085, 0.6, bone)
    clavicle = canvas_lib.curve(
      [
        (side * 0.028, y0 + 0.055),
        (side * 0.12, y0 + 0.028),
        (side * 0.26, y0 - 0.02 - 0.5 * tilt),
        (side * (a - 0.04), y0 - 0.045 - tilt),
        (side * (x - 0.05), top - 0.045),
      ]
    )
    canvas.stroke([clavicle], 0.034, 0.8, bone)
    canvas.stroke([clavicle[1:-1]], 0.020, 0.52, bone)
    # The scapula: neck, outer border and blade, beside the lung in most.
    blade = canvas_lib.loop(
      [
        (side * (x - 0.06), top),
        (side * (x - 0.075), top + 0.09),
        (side * (a + 0.02), top + 0.26),
        (side * (a - 0.02), top + 0.40),
        (side * (a - 0.06), top + 0.34),
        (side * (a - 0.08), top + 0.12),
        (side * (a - 0.03), top - 0.01),
      ]
    )
    canvas.stroke([blade[2:28]], 0.016, 0.9, faint)
    flat = (90 * canvas.fill(blade)).astype(np.uint8)
    np.maximum(faint, flat, out=faint)
  layer = 0.15 * canvas.blur(bone.astype(np.float32), 0.004)
  layer += 0.075 * canvas.blur(faint.astype(np.float32), 0.011)
  return layer / 255
