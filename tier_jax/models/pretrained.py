"""Pretrained weights: where they lie, what tower they need, what they fill.

Safetensors only: nothing is unpickled and no remote code runs. How names and
layouts translate stands in `weight_tables.py`.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging
from flax import traverse_util

from tier_jax.models import (
  bert,
  dual_encoder,
  vit,
  weight_files,
  weight_tables,
)


@dataclasses.dataclass(frozen=True)
class InitConfig:
  """Weights that a training starts from; "" starts from random ones.

  Attributes:
    image: local directory or hub name of the image tower's weights; for a
      ResNet a .safetensors file too.
    text: local directory or hub name of Hugging Face BERT weights.
    heads: "pretrained" takes the projection heads that come with the towers'
      weights; otherwise the path of a heads.safetensors of `launch/export.py`.
  """

  image: str = ""
  text: str = ""
  heads: str = ""


def resolve(
  init: InitConfig, model: dual_encoder.DualEncoderConfig
) -> dual_encoder.DualEncoderConfig:
  """Returns `model` with the towers' sizes read from their weights.

  Raises:
    ValueError: if there are no such weights or no tower of ours fits them.
  """
  image, text = model.image, model.text
  if init.image and isinstance(image, vit.ViTConfig):
    image = image_config(init.image, image)
  elif init.image and not Path(init.image).is_file():
    # A ResNet's sizes stand in no file; a lone one says nothing at all.
    mean, std = _read_pixel_statistics(init.image, image)
    image = dataclasses.replace(image, mean=mean, std=std)
  if init.text:
    text = text_config(init.text, text)
  return dataclasses.replace(model, image=image, text=text)


def load(
  init: InitConfig, params: Mapping[str, Any], batch_stats: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
  """Returns the parts of both trees that weights fill, float32.

  Args:
    init: names the weights.
    params, batch_stats: trees of arrays or shapes of the dual encoder.

  Raises:
    ValueError: lists every key that is unknown, missing or of another shape.
  """
  # One dict for both: batch statistics have names of their own.
  wanted = _shapes({**_flat(params), **_flat(batch_stats)})
  found = {}
  if init.image and "image_tower" in batch_stats:
    found |= _fill(
      weight_tables.RESNET50, init.image, "init.image", wanted, "image_tower"
    )
  elif init.image:
    tower = load_image(init.image, params["image_tower"])
    found |= _flat({"image_tower": tower})
  if init.text:
    tower = load_text(init.text, params["text_tower"])
    found |= _flat({"text_tower": tower})
  if init.heads:
    found |= _load_heads(init, wanted)

  def part(tree):
    paths = [path for path in _flat(tree) if path in found]
    return traverse_util.unflatten_dict(
      {path: found[path] for path in paths}, sep="/"
    )

  return part(params), part(batch_stats)


def _load_heads(init, wanted) -> dict[str, Any]:
  if init.heads != "pretrained":
    paths = [path for path in wanted if "_tower/" not in path]
    return weight_tables.to_ours(
      weight_tables.Table(
        tuple(weight_tables.Row(path, path) for path in paths)
      ),
      weight_files.read(init.heads, "init.heads"),
      {path: wanted[path] for path in paths},
      init.heads,
    )
  found = {}
  for field, name, part, table in (
    ("image", init.image, "image_head", weight_tables.BIOVIL_HEAD),
    ("text", init.text, "text_head", weight_tables.CXR_BERT_HEAD),
  ):
    stem = table.rows[0].theirs.split(".")[0] + "."
    if name and any(
      key.startswith(stem) for key in weight_files.read(name, f"init.{field}")
    ):
      found |= _fill(table, name, f"init.{field}", wanted, part)
  if not found:
    raise ValueError(
      "init.heads is 'pretrained', but neither init.image "
      f"{init.image!r} nor init.text {init.text!r} has a projection head; "
      "expected '' or the path of a heads.safetensors"
    )
  return found


def _fill(table, name, field, wanted, part) -> dict[str, Any]:
  """Returns the parameters of a part of the dual encoder, by path."""
  found = weight_tables.to_ours(
    table,
    weight_files.read(name, field),
    {
      path.removeprefix(part + "/"): shape
      for path, shape in wanted.items()
      if path.startswith(part + "/")
    },
    name,
  )
  return {f"{part}/{path}": value for path, value in found.items()}


def _read_config(name, field) -> dict[str, Any]:
  """What stands in config.json; code that it names is not run."""
  import transformers  # a run from scratch starts without it

  try:
    values, _ = transformers.PreTrainedConfig.get_config_dict(
      name, local_files_only=Path(name).is_dir()
    )
  except (OSError, ValueError) as error:
    raise ValueError(
      f"{field} {name!r} is neither a local directory nor a hub name that "
      f"loads: {str(error).splitlines()[0]}"
    ) from error
  if not values:
    raise ValueError(f"{field} {name!r} holds no config.json")
  return values


def _complete(kind, values, field, name) -> Any:
  """Returns the config object that fills in what the file leaves out."""
  import huggingface_hub.errors
  import transformers

  try:
    return getattr(transformers, kind).from_dict(values)
  except (
    huggingface_hub.errors.StrictDataclassError,
    TypeError,
    ValueError,
  ) as error:
    raise ValueError(
      f"{field} {name!r}: its config.json is malformed: "
      f"{' '.join(str(error).split())}"
    ) from error


def _flat(tree) -> dict[str, Any]:
  return traverse_util.flatten_dict(dict(tree), sep="/")  # pyright: ignore


def _shapes(flat) -> dict[str, tuple[int, ...]]:
  return {path: tuple(leaf.shape) for path, leaf in flat.items()}


# model_type of config.json -> the class that knows its defaults, and table.
_IMAGE_FAMILIES = {
  "vit": ("ViTConfig", weight_tables.VIT),
  "dinov2": ("Dinov2Config", weight_tables.DINOV2),
  "dinov2_with_registers": (
    "Dinov2WithRegistersConfig",
    weight_tables.DINOV2_WITH_REGISTERS,
  ),
  "siglip_vision_model": ("SiglipVisionConfig", weight_tables.SIGLIP),
}
_ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_pytorch_tanh": "gelu_tanh",
  "relu": "relu",
}


def image_config(name: str, base: vit.ViTConfig) -> vit.ViTConfig:
  """Returns `base` with the sizes and pixel statistics of a ViT's weights.

  Hugging Face's ViT, DINOv2 (without and with registers) and SigLIP, of which
  config.json and preprocessor_config.json are read.

  Args:
    name: local directory or hub name.
    base: gives what is no matter of the weights: image_size, pooling, dtype;
      and mean and std where there is no preprocessor_config.json.

  Raises:
    ValueError: if there is no such model, it has parts that our tower has
      not, or it lacks what `base.pooling` needs.
  """
  kind, loaded = _read_image_config(name)
  expected = {
    "num_channels": 3,
    "qkv_bias": True,
    "use_swiglu_ffn": False,
  }
  problems = [
    f"{field} {getattr(loaded, field)!r}, expected {value!r}"
    for field, value in expected.items()
    if getattr(loaded, field, value) != value
  ]
  if loaded.hidden_act not in _ACTIVATIONS:
    problems.append(
      f"hidden_act {loaded.hidden_act!r}, expected one of "
      f"{', '.join(_ACTIVATIONS)}"
    )
  if not isinstance(loaded.patch_size, int):
    problems.append(f"patch_size {loaded.patch_size!r}, expected one number")
  if problems:
    raise ValueError(f"init.image {name!r} has {'; '.join(problems)}")
  dino = kind.startswith("dinov2")
  class_token = kind != "siglip_vision_model"
  poolings = ["mean"]
  if class_token:
    poolings.append("class")
  elif getattr(loaded, "vision_use_head", True):
    poolings.append("map")
  if base.pooling not in poolings:
    raise ValueError(
      f"model.image.pooling is {base.pooling!r}, expected one of "
      f"{', '.join(poolings)} with init.image {name!r}, a {kind}"
    )
  mean, std = _read_pixel_statistics(name, base)
  return dataclasses.replace(
    base,
    patch_size=loaded.patch_size,
    variant="",
    width=loaded.hidden_size,
    depth=loaded.num_hidden_layers,
    num_heads=loaded.num_attention_heads,
    mlp_dim=int(loaded.hidden_size * loaded.mlp_ratio)
    if dino
    else loaded.intermediate_size,
    class_token=class_token,
    num_registers=getattr(loaded, "num_register_tokens", 0),
    layer_scale=dino,
    activation=_ACTIVATIONS[loaded.hidden_act],
    layer_norm_eps=loaded.layer_norm_eps,
    mean=mean,
    std=std,
  )


def load_image(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the parameters of a ViT, float32, from Hugging Face weights.

  Positions are resized where the weights are of another image size.

  Args:
    name: local directory or hub name; its safetensors are read.
    params: tree of arrays or shapes of the tower that shall be filled.

  Raises:
    ValueError: if a file is missing, or lists every key that is unknown,
      missing or of another shape.
  """
  kind, _ = _read_image_config(name)
  found = weight_tables.to_ours(
    _IMAGE_FAMILIES[kind][1],
    weight_files.read(name, "init.image"),
    _shapes(_flat(params)),
    name,
  )
  return traverse_util.unflatten_dict(found, sep="/")


def _read_image_config(name) -> tuple[str, Any]:
  """The family, and its config.json with the defaults filled in."""
  values = _read_config(name, "init.image")
  kind = values.get("model_type")
  if kind == "siglip":
    kind, values = "siglip_vision_model", values.get("vision_config") or {}
  if kind not in _IMAGE_FAMILIES:
    raise ValueError(
      f"init.image {name!r} has model_type {kind!r}, expected one of "
      f"{', '.join((*_IMAGE_FAMILIES, 'siglip'))}"
    )
  return kind, _complete(_IMAGE_FAMILIES[kind][0], values, "init.image", name)


def _read_pixel_statistics(name, base):
  """Mean and std of pixels in [0, 1] that the weights were trained with."""
  values = {}
  for file in ("preprocessor_config.json", "processor_config.json"):
    path = weight_files.find(name, file, "init.image")
    if path:
      try:
        values = json.loads(path.read_text("utf-8"))
        # Newer files nest it.
        values = dict(values.get("image_processor", values))
      except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(
          f"init.image {name!r}: its {file} cannot be read: {error}"
        ) from error
      break
  factor = values.get("rescale_factor", 1 / 255)
  if not values.get("do_rescale", True) or not math.isclose(
    factor, 1 / 255, rel_tol=1e-6
  ):
    raise ValueError(
      f"init.image {name!r} rescales pixels by {factor!r} or not at all, "
      f"expected {1 / 255!r}"
    )
  if not values.get("do_normalize", True):
    return (0.0,) * 3, (1.0,) * 3
  if "image_mean" not in values or "image_std" not in values:
    logging.warning(
      "%s names no image_mean and image_std: model.image.mean %s and std %s",
      name,
      base.mean,
      base.std,
    )
    return base.mean, base.std
  return tuple(
    tuple(np.broadcast_to(values[key], 3).astype(float).tolist())
    for key in ("image_mean", "image_std")
  )


def text_config(name: str, base: bert.BertConfig) -> bert.BertConfig:
  """Returns `base` with the sizes of a Hugging Face BERT or CXR-BERT.

  Only config.json is read: the code that CXR-BERT's names is not.

  Args:
    name: local directory or hub name.
    base: gives what is no matter of the weights: dropout and dtype.

  Raises:
    ValueError: if there is no such model, or it is no plain BERT.
  """
  values = _read_config(name, "init.text")
  kind = values.get("model_type")
  if kind not in ("bert", "cxr-bert"):
    raise ValueError(
      f"init.text {name!r} has model_type {kind!r}, expected 'bert' or "
      "'cxr-bert'"
    )
  loaded = _complete(
    "BertConfig", {**values, "model_type": "bert"}, "init.text", name
  )
  positions = values.get("position_embedding_type", "absolute")
  if loaded.hidden_act != "gelu" or positions != "absolute":
    raise ValueError(
      f"init.text {name!r} has hidden_act {loaded.hidden_act!r} and "
      f"position_embedding_type {positions!r}, expected 'gelu' and 'absolute'"
    )
  return dataclasses.replace(
    base,
    activation="gelu",
    **{
      field: getattr(loaded, field)
      for field in (
        "vocab_size",
        "hidden_size",
        "num_hidden_layers",
        "num_attention_heads",
        "intermediate_size",
        "max_position_embeddings",
        "type_vocab_size",
        "layer_norm_eps",
      )
    },
  )


def load_text(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the text tower's parameters, float32, from Hugging Face weights.

  Args:
    name: local directory or hub name; its safetensors are read.
    params: tree of arrays or shapes of the tower that shall be filled.

  Raises:
    ValueError: if the file is missing, or lists every key that is unknown,
      missing or of another shape.
  """
  tensors = weight_files.read(name, "init.text")
  found = weight_tables.to_ours(
    weight_tables.BERT, tensors, _shapes(_flat(params)), name
  )
  return traverse_util.unflatten_dict(found, sep="/")
