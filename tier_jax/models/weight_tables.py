"""Names and layouts of other libraries' weights beside ours, as data.

One table a family, read in both directions: `to_ours` for weights that come
in, `to_theirs` for those that go out. Every key is mapped, listed as ignorable
or an error, and all differences are reported at once.
"""

import dataclasses
import re
from collections.abc import Mapping

import numpy as np


@dataclasses.dataclass(frozen=True)
class Row:
  """One parameter, or one in each layer `{i}`.

  Attributes:
    ours: path in our tree, joined by "/".
    theirs: key in the file.
    kind: how the two arrays differ, one of `KINDS`.
  """

  ours: str
  theirs: str
  kind: str = "copy"


@dataclasses.dataclass(frozen=True)
class Table:
  """The keys of a family of weights.

  Attributes:
    rows: what is mapped.
    ignored: regular expression of keys that are no part of the tower.
    prefix: what some files put before every key.
  """

  rows: tuple[Row, ...]
  ignored: str = ""
  prefix: str = ""


# Each kind: theirs -> ours, ours -> theirs.
KINDS = {
  "copy": (lambda x: x, lambda x: x),
  # A Dense kernel (in, out) is the transpose of a Linear weight.
  "transpose": (lambda x: x.T, lambda x: x.T),
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
    ValueError: lists every key that is unknown, missing or of another shape.
  """
  by_key = {key.removeprefix(table.prefix): key for key in tensors}
  found, used, problems = {}, set(), []
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
    value = np.asarray(tensors[by_key[short]], np.float32)
    try:
      value = KINDS[row.kind][0](value)
    except ValueError:
      problems.append(f"{path}: {short} is {value.shape}, expected {shape}")
      continue
    if value.shape != shape:
      problems.append(f"{path} is {value.shape}, expected {shape}")
    found[path] = np.ascontiguousarray(value)
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
  tensors = {}
  for path, value in params.items():
    row, layer = _find(table, path)
    if row is None:
      raise ValueError(f"no key for parameter {path}")
    tensors[row.theirs.replace("{i}", layer)] = np.ascontiguousarray(
      KINDS[row.kind][1](np.asarray(value))
    )
  return tensors


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
)
