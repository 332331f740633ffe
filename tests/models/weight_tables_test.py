"""Every table both ways, and all that can be wrong with a file at once."""

import jax
import numpy as np
import pytest
from flax import traverse_util

from tests.models import vit_reference as reference
from tier_jax.models import bert, dual_encoder, resnet, vit, weight_tables

TABLES = {
  "vit": weight_tables.VIT,
  "dinov2": weight_tables.DINOV2,
  "dinov2_with_registers": weight_tables.DINOV2_WITH_REGISTERS,
  "siglip_vision_model": weight_tables.SIGLIP,
}
TEXT = bert.BertConfig(20, 8, 2, 2, 16, 6)


def tree(image, part):
  """Returns shapes of a part of a dual encoder, by path."""
  model = dual_encoder.DualEncoder(
    dual_encoder.DualEncoderConfig(image, TEXT, embed_dim=4)
  )
  variables = jax.eval_shape(
    lambda: dual_encoder.init_variables(model, jax.random.key(0), 6)
  )
  return {
    "/".join(path[2:]): leaf.shape
    for path, leaf in traverse_util.flatten_dict(variables).items()
    if path[1] == part
  }


def vit_tree(kind):
  siglip = kind == "siglip_vision_model"
  config = vit.ViTConfig(
    reference.SIZE,
    reference.PATCH,
    width=reference.WIDTH,
    depth=reference.DEPTH,
    num_heads=3,
    mlp_dim=2 * reference.WIDTH if "dino" in kind else reference.INNER,
    class_token=not siglip,
    num_registers=3 if "registers" in kind else 0,
    layer_scale="dino" in kind,
    pooling="map" if siglip else "class",
  )
  return tree(config, "image_tower")


SMALL_RESNET = resnet.ResNetConfig(
  image_size=32, width=4, stage_sizes=(1, 1, 1, 1)
)
TREES = {
  "vit": (weight_tables.VIT, lambda: vit_tree("vit")),
  "dinov2": (weight_tables.DINOV2, lambda: vit_tree("dinov2")),
  "dinov2_with_registers": (
    weight_tables.DINOV2_WITH_REGISTERS,
    lambda: vit_tree("dinov2_with_registers"),
  ),
  "siglip": (weight_tables.SIGLIP, lambda: vit_tree("siglip_vision_model")),
  "bert": (weight_tables.BERT, lambda: tree(SMALL_RESNET, "text_tower")),
  "cxr_bert_head": (
    weight_tables.CXR_BERT_HEAD,
    lambda: tree(SMALL_RESNET, "text_head"),
  ),
  "resnet50": (
    weight_tables.RESNET50,
    lambda: tree(SMALL_RESNET, "image_tower"),
  ),
  "biovil_head": (
    weight_tables.BIOVIL_HEAD,
    lambda: tree(SMALL_RESNET, "image_head"),
  ),
}


@pytest.mark.parametrize("family", TREES)
def test_there_and_back_is_the_same_bit_for_bit(family):
  table, make = TREES[family]
  wanted = make()
  rng = np.random.default_rng(0)
  ours = {
    path: rng.normal(size=shape).astype(np.float32)
    for path, shape in wanted.items()
  }
  theirs = weight_tables.to_theirs(table, ours)
  back = weight_tables.to_ours(table, theirs, wanted, "x")
  assert back.keys() == ours.keys()
  for path, value in ours.items():
    np.testing.assert_array_equal(back[path], value, path)
  again = weight_tables.to_theirs(table, back)
  assert again.keys() == theirs.keys()
  for key, value in theirs.items():
    np.testing.assert_array_equal(again[key], value, key)


@pytest.mark.parametrize("family", TREES)
def test_every_row_is_some_parameters(family):
  table, make = TREES[family]
  used = {weight_tables._find(table, path)[0] for path in make()}
  assert None not in used
  assert used == set(table.rows)


@pytest.mark.parametrize("kind", TABLES)
def test_a_whole_file_comes_back(kind):
  tensors = reference.weights(kind)
  table = TABLES[kind]
  wanted = vit_tree(kind)
  ours = weight_tables.to_ours(table, tensors, wanted, "x")
  theirs = weight_tables.to_theirs(table, ours)
  gone = {"vit": {"pooler.dense.weight", "pooler.dense.bias"}}.get(
    kind, {"embeddings.mask_token"} if "dino" in kind else set()
  )
  assert theirs.keys() == tensors.keys() - gone
  for key, value in theirs.items():
    np.testing.assert_array_equal(value, tensors[key], key)
  prefixed = {table.prefix + key: value for key, value in tensors.items()}
  again = weight_tables.to_ours(table, prefixed, wanted, "x")
  for path, value in again.items():
    np.testing.assert_array_equal(value, ours[path], path)


@pytest.mark.parametrize("kind", TABLES)
def test_one_error_lists_every_difference(kind):
  tensors = reference.weights(kind)
  layer = (
    next(key for key in tensors if key.endswith("query.weight"))
    if (kind != "siglip_vision_model")
    else "encoder.layers.0.self_attn.q_proj.weight"
  )
  stem = layer.removesuffix(".weight")
  deeper = stem.replace(".0.", f".{reference.DEPTH}.") + ".bias"
  final = "post_layernorm" if kind == "siglip_vision_model" else "layernorm"
  position = next(key for key in tensors if "position_embedding" in key)
  patch = next(key for key in tensors if "patch_embedding" in key)
  patch = patch.removesuffix(".bias").removesuffix(".weight") + ".weight"
  del tensors[f"{final}.bias"]  # missing
  tensors["surprise"] = np.zeros(1, np.float32)  # extra
  tensors[deeper] = np.zeros(reference.WIDTH, np.float32)  # a layer too many
  tensors[f"{stem}.wait"] = tensors.pop(layer)  # renamed
  tensors[patch] = tensors[patch][0]  # of another rank
  tensors[position] = tensors[position][..., :-1]  # of another width
  with pytest.raises(ValueError) as error:
    weight_tables.to_ours(TABLES[kind], tensors, vit_tree(kind), "x")
  lines = str(error.value).splitlines()
  assert lines[0] == "weights of 'x' do not fit:"
  for words in (
    f"nothing for norm/bias: no key {final}.bias",
    "unknown key surprise",
    f"no place for {deeper}",
    f"nothing for block_0/query/kernel: no key {layer}",
    f"unknown key {stem}.wait",
    "patch_embed/kernel",
    "position_embed",
  ):
    assert sum(words in line for line in lines) == 1, words
  assert len(lines) == 8  # and nothing else


def test_positions_without_a_grid_do_not_fit():
  tensors = reference.weights("vit")
  tensors["embeddings.position_embeddings"] = np.zeros(
    (1, 13, reference.WIDTH), np.float32
  )
  with pytest.raises(ValueError, match=r"position_embed.* is \(1, 13, 24\)"):
    weight_tables.to_ours(TABLES["vit"], tensors, vit_tree("vit"), "x")


def bert_tensors():
  """Returns shapes of our text tower, by path, and a file's tensors."""
  table, make = TREES["bert"]
  wanted, rng = make(), np.random.default_rng(0)
  return wanted, weight_tables.to_theirs(
    table,
    {
      path: rng.normal(size=shape).astype(np.float32)
      for path, shape in wanted.items()
    },
  )


@pytest.mark.parametrize("prefix", ["", "bert."])
def test_the_norms_of_old_bert_files_are_understood(prefix):
  wanted, tensors = bert_tensors()
  names = {"LayerNorm.weight": "LayerNorm.gamma"}
  names["LayerNorm.bias"] = "LayerNorm.beta"
  old = {}
  for key, value in tensors.items():
    for new, name in names.items():
      key = key.replace(new, name)
    old[prefix + key] = value
  assert sum(key.endswith((".gamma", ".beta")) for key in old) == 10
  want = weight_tables.to_ours(weight_tables.BERT, tensors, wanted, "x")
  got = weight_tables.to_ours(weight_tables.BERT, old, wanted, "x")
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, path)


@pytest.mark.parametrize(
  ("one", "other"),
  [
    ("embeddings.LayerNorm.weight", "embeddings.LayerNorm.gamma"),
    ("embeddings.LayerNorm.bias", "bert.embeddings.LayerNorm.beta"),
    ("pooler.dense.bias", "bert.pooler.dense.bias"),
  ],
)
def test_two_names_of_one_parameter_are_both_listed(one, other):
  wanted, tensors = bert_tensors()
  for key in (one, other):
    tensors[key] = np.ones(TEXT.hidden_size, np.float32)
  with pytest.raises(ValueError) as error:
    weight_tables.to_ours(weight_tables.BERT, tensors, wanted, "x")
  assert str(error.value).splitlines()[1:] == [
    f"  {one} and {other} are the same"
  ]


@pytest.mark.parametrize("dtype", [np.int32, np.complex64, np.bool_])
def test_what_are_no_floats_is_listed(dtype):
  wanted, tensors = bert_tensors()
  key = "embeddings.LayerNorm.bias"
  tensors[key] = tensors[key].astype(dtype)
  with pytest.raises(
    ValueError, match=rf"{key} is {np.dtype(dtype)}, expected floats"
  ):
    weight_tables.to_ours(weight_tables.BERT, tensors, wanted, "x")
