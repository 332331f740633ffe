"""Names and layouts of other libraries' weights beside ours, as data.

One table a family, read in both directions: `to_ours` for weights that come
in, `to_theirs` for those that go out. Every key is mapped, listed as ignorable
or an error, and all differences are reported at once.
"""

import dataclasses
import math
import re
from collections.abc import Mapping

import jax.numpy as jnp
import numpy as np

from tier_jax.models import positions


@dataclasses.dataclass(frozen=True)
class Row:
  """One parameter, or one in each layer `{i}`.

  Attributes:
    ours: path in our tree, joined by "/".
    theirs: key in the file.
    kind: how the two arrays differ, one of `KINDS`.
    part: (i, n) where theirs is n arrays in one, along the first axis, of
      which this is number i.
    resize: of position embeddings of another grid: "bicubic", "antialias", or
      "" for none; see `positions.resize`.
  """

  ours: str
  theirs: str
  kind: str = "copy"
  part: tuple[int, int] = (0, 1)
  resize: str = ""


@dataclasses.dataclass(frozen=True)
class Table:
  """The keys of a family of weights.

  Attributes:
    rows: what is mapped.
    ignored: regular expression of keys that are no part of the tower.
    prefix: what some files put before every key.
    renamed: old endings of keys and what they are now.
  """

  rows: tuple[Row, ...]
  ignored: str = ""
  prefix: str = ""
  renamed: tuple[tuple[str, str], ...] = ()

  def short(self, key: str) -> str:
    """Returns a file's key as the rows have it."""
    key = key.removeprefix(self.prefix)
    for old, new in self.renamed:
      if key.endswith(old):
        return key.removesuffix(old) + new
    return key


# Ours -> Hugging Face's hidden_act.
ACTIVATIONS = {
  "gelu": "gelu",
  "gelu_tanh": "gelu_pytorch_tanh",
  "relu": "relu",
}

# Each kind: theirs -> ours, ours -> theirs.
KINDS = {
  "copy": (lambda x: x, lambda x: x),
  # A Dense kernel (in, out) is the transpose of a Linear weight.
  "transpose": (lambda x: x.T, lambda x: x.T),
  # A convolution over patches (out, in, p, p) is a Dense of flat patches.
  "patches": (
    lambda x: x.transpose(2, 3, 1, 0).reshape(-1, len(x)),
    lambda x: _patch_kernel(x).transpose(3, 2, 0, 1),
  ),
  # Positions without the axis of one that ours has in front.
  "no_batch": (lambda x: x[None], lambda x: x[0]),
  # Convolution: theirs is (out, in, H, W), ours (H, W, in, out).
  "conv": (
    lambda x: x.transpose(2, 3, 1, 0),
    lambda x: x.transpose(3, 2, 0, 1),
  ),
  # A 1x1 convolution of theirs that is a Dense kernel of ours.
  "conv_1x1": (
    lambda x: x.squeeze((2, 3)).T,
    lambda x: x.T[:, :, None, None],
  ),
}


def to_ours(
  table: Table,
  tensors: Mapping[str, np.ndarray],
  wanted: Mapping[str, tuple[int, ...]],
  name: str,
) -> dict[str, np.ndarray]:
  """Returns our parameters, float32, by path.

  Args:
    table: of the family that the tensors belong to.
    tensors: by key, as in the file.
    wanted: shape of every parameter that shall be filled, by path.
    name: of the weights, for the error.

  Raises:
    ValueError: lists every key that is unknown, missing, there twice or of
      another shape or type.
  """
  by_key, problems = {}, []
  for key in tensors:
    first = by_key.setdefault(table.short(key), key)
    if first != key:
      problems.append(f"{first} and {key} are the same")
  found, used = {}, set()
  for path, shape in wanted.items():
    row, layer = _find(table, path)
    if row is None:
      problems.append(f"nothing is known for {path}")
      continue
    short = row.theirs.replace("{i}", layer)
    if short not in by_key:
      problems.append(f"nothing for {path}: no key {short}")
      continue
    used.add(short)
    value = np.asarray(tensors[by_key[short]])
    if not jnp.issubdtype(value.dtype, jnp.floating):  # knows bfloat16
      problems.append(f"{path}: {short} is {value.dtype}, expected floats")
      continue
    value = value.astype(np.float32)
    try:
      if row.part != (0, 1):
        value = np.split(value, row.part[1])[row.part[0]]
      value = KINDS[row.kind][0](value)
      if row.resize and value.shape != shape:
        value = positions.resize(
          value, shape[1], antialias=row.resize == "antialias"
        )
    except (ValueError, IndexError):
      problems.append(f"{path}: {short} is {value.shape}, expected {shape}")
      continue
    if value.shape != shape:
      problems.append(f"{path} is {value.shape}, expected {shape}")
    # Not np.ascontiguousarray, which makes a scalar an array of one.
    found[path] = np.asarray(value, order="C")
  for short, key in by_key.items():
    if short not in used and not re.fullmatch(table.ignored, short):
      known = any(_matches(row.theirs, short) for row in table.rows)
      problems.append(f"no place for {key}" if known else f"unknown key {key}")
  if problems:
    raise ValueError(
      f"weights of {name!r} do not fit:\n  " + "\n  ".join(sorted(problems))
    )
  return found


def to_theirs(
  table: Table, params: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
  """Returns the tensors of a file, by key, that hold our parameters.

  Args:
    table: of the family.
    params: by path.

  Raises:
    ValueError: if the table has no row for a path.
  """
  parts = {}
  for path, value in params.items():
    row, layer = _find(table, path)
    if row is None:
      raise ValueError(f"no key for parameter {path}")
    key = row.theirs.replace("{i}", layer)
    value = KINDS[row.kind][1](np.asarray(value))
    parts.setdefault(key, {})[row.part[0]] = value
  return {
    key: np.concatenate([found[i] for i in sorted(found)])
    if len(found) > 1
    else found[0]
    for key, found in parts.items()
  }


def _find(table, path):
  """The row of one of our paths and the number of its layer."""
  for row in table.rows:
    match = _matches(row.ours, path)
    if match:
      return row, match["i"] if "{i}" in row.ours else ""
  return None, ""


def _matches(template, text):
  pattern = re.escape(template).replace(r"\{i\}", r"(?P<i>\d+)", 1)
  return re.fullmatch(pattern.replace(r"\{i\}", "(?P=i)"), text)


def _patch_kernel(x):
  side = math.isqrt(len(x) // 3)
  return x.reshape(side, side, 3, -1)


def _dense(ours, theirs):
  return (
    Row(f"{ours}/kernel", f"{theirs}.weight", "transpose"),
    Row(f"{ours}/bias", f"{theirs}.bias"),
  )


def _norm(ours, theirs):
  return (
    Row(f"{ours}/scale", f"{theirs}.weight"),
    Row(f"{ours}/bias", f"{theirs}.bias"),
  )


# Hugging Face BertModel; CXR-BERT's and PubMedBERT's files are alike. The
# pooler and pretraining heads are no part of the tower; position_ids is a
# constant that older versions saved.
BERT = Table(
  rows=(
    *(
      Row(
        f"{name}_embeddings/embedding", f"embeddings.{name}_embeddings.weight"
      )
      for name in ("word", "position", "token_type")
    ),
    *_norm("norm_embeddings", "embeddings.LayerNorm"),
    *(
      row
      for name in ("query", "key", "value")
      for row in _dense(
        f"layer_{{i}}/{name}", f"encoder.layer.{{i}}.attention.self.{name}"
      )
    ),
    *_dense(
      "layer_{i}/attention_out", "encoder.layer.{i}.attention.output.dense"
    ),
    *_norm(
      "layer_{i}/norm_attention", "encoder.layer.{i}.attention.output.LayerNorm"
    ),
    *_dense("layer_{i}/mlp_in", "encoder.layer.{i}.intermediate.dense"),
    *_dense("layer_{i}/mlp_out", "encoder.layer.{i}.output.dense"),
    *_norm("layer_{i}/norm_mlp", "encoder.layer.{i}.output.LayerNorm"),
  ),
  ignored=r"pooler\..*|cls\..*|cls_projection_head\..*|.*position_ids",
  prefix="bert.",
  # As TensorFlow called them; bert-base-uncased still does.
  renamed=(
    ("LayerNorm.gamma", "LayerNorm.weight"),
    ("LayerNorm.beta", "LayerNorm.bias"),
  ),
)


def _batch_norm(ours, theirs):
  return (
    *_norm(ours, theirs),
    Row(f"{ours}/mean", f"{theirs}.running_mean"),
    Row(f"{ours}/var", f"{theirs}.running_var"),
  )


# The head of CXR-BERT, in the same file as its tower.
CXR_BERT_HEAD = Table(
  rows=(
    *_dense("dense", "cls_projection_head.dense_to_hidden"),
    *_norm("norm", "cls_projection_head.LayerNorm"),
    *_dense("out", "cls_projection_head.dense_to_output"),
  ),
  ignored=r"(?!cls_projection_head\.).*",
)

# torchvision's resnet50, and BioViL's (hi-ml), which puts its prefix before
# the same keys. Paths of running statistics lie in the batch statistics.
RESNET50 = Table(
  rows=(
    Row("stem/kernel", "conv1.weight", "conv"),
    *_batch_norm("norm_stem", "bn1"),
    *(
      row
      for stage in range(4)
      for ours, conv, norm in (
        ("1", "conv1", "bn1"),
        ("2", "conv2", "bn2"),
        ("3", "conv3", "bn3"),
        ("shortcut", "downsample.0", "downsample.1"),
      )
      for row in (
        Row(
          f"stage_{stage}/bottleneck_{{i}}/conv_{ours}/kernel",
          f"layer{stage + 1}.{{i}}.{conv}.weight",
          "conv",
        ),
        *_batch_norm(
          f"stage_{stage}/bottleneck_{{i}}/norm_{ours}",
          f"layer{stage + 1}.{{i}}.{norm}",
        ),
      )
    ),
  ),
  ignored=r"fc\..*|classifier\..*|projector\..*|.*\.num_batches_tracked",
  prefix="encoder.encoder.",
)

# The head of BioViL, in the same file as its tower.
BIOVIL_HEAD = Table(
  rows=(
    Row("dense/kernel", "projector.model.0.weight", "conv_1x1"),
    *_batch_norm("norm", "projector.model.1"),
    Row("out/kernel", "projector.model.3.weight", "conv_1x1"),
    Row("out/bias", "projector.model.3.bias"),
  ),
  ignored=r"(?!projector\.).*|.*\.num_batches_tracked",
)


def _vit_embeddings(resize):
  return (
    Row("class_token", "embeddings.cls_token"),
    Row("position_embed", "embeddings.position_embeddings", resize=resize),
    Row(
      "patch_embed/kernel",
      "embeddings.patch_embeddings.projection.weight",
      "patches",
    ),
    Row("patch_embed/bias", "embeddings.patch_embeddings.projection.bias"),
  )


def _vit_attention(block):
  return (
    *(
      row
      for name in ("query", "key", "value")
      for row in _dense(
        f"block_{{i}}/{name}", f"{block}.attention.attention.{name}"
      )
    ),
    *_dense("block_{i}/attention_out", f"{block}.attention.output.dense"),
  )


# Hugging Face ViTModel; transformers 5.23 still writes the keys of old files.
# Its pooler was made for the next task, as were the classifier and the decoder
# of masked pixels.
VIT = Table(
  rows=(
    *_vit_embeddings("bicubic"),
    *_norm("block_{i}/norm_attention", "encoder.layer.{i}.layernorm_before"),
    *_vit_attention("encoder.layer.{i}"),
    *_norm("block_{i}/norm_mlp", "encoder.layer.{i}.layernorm_after"),
    *_dense("block_{i}/mlp_in", "encoder.layer.{i}.intermediate.dense"),
    *_dense("block_{i}/mlp_out", "encoder.layer.{i}.output.dense"),
    *_norm("norm", "layernorm"),
  ),
  ignored=r"pooler\..*|classifier\..*|decoder\..*|embeddings\.mask_token",
  prefix="vit.",
)


def _dinov2(resize):
  return (
    *_vit_embeddings(resize),
    *_norm("block_{i}/norm_attention", "encoder.layer.{i}.norm1"),
    *_vit_attention("encoder.layer.{i}"),
    Row("block_{i}/scale_attention", "encoder.layer.{i}.layer_scale1.lambda1"),
    *_norm("block_{i}/norm_mlp", "encoder.layer.{i}.norm2"),
    *_dense("block_{i}/mlp_in", "encoder.layer.{i}.mlp.fc1"),
    *_dense("block_{i}/mlp_out", "encoder.layer.{i}.mlp.fc2"),
    Row("block_{i}/scale_mlp", "encoder.layer.{i}.layer_scale2.lambda1"),
    *_norm("norm", "layernorm"),
  )


# Hugging Face Dinov2Model, such as RAD-DINO. The mask token stood for hidden
# patches while the weights were made.
DINOV2 = Table(
  rows=_dinov2("bicubic"),
  ignored=r"embeddings\.mask_token|classifier\..*",
  prefix="dinov2.",
)
DINOV2_WITH_REGISTERS = Table(
  rows=(
    *_dinov2("antialias"),
    Row("registers", "embeddings.register_tokens"),
  ),
  ignored=r"embeddings\.mask_token|classifier\..*",
  prefix="dinov2_with_registers.",
)


def _siglip_mlp(ours, theirs):
  return (
    *_dense(f"{ours}/mlp_in", f"{theirs}.fc1"),
    *_dense(f"{ours}/mlp_out", f"{theirs}.fc2"),
  )


# Hugging Face SiglipVisionModel, alone (older files have the prefix then too)
# or in a whole SiglipModel. The head is ignored where ours pools otherwise.
SIGLIP = Table(
  rows=(
    Row("patch_embed/kernel", "embeddings.patch_embedding.weight", "patches"),
    Row("patch_embed/bias", "embeddings.patch_embedding.bias"),
    Row(
      "position_embed",
      "embeddings.position_embedding.weight",
      "no_batch",
      resize="bicubic",
    ),
    *_norm("block_{i}/norm_attention", "encoder.layers.{i}.layer_norm1"),
    *(
      row
      for name, short in (("query", "q"), ("key", "k"), ("value", "v"))
      for row in _dense(
        f"block_{{i}}/{name}", f"encoder.layers.{{i}}.self_attn.{short}_proj"
      )
    ),
    *_dense("block_{i}/attention_out", "encoder.layers.{i}.self_attn.out_proj"),
    *_norm("block_{i}/norm_mlp", "encoder.layers.{i}.layer_norm2"),
    *_siglip_mlp("block_{i}", "encoder.layers.{i}.mlp"),
    *_norm("norm", "post_layernorm"),
    Row("pool/probe", "head.probe"),
    *(
      row
      for i, name in enumerate(("query", "key", "value"))
      for row in (
        Row(
          f"pool/{name}/kernel",
          "head.attention.in_proj_weight",
          "transpose",
          part=(i, 3),
        ),
        Row(f"pool/{name}/bias", "head.attention.in_proj_bias", part=(i, 3)),
      )
    ),
    *_dense("pool/attention_out", "head.attention.out_proj"),
    *_norm("pool/norm_mlp", "head.layernorm"),
    *_siglip_mlp("pool", "head.mlp"),
  ),
  ignored=(
    r"head\..*|text_model\..*|logit_scale|logit_bias|classifier\..*"
    r"|.*position_ids"
  ),
  prefix="vision_model.",
)
