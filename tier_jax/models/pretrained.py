"""Hugging Face safetensors to our parameters, as one table per tower.

Safetensors only: nothing is unpickled and no remote code runs. Every key of
the file is mapped, known to be ignorable, or an error; all differences are
reported at once.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from flax import traverse_util

from tier_jax.models import bert

# Hugging Face key -> our path. A Dense kernel is the transpose of their
# weight; a norm's scale and an embedding are their weight as it is.
_BERT = {
  r"embeddings\.(word|position|token_type)_embeddings\.weight": (
    r"\1_embeddings.embedding"
  ),
  r"embeddings\.LayerNorm\.weight": r"norm.scale",
  r"embeddings\.LayerNorm\.bias": r"norm.bias",
  r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.weight": (
    r"layer_\1.\2.kernel"
  ),
  r"encoder\.layer\.(\d+)\.attention\.self\.(query|key|value)\.bias": (
    r"layer_\1.\2.bias"
  ),
  r"encoder\.layer\.(\d+)\.attention\.output\.dense\.weight": (
    r"layer_\1.attention_out.kernel"
  ),
  r"encoder\.layer\.(\d+)\.attention\.output\.dense\.bias": (
    r"layer_\1.attention_out.bias"
  ),
  r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.weight": (
    r"layer_\1.norm_attention.scale"
  ),
  r"encoder\.layer\.(\d+)\.attention\.output\.LayerNorm\.bias": (
    r"layer_\1.norm_attention.bias"
  ),
  r"encoder\.layer\.(\d+)\.intermediate\.dense\.weight": (
    r"layer_\1.mlp_in.kernel"
  ),
  r"encoder\.layer\.(\d+)\.intermediate\.dense\.bias": r"layer_\1.mlp_in.bias",
  r"encoder\.layer\.(\d+)\.output\.dense\.weight": r"layer_\1.mlp_out.kernel",
  r"encoder\.layer\.(\d+)\.output\.dense\.bias": r"layer_\1.mlp_out.bias",
  r"encoder\.layer\.(\d+)\.output\.LayerNorm\.weight": (
    r"layer_\1.norm_mlp.scale"
  ),
  r"encoder\.layer\.(\d+)\.output\.LayerNorm\.bias": r"layer_\1.norm_mlp.bias",
}
# The pooler and pretraining heads are no part of the tower; position_ids is a
# constant that older versions saved.
_BERT_IGNORED = r"pooler\..*|cls\..*|cls_projection_head\..*|.*position_ids"


def bert_config(name: str, base: bert.BertConfig) -> bert.BertConfig:
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


def load_bert(name: str, params: Mapping[str, Any]) -> dict[str, Any]:
  """Returns the text tower's parameters, float32, from Hugging Face weights.

  Args:
    name: local directory or hub name; its `model.safetensors` is read.
    params: tree of arrays or shapes of the tower that shall be filled.

  Raises:
    ValueError: if the file is missing, or lists every key that is unknown,
      missing or of another shape.
  """
  try:
    tensors = safetensors.numpy.load_file(_weights_file(name))
  except (OSError, safetensors.SafetensorError) as error:
    raise ValueError(
      f"init.text {name!r}: its model.safetensors cannot be read: {error}"
    ) from error
  return _convert(tensors, params, _BERT, _BERT_IGNORED, "bert.", name)


def _weights_file(name: str) -> Path:
  if Path(name).is_dir():
    path = Path(name) / "model.safetensors"
    if not path.is_file():
      raise ValueError(f"init.text {name!r} holds no model.safetensors")
    return path
  from huggingface_hub import hf_hub_download

  return Path(hf_hub_download(name, "model.safetensors"))


def _convert(tensors, params, table, ignored, prefix, name):
  """Returns the nested tree that the table makes of the tensors."""
  wanted: dict[str, Any] = traverse_util.flatten_dict(dict(params), sep=".")  # pyright: ignore
  found, problems = {}, []
  for key, tensor in tensors.items():
    short = key.removeprefix(prefix)
    for pattern, replacement in table.items():
      if re.fullmatch(pattern, short):
        path = re.sub(pattern, replacement, short)
        value = tensor.T if path.endswith(".kernel") else tensor
        found[path] = np.asarray(value, np.float32)
        break
    else:
      if not re.fullmatch(ignored, short):
        problems.append(f"unknown key {key}")
  for path, leaf in wanted.items():
    if path not in found:
      problems.append(f"nothing for {path}")
    elif found[path].shape != leaf.shape:
      problems.append(f"{path} is {found[path].shape}, expected {leaf.shape}")
  problems += [f"no place for {path}" for path in found.keys() - wanted.keys()]
  if problems:
    raise ValueError(
      f"weights of {name!r} do not fit:\n  " + "\n  ".join(sorted(problems))
    )
  return traverse_util.unflatten_dict(found, sep=".")
