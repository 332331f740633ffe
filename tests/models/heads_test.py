"""Projection heads that come with weights, or from an export."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from tests.models import bert_reference
from tests.models import cxr_bert_reference as reference
from tier_jax.models import bert, dual_encoder, layers, pretrained, vit

IMAGE = vit.ViTConfig(8, 4, width=8, depth=1, num_heads=2, mlp_dim=16)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  """A CXR-BERT whose code, if anyone ran it, would leave a file behind."""
  path = tmp_path_factory.mktemp("cxr_bert")
  (path / "config.json").write_text(json.dumps(reference.CONFIG))
  for name in ("configuration_cxrbert.py", "modeling_cxrbert.py"):
    (path / name).write_text(f"open({str(path / 'run')!r}, 'w')")
  safetensors.numpy.save_file(reference.weights(), path / "model.safetensors")
  return path


def make(init, embed_dim=reference.EMBED_DIM):
  """Returns the config that fits the weights, and shapes of its variables."""
  text = bert.BertConfig(20, 8, 1, 2, 16, 6)
  config = pretrained.resolve(
    init, dual_encoder.DualEncoderConfig(IMAGE, text, embed_dim)
  )
  model = dual_encoder.DualEncoder(config)
  return config, jax.eval_shape(
    lambda: dual_encoder.init_variables(model, jax.random.key(0), 6)
  )


def test_cxr_bert_and_its_head_equal_pytorch(directory):
  init = pretrained.InitConfig(text=str(directory), heads="pretrained")
  config, shapes = make(init)
  params, batch_stats = pretrained.load(init, **shapes)
  assert sorted(params) == ["text_head", "text_tower"]
  assert not batch_stats
  features = bert.Bert(config.text).apply(
    {"params": params["text_tower"]},
    bert_reference.INPUT_IDS,
    bert_reference.ATTENTION_MASK,
  )
  head = layers.ProjectionHead(config.embed_dim, config.text.dtype)
  got = head.apply({"params": params["text_head"]}, features)
  real = bert_reference.ATTENTION_MASK.astype(bool)
  np.testing.assert_allclose(
    got[real], np.load(reference.PATH)["projected"][real], atol=1e-5
  )
  assert not (directory / "run").exists()


def test_the_towers_own_settings_are_kept(directory):
  base = bert.BertConfig(
    dropout_rate=0.25, attention_dropout_rate=0.1, dtype="bfloat16"
  )
  config = pretrained.text_config(str(directory), base)
  assert (config.hidden_size, config.vocab_size) == (32, 60)
  assert (config.dropout_rate, config.attention_dropout_rate) == (0.25, 0.1)
  assert config.dtype == "bfloat16"


def test_a_head_of_another_dimension_is_listed(directory):
  init = pretrained.InitConfig(text=str(directory), heads="pretrained")
  _, shapes = make(init, embed_dim=12)
  with pytest.raises(ValueError) as error:
    pretrained.load(init, **shapes)
  for words in (
    "dense/kernel is (32, 16), expected (32, 12)",
    "out/bias is (16,), expected (12,)",
  ):
    assert words in str(error.value)


@pytest.mark.parametrize("with_text", [False, True])
def test_no_head_is_an_error(tmp_path, with_text):
  text = ""
  if with_text:
    text = str(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(bert_reference.CONFIG))
    safetensors.numpy.save_file(
      bert_reference.weights(), tmp_path / "model.safetensors"
    )
  init = pretrained.InitConfig(text=text, heads="pretrained")
  _, shapes = make(init)
  with pytest.raises(ValueError, match="init.heads is 'pretrained', but"):
    pretrained.load(init, **shapes)


def test_heads_of_a_file_are_taken_bit_for_bit(tmp_path):
  path = tmp_path / "heads.safetensors"
  init = pretrained.InitConfig(heads=str(path))
  _, shapes = make(init)
  flat = traverse_util.flatten_dict(shapes["params"], sep="/")
  rng = np.random.default_rng(0)
  heads = {
    name: rng.normal(size=value.shape).astype(np.float32)
    for name, value in flat.items()
    if "_tower" not in name
  }
  assert {"logit_scale", "image_head/norm/scale"} <= heads.keys()
  safetensors.numpy.save_file(heads, path)
  params, _ = pretrained.load(init, **shapes)
  got = traverse_util.flatten_dict(params, sep="/")
  assert got.keys() == heads.keys()
  for name, value in heads.items():
    np.testing.assert_array_equal(got[name], value)

  del heads["text_head/out/bias"]
  heads["surprise"] = np.zeros(1, np.float32)
  safetensors.numpy.save_file(heads, path)
  with pytest.raises(ValueError) as error:
    pretrained.load(init, **shapes)
  for words in ("nothing for text_head/out/bias", "unknown key surprise"):
    assert words in str(error.value)
