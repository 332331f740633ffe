"""From attenuation to the picture that a reading room shows."""

import dataclasses

import cv2
import numpy as np

from data_prep.phantom import canvas as canvas_lib


@dataclasses.dataclass(frozen=True)
class Exposure:
  """How one picture was taken and processed.

  Attributes:
    height, width: pixels.
    scale: pixels a chest unit.
    rotation: radians; shift_x, shift_y in chest units.
    kernel: how much local contrast the processing adds.
    level, slope: of the tone curve.
    scatter: the share of scattered light.
    noise: of the grey value, at the densest place.
    border: collimated share of the four sides (left, top, right, bottom).
    marker: text in a corner, "" for none.
    seed: of noise.
  """

  height: int
  width: int
  scale: float
  rotation: float
  shift_x: float
  shift_y: float
  kernel: float
  level: float
  slope: float
  scatter: float
  noise: float
  border: tuple[float, float, float, float]
  marker: str
  marker_x: float
  marker_y: float
  seed: int

  def canvas(self) -> canvas_lib.Canvas:
    """Returns the sheet to draw on."""
    return canvas_lib.Canvas(
      (self.height, self.width),
      self.scale,
      self.rotation,
      (self.shift_x, self.shift_y),
    )


def draw_exposure(
  rng: np.random.Generator, view: str, portable: bool
) -> Exposure:
  """Returns how a picture is taken.

  Args:
    rng: the picture's own generator.
    view: "frontal" or "lateral".
    portable: a bedside picture: tilted, off centre, harsher.
  """
  loose = 1.5 if portable else 1.0
  height = int(rng.integers(320, 405))
  ratio = (
    rng.uniform(0.90, 1.10) if view == "frontal" else rng.uniform(0.74, 0.95)
  )
  width = int(height * ratio)
  # The chest must fit: about 1.25 units of it down, 1.1 across.
  span = rng.uniform(1.03, 1.14), rng.uniform(1.03, 1.18)
  if view == "lateral":
    span = rng.uniform(1.12, 1.30), rng.uniform(0.86, 1.02)
  scale = min(height / span[0], width / span[1])
  border = tuple(
    float(rng.uniform(0.01, 0.05)) if rng.random() < 0.15 else 0.0
    for _ in range(4)
  )
  marker = ""
  if rng.random() < 0.85:
    marker = str(rng.choice(["L", "R"])) if view == "frontal" else "L"
    marker += str(
      rng.choice(["", "", "", " 12", " PA" if not portable else " AP"])
    )
  return Exposure(
    height=height,
    width=width,
    scale=float(scale),
    rotation=float(np.clip(rng.normal(0, 0.018 * loose), -0.12, 0.12)),
    shift_x=float(np.clip(rng.normal(0, 0.02 * loose), -0.1, 0.1)),
    shift_y=float(np.clip(rng.normal(0.0, 0.02 * loose), -0.08, 0.08)),
    kernel=float(rng.uniform(0.2, 0.7)),
    level=float(rng.uniform(0.50, 0.60)),
    slope=float(rng.uniform(4.2, 6.2)),
    scatter=float(rng.uniform(0.05, 0.15) * loose),
    noise=float(rng.uniform(0.008, 0.018) * loose),
    border=border,  # pyright: ignore
    marker=marker,
    marker_x=float(rng.uniform(0.05, 0.09)),
    marker_y=float(rng.uniform(0.04, 0.12)),
    seed=int(rng.integers(2**32)),
  )


def develop(
  attenuation: np.ndarray, canvas: canvas_lib.Canvas, exposure: Exposure
) -> np.ndarray:
  """Returns the picture, (H, W) float32 in [0, 1], dense parts bright.

  Args:
    attenuation: (H, W) float32, 0 beside the patient, about 0.4 in a lung
      and 0.9 in the spine.
    canvas: the sheet that it was drawn on.
    exposure: how it was taken.
  """
  rng = np.random.default_rng(exposure.seed)
  clouds = canvas.clouds(rng, 0.16) * 0.012 + canvas.clouds(rng, 0.035) * 0.006
  body = canvas_lib.rise(attenuation, 0.08, 0.3)
  layer = attenuation + body * clouds
  layer += np.float32(exposure.scatter) * (canvas.blur(layer, 0.10) - layer)
  layer += np.float32(exposure.kernel) * (layer - canvas.blur(layer, 0.13))
  # An S-shaped film curve; its foot is cut so that bare air is black.
  layer -= np.float32(exposure.level)
  curve = 0.5 + 0.5 * np.tanh(np.float32(0.5 * exposure.slope) * layer)
  foot = 1 / (1 + np.exp(exposure.slope * exposure.level))
  grey = (curve - foot) / (1 - foot)
  noise = rng.standard_normal(canvas.shape, np.float32)
  noise = cv2.GaussianBlur(noise, (3, 3), 0.55)
  noise *= np.float32(1.6 * exposure.noise)
  grey += noise * (0.35 + 0.65 * grey)
  grey = _mark(grey, exposure)
  return np.clip(grey, 0, 1).astype(np.float32)


def _mark(grey: np.ndarray, exposure: Exposure) -> np.ndarray:
  height, width = grey.shape
  left, top, right, bottom = exposure.border
  shade = np.float32(0.02)
  grey[:, : int(left * width)] = shade
  grey[: int(top * height)] = shade
  grey[:, width - int(right * width) :] = shade
  grey[height - int(bottom * height) :] = shade
  if exposure.marker:
    # The letter stands on the side that it names, seen from the front.
    size = height / 700
    text_width = cv2.getTextSize(
      exposure.marker, cv2.FONT_HERSHEY_SIMPLEX, size, 1
    )[0][0]
    x = int(exposure.marker_x * width)
    if exposure.marker[0] == "L":
      x = width - x - text_width
    y = int(exposure.marker_y * height) + int(20 * size)
    ink = np.zeros(grey.shape, np.uint8)
    cv2.putText(
      ink,
      exposure.marker,
      (x, y),
      cv2.FONT_HERSHEY_SIMPLEX,
      size,
      255,
      max(1, round(2 * size)),
      cv2.LINE_AA,
    )
    grey = np.maximum(grey, ink.astype(np.float32) * np.float32(0.96 / 255))
  return grey
