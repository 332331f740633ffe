"""Images with what a sentence points to, as pictures of the report page."""

import base64

import cv2
import matplotlib as mpl
import numpy as np

from tier_jax.evaluators import heatmaps

_TILE = 288  # pixels of a heat-map's side


def overlay(
  image: np.ndarray,
  similarity: np.ndarray | None = None,
  boxes: np.ndarray | None = None,
) -> np.ndarray:
  """Returns an image, with similarity as colour and boxes outlined, as BGR.

  Args:
    image: (S, S) uint8.
    similarity: (rows, columns) float32; its 1st to 99th percentile spans the
      colours, and low values are transparent.
    boxes: (n, 4) x0, y0, x1, y1 in pixels of the image.

  Returns:
    (288, 288, 3) uint8.
  """
  size = (_TILE, _TILE)
  grey = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
  if similarity is None:
    picture = np.repeat(grey[..., None], 3, axis=2)
  else:
    level = cv2.resize(levels(similarity), size, interpolation=cv2.INTER_LINEAR)
    picture = paint(grey, level)
  scale = _TILE / image.shape[0]
  for box in boxes if boxes is not None else ():
    x0, y0, x1, y1 = np.clip(np.round(box * scale), 2, _TILE - 3).astype(int)
    for thickness, shade in ((4, (30, 30, 30)), (2, (160, 255, 90))):
      cv2.rectangle(
        picture,
        (int(x0), int(y0)),
        (int(x1), int(y1)),
        shade,
        thickness,
        cv2.LINE_AA,
      )
  return picture


def levels(similarity: np.ndarray) -> np.ndarray:
  """Returns its 1st to 99th percentile as [0, 1], float32 of the same shape."""
  low, high = np.percentile(similarity, [1, 99])
  level = np.clip((similarity - low) / max(high - low, 1e-6), 0, 1)
  return level.astype(np.float32)


def paint(
  image: np.ndarray, level: np.ndarray, opacity: float = 0.55
) -> np.ndarray:
  """Returns an image under colours, as (H, W, 3) uint8 BGR.

  Args:
    image: (H, W) uint8.
    level: (H, W) float32 in [0, 1], from dark and faint to bright and dense;
      NaN leaves the image as it is.
    opacity: of the highest level, in [0, 1].
  """
  colour = mpl.colormaps["inferno"](np.nan_to_num(level))[..., 2::-1] * 255
  share = opacity * np.nan_to_num(0.22 + 0.78 * level)[..., None]
  canvas = image[..., None] * (1 - share) + colour * share
  return np.ascontiguousarray(np.clip(canvas, 0, 255).astype(np.uint8))


def tile(
  image: np.ndarray,
  similarity: np.ndarray | None = None,
  boxes: np.ndarray | None = None,
) -> str:
  """Returns what `overlay` does, as a JPEG."""
  picture = overlay(image, similarity, boxes)
  _, data = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, 88])
  text = base64.b64encode(data.tobytes()).decode("ascii")
  return f"data:image/jpeg;base64,{text}"


def sheet(maps: heatmaps.Heatmaps) -> np.ndarray:
  """Returns all images of `maps` beside what their sentences point to.

  Returns:
    (H, W, 3) uint8 RGB: a row of images, with their boxes, over a row of maps.
  """
  columns = []
  for k, image in enumerate(maps.images):
    boxes = maps.boxes[maps.box_image == k]
    columns.append(
      np.concatenate(
        [
          overlay(image, boxes=boxes),
          overlay(image, maps.phrase_maps[k], boxes),
        ]
      )
    )
  return np.concatenate(columns, axis=1)[..., ::-1]
