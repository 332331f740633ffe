"""Pretrained weights: where they lie, what tower they need, what they fill.

Safetensors only: nothing is unpickled and no remote code runs. How names and
layouts translate stands in `weight_tables.py`.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

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
    image: local directory or hub name of the image tower's weights.
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
  if init.image:
    image = image_config(init.image, image)
  if init.text:
    text = text_config(init.text, text)
  return dataclasses.replace(model, image=image, text=text)


def load(init: InitConfig, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the parts of the dual encoder's parameters that weights fill.

  Args:
    init: names the weights.
    params: tree of arrays or shapes of the dual encoder.

  Raises:
    ValueError: lists every key that is unknown, missing or of another shape.
  """
  loaded = {}
  if init.image:
    loaded["image_tower"] = load_image(init.image, params["image_tower"])
  if init.text:
    loaded["text_tower"] = load_text(init.text, params["text_tower"])
  return loaded


def image_config(name: str, base: vit.ViTConfig) -> vit.ViTConfig:
  """Returns `base` with the sizes of the image tower's weights."""
  raise ValueError(f"init.image {name!r}: expected ''")


def load_image(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the image tower's parameters, float32, from its weights."""
  raise ValueError(f"init.image {name!r}: expected ''")


def text_config(name: str, base: bert.BertConfig) -> bert.BertConfig:
  """Returns `base` with the sizes of a Hugging Face BERT.

  Args:
    name: local directory or hub name.
    base: gives what is no matter of the weights: dropout and dtype.

  Raises:
    ValueError: if there is no such model, or it is no plain BERT.
  """
  from transformers import AutoConfig  # a run from scratch starts without it

  try:
    loaded = AutoConfig.from_pretrained(
      name, local_files_only=Path(name).is_dir(), trust_remote_code=False
    )
  except (OSError, ValueError) as error:
    raise ValueError(
      f"init.text {name!r} is neither a local directory nor a hub name that "
      f"loads: {str(error).splitlines()[0]}"
    ) from error
  if loaded.model_type != "bert":
    raise ValueError(
      f"init.text {name!r} has model_type {loaded.model_type!r}, expected "
      "'bert'"
    )
  kind = getattr(loaded, "position_embedding_type", "absolute")
  if loaded.hidden_act != "gelu" or kind != "absolute":
    raise ValueError(
      f"init.text {name!r} has hidden_act {loaded.hidden_act!r} and "
      f"position_embedding_type {kind!r}, expected 'gelu' and 'absolute'"
    )
  return bert.BertConfig(
    vocab_size=loaded.vocab_size,
    hidden_size=loaded.hidden_size,
    num_hidden_layers=loaded.num_hidden_layers,
    num_attention_heads=loaded.num_attention_heads,
    intermediate_size=loaded.intermediate_size,
    max_position_embeddings=loaded.max_position_embeddings,
    type_vocab_size=loaded.type_vocab_size,
    layer_norm_eps=loaded.layer_norm_eps,
    dropout_rate=base.dropout_rate,
    dtype=base.dtype,
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
  flat: dict[str, Any] = traverse_util.flatten_dict(dict(params), sep="/")  # pyright: ignore
  wanted = {path: tuple(leaf.shape) for path, leaf in flat.items()}
  found = weight_tables.to_ours(weight_tables.BERT, tensors, wanted, name)
  return traverse_util.unflatten_dict(found, sep="/")
