"""A trained model as files that others load.

The towers become Hugging Face directories, which transformers loads without
code of ours; only for a ResNet it has no class, and that one's keys are
BioViL's. The heads lie beside them. What is written can be read back by
`init.image`, `init.text` and `init.heads`: the same parameters, bit for bit.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tokenizers
from flax import traverse_util

from tier_jax import inference, model_card
from tier_jax.models import bert, resnet, weight_tables

IMAGE, TEXT, HEADS = "image_tower", "text_tower", "heads.safetensors"
_SCALARS = ("logit_scale", "logit_bias")


def write(model: inference.Model, output_dir: Path, workdir: Path) -> None:
  """Writes towers, heads, tokenizer and model card.

  Args:
    model: a restored training.
    output_dir: a new directory; it is complete when it is there.
    workdir: of the training; its metrics.json, where there is one, goes into
      the card.

  Raises:
    ValueError: before anything is written, if `output_dir` is there already,
      no Hugging Face model has the image tower's parts, or metrics.json is not
      what `launch/eval.py` writes.
  """
  config = model.config.model
  image_config, table = _image_family(config.image)
  variables = jax.device_get(model.encoder.variables)
  flat: dict[str, Any] = {
    name: value
    for tree in (variables["params"], variables["batch_stats"])
    for name, value in traverse_util.flatten_dict(tree, sep="/").items()
  }

  def part(prefix):
    return {
      name.removeprefix(prefix + "/"): value
      for name, value in flat.items()
      if name.startswith(prefix + "/")
    }

  image_tensors = weight_tables.to_theirs(table, part(IMAGE))
  text_tensors = weight_tables.to_theirs(weight_tables.BERT, part(TEXT))
  card = model_card.text(
    model, image_config["model_type"], _use(config), workdir
  )

  with new_directory(output_dir) as unfinished:
    image_dir, text_dir = unfinished / IMAGE, unfinished / TEXT
    for directory in (image_dir, text_dir):
      directory.mkdir(parents=True)
    _write_json(image_dir / "config.json", image_config)
    _write_json(
      image_dir / "preprocessor_config.json", _preprocessor(config.image)
    )
    _write_tensors(image_dir / "model.safetensors", image_tensors)
    _write_json(text_dir / "config.json", _bert_config(config.text))
    _write_tensors(text_dir / "model.safetensors", text_tensors)
    _write_tokenizer(text_dir, model.encoder.tokenize.to_json(), config.text)
    _write_tensors(
      unfinished / HEADS,
      {
        name: value
        for name, value in flat.items()
        if name.startswith(("image_head/", "text_head/")) or name in _SCALARS
      },
    )
    (unfinished / "README.md").write_text(card, "utf-8")


@contextlib.contextmanager
def new_directory(output_dir: Path) -> Iterator[Path]:
  """Gives a folder that becomes `output_dir` once all in it is written.

  Raises:
    ValueError: if `output_dir` is there already.
  """
  if output_dir.exists():
    raise ValueError(f"{output_dir} exists, expected a new directory")
  output_dir.parent.mkdir(parents=True, exist_ok=True)
  with tempfile.TemporaryDirectory(
    prefix=f".{output_dir.name}.", dir=output_dir.parent
  ) as scratch:
    unfinished = Path(scratch) / output_dir.name
    unfinished.mkdir()
    yield unfinished
    unfinished.rename(output_dir)


def _image_family(config) -> tuple[dict[str, Any], weight_tables.Table]:
  """Returns config.json and the table of the family that has such a tower."""
  if isinstance(config, resnet.ResNetConfig):
    # No class of transformers: the names are those of BioViL's own file.
    about = {
      "model_type": "biovil_resnet50",
      "image_size": config.image_size,
      "width": config.width,
      "stage_sizes": list(config.stage_sizes),
    }
    return about, weight_tables.RESNET50
  common = {
    "image_size": config.image_size,
    "patch_size": config.patch_size,
    "num_channels": 3,
    "hidden_size": config.width,
    "num_hidden_layers": config.depth,
    "num_attention_heads": config.num_heads,
    "hidden_act": weight_tables.ACTIVATIONS[config.activation],
    "layer_norm_eps": config.layer_norm_eps,
    "dtype": "float32",
  }
  if config.layer_scale and config.mlp_dim % config.width:
    raise ValueError(
      f"model.image.mlp_dim {config.mlp_dim} is not a multiple of width "
      f"{config.width}, as Hugging Face's DINOv2 must have it"
    )
  dino = {"mlp_ratio": config.mlp_dim // config.width, "qkv_bias": True}
  flat = {"intermediate_size": config.mlp_dim}
  parts = (config.class_token, config.layer_scale, config.num_registers > 0)
  match parts, config.pooling == "map":
    case (True, False, False), False:
      kind, name, table = "vit", "ViTModel", weight_tables.VIT
      common |= flat | {"qkv_bias": True}
    case (True, True, False), False:
      kind, name, table = "dinov2", "Dinov2Model", weight_tables.DINOV2
      common |= dino | {"use_mask_token": False}
    case (True, True, True), False:
      kind, name = "dinov2_with_registers", "Dinov2WithRegistersModel"
      table = weight_tables.DINOV2_WITH_REGISTERS
      common |= dino | {"num_register_tokens": config.num_registers}
    case (False, False, False), pooled:
      kind, name = "siglip_vision_model", "SiglipVisionModel"
      table = weight_tables.SIGLIP
      common |= flat | {"vision_use_head": pooled}
    case _:
      raise ValueError(
        f"no Hugging Face model has model.image.class_token "
        f"{config.class_token}, layer_scale {config.layer_scale}, "
        f"num_registers {config.num_registers} and pooling "
        f"{config.pooling!r} together; expected the parts of ViT (class "
        "token), DINOv2 (and LayerScale, and registers) or SigLIP (none)"
      )
  return {"model_type": kind, "architectures": [name], **common}, table


def _preprocessor(config) -> dict[str, Any]:
  # The centre crop of a short side that is larger by 8/7, as in evaluation.
  size = config.image_size
  return {
    "image_processor_type": "BitImageProcessor",
    "do_convert_rgb": True,
    "do_resize": True,
    "size": {"shortest_edge": round(size * 256 / 224)},
    "do_center_crop": True,
    "crop_size": {"height": size, "width": size},
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": list(config.mean),
    "image_std": list(config.std),
  }


def _bert_config(config: bert.BertConfig) -> dict[str, Any]:
  return {
    "model_type": "bert",
    "architectures": ["BertModel"],
    "vocab_size": config.vocab_size,
    "hidden_size": config.hidden_size,
    "num_hidden_layers": config.num_hidden_layers,
    "num_attention_heads": config.num_attention_heads,
    "intermediate_size": config.intermediate_size,
    "max_position_embeddings": config.max_position_embeddings,
    "type_vocab_size": config.type_vocab_size,
    "layer_norm_eps": config.layer_norm_eps,
    "hidden_act": weight_tables.ACTIVATIONS[config.activation],
    "hidden_dropout_prob": config.dropout_rate,
    "attention_probs_dropout_prob": config.attention_dropout_rate,
    "dtype": "float32",
  }


def _write_tokenizer(directory: Path, text: str, config: bert.BertConfig):
  backend = tokenizers.Tokenizer.from_str(text)
  backend.no_padding()
  backend.no_truncation()
  backend.save(str(directory / "tokenizer.json"))
  _write_json(
    directory / "tokenizer_config.json",
    {
      "tokenizer_class": "PreTrainedTokenizerFast",
      "model_max_length": config.max_position_embeddings,
      **{
        f"{name.lower()}_token": f"[{name}]"
        for name in ("PAD", "UNK", "CLS", "SEP", "MASK")
        if backend.token_to_id(f"[{name}]") is not None
      },
    },
  )


def _use(config) -> list[str]:
  """Lines of the card: from the files to vectors in the joint space."""
  dense = "dense, gelu, layer norm, dense"
  if isinstance(config.image, resnet.ResNetConfig):
    lines = [
      f"`{TEXT}` loads with transformers (`AutoModel`, `AutoTokenizer`).",
      f"`{IMAGE}` does not: it is a ResNet-50 with the keys of torchvision's,",
      "whose last feature map, row by row, is its hidden state. A tower's last",
      f"hidden state goes through the head of `{HEADS}` (of texts: {dense}; of",
      "images: dense without bias, batch norm by its running statistics with",
      "eps 1e-5, relu, dense; kernels are (in, out));",
    ]
    pooling = "mean"
  else:
    lines = [
      f"`{IMAGE}` and `{TEXT}` load with transformers (`AutoModel`,",
      "`AutoTokenizer`). A tower's last hidden state goes through the head of",
      f"`{HEADS}` ({dense}; kernels are (in, out));",
    ]
    pooling = config.image.pooling
  if config.merge_wordpieces:
    lines.append("the pieces of a word have the mean of their states before;")
  vector, poolers = {
    "mean": ("the mean of the projected patches", "Poolers are not trained."),
    "class": ("that of the class token", "Poolers are not trained."),
    "map": (
      "that of the tower's pooled output",
      f"The pooler of `{IMAGE}` is trained, that of `{TEXT}` is not.",
    ),
  }[pooling]
  return [
    *lines,
    f"the text vector is that of [CLS], the image vector {vector};",
    "both are divided by their norm.",
    poolers,
    "To go on from here, set `init.image`, `init.text` and `init.heads`, and",
    f"`data.tokenizer` to `{TEXT}` too.",
  ]


def _write_json(path: Path, value: Mapping[str, Any]) -> None:
  path.write_text(json.dumps(value, indent=2) + "\n", "utf-8")


def _write_tensors(path: Path, tensors: Mapping[str, np.ndarray]) -> None:
  safetensors.numpy.save_file(
    # Not np.ascontiguousarray, which makes a scalar an array of one.
    {name: np.asarray(value, order="C") for name, value in tensors.items()},
    path,
    metadata={"format": "pt"},  # what transformers asks for
  )
