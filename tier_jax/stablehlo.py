"""A trained model as two StableHLO programs, which need jax alone.

Programs and parameters lie apart: the programs stay small, whatever the model's
size, and one file of arrays each can be read without running anything. Two
gigabytes are the most that a program with its parameters inside could have.
"""

import dataclasses
import importlib.resources
import json
import shutil
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax import export as jax_export

from tier_jax import checksums, export, inference, model_card, stablehlo_loader
from tier_jax.models import dual_encoder, vit

PLATFORMS = ("cpu", "cuda", "tpu")


def write(model: inference.Model, output_dir: Path, workdir: Path) -> None:
  """Writes both encoders, what goes before them, and a loader.

  Programs are exported for any number of images or texts, and for `PLATFORMS`.
  They compute as `inference` does on the same device, in the training's types.

  Args:
    model: a restored training.
    output_dir: a new directory; it is complete when it is there.
    workdir: of the training; its metrics.json, where there is one, goes into
      the card.

  Raises:
    ValueError: before anything is written, if `output_dir` is there already or
      metrics.json is not what `launch/eval.py` writes.
  """
  card = model_card.text(model, model.config.model.image.tower, _USE, workdir)
  variables = traverse_util.flatten_dict(
    jax.device_get(model.encoder.variables), sep="/"
  )
  with export.new_directory(output_dir) as unfinished:
    for name, exported in _export(model, variables).items():
      (unfinished / f"{name}.jax_export").write_bytes(exported.serialize())
      with (unfinished / f"{name}.npz").open("wb") as file:
        np.savez(file, **_part(variables, name))
    (unfinished / "preprocessing.json").write_text(
      json.dumps(_preprocessing(model), indent=2) + "\n", "utf-8"
    )
    (unfinished / "tokenizer.json").write_text(
      model.encoder.tokenize.to_json(), "utf-8"
    )
    shutil.copyfile(stablehlo_loader.__file__, unfinished / "load.py")
    _copy_flatbuffers(unfinished / "vendored" / "flatbuffers")
    (unfinished / "README.md").write_text(card, "utf-8")
    checksums.write(unfinished)


def _export(model, variables) -> dict[str, jax_export.Exported]:
  network = dual_encoder.DualEncoder(_portable(model.config.model))
  (count,) = jax_export.symbolic_shape("b")
  size, length = model.encoder.image_size, model.encoder.tokenize.max_length

  def encoder(method):
    def encode(flat, *inputs):
      nested = traverse_util.unflatten_dict(flat, sep="/")
      return network.apply(nested, *inputs, method=method)

    return jax.jit(encode)

  tokens = jax.ShapeDtypeStruct((count, length), jnp.int32)
  image = jax.ShapeDtypeStruct((count, size, size), jnp.uint8)
  return {
    f"{kind}_encoder": jax_export.export(
      encoder(f"encode_{kind}"), platforms=PLATFORMS
    )(_part(variables, f"{kind}_encoder"), *inputs)
    for kind, inputs in (("image", [image]), ("text", [tokens] * 3))
  }


def _part(variables, name) -> dict[str, Any]:
  """Returns the variables of one encoder; the logits' scalars go with both."""
  other = "text_" if name == "image_encoder" else "image_"
  return {
    key: value
    for key, value in variables.items()
    if not key.split("/")[1].startswith(other)
  }


def _portable(config: dual_encoder.DualEncoderConfig):
  """Returns a config of the same function that every platform compiles."""

  def portable(tower: Any):
    # Kernels are of one platform; the rest is about training's memory.
    return dataclasses.replace(
      tower, attention="xla", remat="none", scan_layers=False
    )

  image = config.image
  return dataclasses.replace(
    config,
    image=portable(image) if isinstance(image, vit.ViTConfig) else image,
    text=portable(config.text),
  )


def _preprocessing(model) -> dict[str, Any]:
  return {
    "image": {
      "size": model.encoder.image_size,
      "grid": list(model.encoder.grid),
      "pixels": "grey uint8, bright where the body is dense; the program "
      "normalises them itself",
      "recipe": model.rendering.recipe,
      "short_side": model.rendering.short_side,
      "crop_fraction": 224 / 256,
      "resize": "a short side above short_side to it, by area; then the short "
      "side to size / crop_fraction, by area if it shrinks "
      "and linearly if it grows; then the centre crop",
    },
    "text": {
      "max_length": model.encoder.tokenize.max_length,
      "placeholders": "runs of __ and XXXX are one token, as in load.py",
    },
  }


def _copy_flatbuffers(directory: Path) -> None:
  """Copies the package that jax reads exports with, and does not install."""
  directory.mkdir(parents=True)
  for file in importlib.resources.files("flatbuffers").iterdir():
    if file.name.endswith(".py"):
      (directory / file.name).write_bytes(file.read_bytes())


_USE = (
  "`load.py` needs jax and the files beside it; its first lines show how. The",
  "two `.jax_export` files are StableHLO as `jax.export` of jax",
  f"{jax.__version__} serialises it, for CPU, CUDA and TPU and any number of",
  "rows; jax promises that its versions of the next six months read it. Their",
  "first argument is the dictionary of the arrays in the `.npz` beside each.",
  "Then come images, (N, S, S) uint8 as `preprocessing.json` says; or",
  "input_ids, attention_mask and word_starts, each (N, T) int32. An image",
  "gives its vector and its patches', a text its own and its tokens'; all are",
  "unit vectors. `sha256sum -c SHA256SUMS` checks the files.",
  "`vendored/flatbuffers` is Google's, under the Apache License 2.0.",
)
