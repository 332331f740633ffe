"""Patches of a frozen image tower, computed once and kept on disk.

What stands on a tower that does not train, heads and texts, then trains in
milliseconds a step on a CPU, and many runs share one pass over the images.
Records are seen as evaluation sees them, without augmentation.
"""

import concurrent.futures
import hashlib
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm
from absl import logging

from tier_jax import config as config_lib
from tier_jax import program as program_lib
from tier_jax.data import pair_source, transforms
from tier_jax.evaluators import digests
from tier_jax.models import pretrained, vit
from tier_jax.train_state import params_digest

_BATCH = 32  # images a pass


def read(
  program: program_lib.Program, source: pair_source.PairSource
) -> np.ndarray:
  """Returns the tower's patches of all records, computed if need be.

  They are kept in `data.feature_cache`, in a file named by the digest of all
  that they depend on: another tower or other records find another file.

  Args:
    program: of a config with `data.feature_cache`.
    source: the records, all of which are read the first time.

  Returns:
    (N, P, W) float16, in the order of `source`, mapped from the file.

  Raises:
    ValueError: if the weights do not fit, a patch exceeds float16, or a record
      is corrupt.
    OSError: if the file cannot be written.
  """
  config = program.config
  params, _ = pretrained.load(
    config.init, program.state.params, program.state.batch_stats
  )
  tower = params["image_tower"]
  path = (
    Path(config.data.feature_cache) / f"{_digest(config, tower, source)}.npy"
  )
  if not path.is_file():
    _write(path, config, tower, source)
  return np.load(path, mmap_mode="r", allow_pickle=False)


def _digest(config: config_lib.Config, tower: Any, source) -> str:
  facts = {
    "tower": asdict(config.model.image),
    "weights": params_digest(tower),
    "data": source.digest,
    "sections": config.data.sections,  # what has none is not in `source`
    "code": digests.of_code(),
  }
  text = json.dumps(facts, sort_keys=True)
  return hashlib.sha256(text.encode()).hexdigest()


def _write(path: Path, config: config_lib.Config, tower: Any, source) -> None:
  image: Any = config.model.image  # a ViT's, as the config was checked
  network = vit.ViT(image)

  @jax.jit
  def encode(images):
    features: Any = network.apply({"params": tower}, images)
    return features.patches.astype(jnp.float16)

  def view(index: int) -> np.ndarray:
    _, record = source.read(index)
    return transforms.eval_image(record.image, image.image_size)

  path.parent.mkdir(parents=True, exist_ok=True)
  # Several runs may make it at a time: each its own, and the last stays.
  part = path.with_suffix(f".{os.getpid()}.part")
  shape = (len(source), image.grid[0] * image.grid[1], image.width)
  logging.info("%s: patches of %d records, %s", path.name, shape[0], shape[1:])
  starts = range(0, shape[0], _BATCH)
  with (
    part.open("wb") as file,
    concurrent.futures.ThreadPoolExecutor(config.data.num_threads) as pool,
  ):
    header = {"descr": "<f2", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for start in tqdm.tqdm(starts, "image tower", disable=None, leave=False):
      indices = range(start, min(start + _BATCH, shape[0]))
      images = np.stack(list(pool.map(view, indices)))
      missing = _BATCH - len(images)
      images = np.concatenate([images, images[:1].repeat(missing, 0)])
      patches = np.asarray(encode(images), "<f2")[: len(indices)]
      if not np.isfinite(patches).all():
        raise ValueError(
          f"init.image {config.init.image!r} gives patches beyond float16 for "
          "some record, expected them below 65,504"
        )
      file.write(patches.tobytes())
  part.replace(path)  # whole, or not there
