"""Pretrained weights: where they lie, what tower they need, what they fill.

Safetensors only: nothing is unpickled and no remote code runs. How names and
layouts translate stands in `weight_tables.py`.
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from absl import logging
from flax import traverse_util

from tier_jax.models import (
  bert,
  dual_encoder,
  resnet,
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
  if isinstance(image, resnet.ResNetConfig):
    # A lone file of a ResNet says nothing but its weights.
    if init.image and not Path(init.image).is_file():
      image = resnet_config(init.image, image)
  elif init.image:
    image = image_config(init.image, image)
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
  # A tower and its head lie in the same file, and it is large.
  read = functools.cache(weight_files.read)
  if init.image:
    table = weight_tables.RESNET50
    if "image_tower" not in batch_stats:
      table = _IMAGE_FAMILIES[_read_image_config(init.image)[0]][1]
    tensors = read(init.image, "init.image")
    found |= _fill(table, tensors, init.image, wanted, "image_tower")
  if init.text:
    tensors = read(init.text, "init.text")
    found |= _fill(weight_tables.BERT, tensors, init.text, wanted, "text_tower")
  if init.heads:
    found |= _load_heads(init, wanted, read)

  def part(tree):
    paths = [path for path in _flat(tree) if path in found]
    return traverse_util.unflatten_dict(
      {path: found[path] for path in paths}, sep="/"
    )

  return part(params), part(batch_stats)


def _load_heads(init, wanted, read) -> dict[str, Any]:
  if init.heads != "pretrained":
    paths = [path for path in wanted if "_tower/" not in path]
    return weight_tables.to_ours(
      weight_tables.Table(
        tuple(weight_tables.Row(path, path) for path in paths)
      ),
      read(init.heads, "init.heads"),
      {path: wanted[path] for path in paths},
      init.heads,
    )
  found = {}
  for field, name, part, table in (
    ("image", init.image, "image_head", weight_tables.BIOVIL_HEAD),
    ("text", init.text, "text_head", weight_tables.CXR_BERT_HEAD),
  ):
    stem = table.rows[0].theirs.split(".")[0] + "."
    tensors = read(name, f"init.{field}") if name else {}
    if any(key.startswith(stem) for key in tensors):
      found |= _fill(table, tensors, name, wanted, part)
  if not found:
    raise ValueError(
      "init.heads is 'pretrained', but neither init.image "
      f"{init.image!r} nor init.text {init.text!r} has a projection head; "
      "expected '' or the path of a heads.safetensors"
    )
  return found


def _fill(table, tensors, name, wanted, part) -> dict[str, Any]:
  """Returns the parameters of a part of the dual encoder, by path."""
  found = weight_tables.to_ours(
    table,
    tensors,
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
  values = weight_files.read_json(name, "config.json", field)
  if values is None:
    raise ValueError(f"{field} {name!r} holds no config.json")
  return values


def _complete(kind, values, field, name) -> Any:
  """Returns the config object that fills in what the file leaves out."""
  import huggingface_hub.errors
  import transformers

  try:
    loaded = getattr(transformers, kind).from_dict(values)
    if not 0 < loaded.layer_norm_eps < 1:
      raise ValueError(
        f"layer_norm_eps is {loaded.layer_norm_eps}, expected 0 < eps < 1"
      )
    return loaded
  except (
    huggingface_hub.errors.StrictDataclassError,
    AttributeError,
    LookupError,
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
  theirs: ours for ours, theirs in weight_tables.ACTIVATIONS.items()
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


def _read_image_config(name) -> tuple[str, Any]:
  """The family, and its config.json with the defaults filled in."""
  values = _read_config(name, "init.image")
  kind = values.get("model_type")
  if kind == "siglip":
    kind, values = "siglip_vision_model", values.get("vision_config", {})
    if not isinstance(values, dict):
      raise ValueError(
        f"init.image {name!r}: vision_config of its config.json is {values!r}, "
        "expected a dict"
      )
  if not isinstance(kind, str) or kind not in _IMAGE_FAMILIES:
    raise ValueError(
      f"init.image {name!r} has model_type {kind!r}, expected one of "
      f"{', '.join((*_IMAGE_FAMILIES, 'siglip'))}"
    )
  return kind, _complete(_IMAGE_FAMILIES[kind][0], values, "init.image", name)


def resnet_config(name: str, base: resnet.ResNetConfig) -> resnet.ResNetConfig:
  """Returns `base` with the pixel statistics and sizes of a ResNet's weights.

  Only an export of ours has a config.json that tells the sizes; what else may
  have that name is left alone.

  Args:
    name: local directory or hub name.
    base: gives what no file tells.

  Raises:
    ValueError: if a file is broken or a value is of another type.
  """
  values = weight_files.read_json(name, "config.json", "init.image") or {}
  mean, std = _read_pixel_statistics(name, base)
  base = dataclasses.replace(base, mean=mean, std=std)
  if values.get("model_type") != "biovil_resnet50":
    return base
  width, stage_sizes = values.get("width"), values.get("stage_sizes")
  if not isinstance(stage_sizes, list) or any(
    type(size) is not int for size in (width, *stage_sizes)
  ):
    raise ValueError(
      f"init.image {name!r}: its config.json has width {width!r} and "
      f"stage_sizes {stage_sizes!r}, expected a number and a list of numbers"
    )
  return dataclasses.replace(base, width=width, stage_sizes=tuple(stage_sizes))


def _read_pixel_statistics(name, base):
  """Mean and std of pixels in [0, 1] that the weights were trained with."""
  values: Any = None
  file = ""
  for file in ("preprocessor_config.json", "processor_config.json"):
    values = weight_files.read_json(name, file, "init.image")
    if values is not None:
      break
  values = values or {}

  def check(field, holds, expected):
    if not holds:
      raise ValueError(
        f"init.image {name!r}: {field} of its {file} is {values[field]!r}, "
        f"expected {expected}"
      )

  if "image_processor" in values:  # newer files nest it
    nested = values["image_processor"]
    check("image_processor", isinstance(nested, dict), "a dict")
    values = nested
  for field in ("do_rescale", "do_normalize"):
    check(field, type(values.get(field, True)) is bool, "true or false")
  factor = values.get("rescale_factor", 1 / 255)
  check("rescale_factor", type(factor) in (int, float), "a number")
  if not values.get("do_rescale", True) or not math.isclose(
    factor, 1 / 255, rel_tol=1e-6
  ):
    raise ValueError(
      f"init.image {name!r} rescales pixels by {factor!r} or not at all, "
      f"expected {1 / 255!r}"
    )
  if not values.get("do_normalize", True):
    return (0.0,) * 3, (1.0,) * 3
  statistics = []
  for field, lowest in (("image_mean", "0 <="), ("image_std", "0 <")):
    value = values.get(field)
    if value is None:
      logging.warning(
        "%s names no %s: model.image.mean %s and std %s stay",
        name,
        field,
        base.mean,
        base.std,
      )
      return base.mean, base.std
    items = value if isinstance(value, list) else [value]
    check(
      field,
      len(items) in (1, 3)
      and all(type(item) in (int, float) and 0 <= item <= 1 for item in items)
      and (field == "image_mean" or all(items)),
      f"one or three numbers, {lowest} number <= 1",
    )
    statistics.append(tuple(map(float, items)) * (3 // len(items)))
  return tuple(statistics)


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
  if loaded.hidden_act not in _ACTIVATIONS or positions != "absolute":
    raise ValueError(
      f"init.text {name!r} has hidden_act {loaded.hidden_act!r} and "
      f"position_embedding_type {positions!r}, expected one of "
      f"{', '.join(_ACTIVATIONS)} and 'absolute'"
    )
  return dataclasses.replace(
    base,
    activation=_ACTIVATIONS[loaded.hidden_act],
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
