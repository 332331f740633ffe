"""A trained model as files that others load.

The towers become Hugging Face directories, which transformers loads without
code of ours; the heads lie beside them. What is written can be read back by
`init.image`, `init.text` and `init.heads`: the same parameters, bit for bit.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
import tokenizers
from flax import traverse_util

from tier_jax import config as config_lib
from tier_jax import inference
from tier_jax.evaluators import results
from tier_jax.models import bert, resnet, weight_tables

IMAGE, TEXT, HEADS = "image_tower", "text_tower", "heads.safetensors"
_SCALARS = ("logit_scale", "logit_bias")
_VIT_ACTIVATIONS = {"gelu_tanh": "gelu_pytorch_tanh"}  # Hugging Face's name


def write(model: inference.Model, output_dir: Path, workdir: Path) -> None:
  """Writes towers, heads, tokenizer and model card.

  Args:
    model: a restored training.
    output_dir: a new directory; it is complete when it is there.
    workdir: of the training; its metrics.json, where there is one, goes into
      the card.

  Raises:
    ValueError: before anything is written, if `output_dir` is there already,
      or no Hugging Face model has the image tower's parts.
  """
  if output_dir.exists():
    raise ValueError(f"{output_dir} exists, expected a new directory")
  config = model.config.model
  image_config, table = _image_family(config.image)
  variables = jax.device_get(model.variables)
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

  # Renamed when all is written: what stands there is whole.
  unfinished = output_dir.with_name(output_dir.name + ".part")
  shutil.rmtree(unfinished, ignore_errors=True)
  image_dir, text_dir = unfinished / IMAGE, unfinished / TEXT
  for directory in (image_dir, text_dir):
    directory.mkdir(parents=True)
  _write_json(image_dir / "config.json", image_config)
  _write_json(
    image_dir / "preprocessor_config.json", _preprocessor(config.image)
  )
  _write_tensors(
    image_dir / "model.safetensors",
    weight_tables.to_theirs(table, part(IMAGE)),
  )
  _write_json(text_dir / "config.json", _bert_config(config.text))
  _write_tensors(
    text_dir / "model.safetensors",
    weight_tables.to_theirs(weight_tables.BERT, part(TEXT)),
  )
  _write_tokenizer(text_dir, model.tokenize.to_json(), config.text)
  _write_tensors(
    unfinished / HEADS,
    {
      name: value
      for name, value in flat.items()
      if name.startswith(("image_head/", "text_head/")) or name in _SCALARS
    },
  )
  card = _card(model, image_config, workdir)
  (unfinished / "README.md").write_text(card, "utf-8")
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
    "hidden_act": _VIT_ACTIVATIONS.get(config.activation, config.activation),
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
    "hidden_act": config.activation,
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


def _card(model, image_config, workdir) -> str:
  """Returns the model card, made of the run's own record alone."""
  config: config_lib.Config = model.config
  loss, train = config.loss, config.train
  weights = {
    name: value
    for name, value in sorted(vars(loss).items())
    if name.endswith("_weight") and value
  }
  origin = {
    "image tower": config.init.image,
    "text tower": config.init.text,
    "heads": config.init.heads,
  }
  lines = [
    "---",
    "library_name: tier_jax",
    "tags: [radiology, chest-x-ray, zero-shot, image-text]",
    "---",
    "",
    "# Chest x-ray dual encoder",
    "",
    "**Research software, not for clinical use.** Weights that were trained on",
    "licensed data stay under that data's terms.",
    "",
    "| | |",
    "| --- | --- |",
    f"| image tower | {image_config['model_type']}, "
    f"{config.model.image.image_size} px |",
    f"| text tower | bert, {config.model.text.num_hidden_layers} layers of "
    f"{config.model.text.hidden_size} |",
    f"| joint space | {config.model.embed_dim} dimensions |",
    *(
      # A directory's name says what it was; the rest of its path is nobody's
      # business.
      f"| {name} started from | {Path(value).name if value else 'random'} |"
      for name, value in origin.items()
    ),
    f"| trained on | {', '.join(config.data.datasets)} |",
    f"| steps, pairs a step | {model.step} of {train.num_steps}, "
    f"{train.batch_size} |",
    f"| seed | {config.seed} |",
    f"| loss | {', '.join(f'{k} {v:g}' for k, v in weights.items())} |",
    f"| parameters sha256 | {model.params_digest} |",
    "",
    "## Scores",
    "",
    *_scores(model, workdir),
    "",
    "## Use",
    "",
    f"`{IMAGE}` and `{TEXT}` load with transformers (`AutoModel`,",
    "`AutoTokenizer`). A tower's last hidden state goes through the head of",
    f"`{HEADS}` (dense, gelu, layer norm, dense; kernels are (in, out)); the",
    "text vector is that of [CLS], the image vector "
    + {
      "mean": "the mean of the projected patches;",
      "class": "that of the class token;",
      "map": "that of the tower's pooled output;",
    }[getattr(config.model.image, "pooling", "mean")],
    "both are divided by their norm. Poolers are not trained. To go on from",
    "here, set `init.image`, `init.text` and `init.heads`.",
    "",
  ]
  return "\n".join(lines)


def _scores(model, workdir):
  """Lines of the card: what this very checkpoint scored, if it was scored."""
  if not (workdir / "metrics.json").is_file():
    return ["Not evaluated."]
  metrics = results.read_run("", workdir, workdir).metrics
  if metrics.get("params_sha256") != model.params_digest:
    return ["Not evaluated: what the work directory holds is of other weights."]
  return [
    "Zero-shot, macro AUROC [95 % interval over patients]:",
    "",
    "| benchmark | split | rows | macro AUROC |",
    "| --- | --- | --- | --- |",
    *(
      f"| {name} | {entry['split']} | {entry['rows']} | "
      f"{results.interval_text(entry['macro_auroc'])} |"
      for name, entry in metrics["benchmarks"].items()
    ),
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
