"""The text tower against Hugging Face's, and what padding may not do."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from tests.models import bert_reference as reference
from tier_jax.models import bert, pretrained

pytestmark = pytest.mark.usefixtures("unoptimized")


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
  path = tmp_path_factory.mktemp("bert")
  (path / "config.json").write_text(json.dumps(reference.CONFIG))
  safetensors.numpy.save_file(reference.weights(), path / "model.safetensors")
  return path


def shapes(config):
  return jax.eval_shape(
    lambda: bert.Bert(config).init(
      jax.random.key(0), reference.INPUT_IDS, reference.ATTENTION_MASK
    )
  )["params"]


def load(directory, shapes):
  """Returns the text tower's parameters, filled from files."""
  init = pretrained.InitConfig(text=str(directory))
  params, _ = pretrained.load(init, {"text_tower": shapes}, {})
  return params["text_tower"]


def test_hidden_states_equal_hugging_face_layer_by_layer(directory):
  base = bert.BertConfig()
  config = pretrained.text_config(str(directory), base)
  assert config.hidden_size == 32
  params = load(directory, shapes(config))
  stored = np.load(reference.PATH)
  for depth in range(config.num_hidden_layers + 1):
    part = bert.BertConfig(
      **{**config.__dict__, "num_hidden_layers": max(depth, 1)}
    )
    got, kept = bert.Bert(part).apply(
      {"params": params},
      reference.INPUT_IDS,
      reference.ATTENTION_MASK,
      capture_intermediates=True,
    )
    if depth == 0:
      got = kept["intermediates"]["norm_embeddings"]["__call__"][0]
    real = reference.ATTENTION_MASK.astype(bool)
    np.testing.assert_allclose(
      np.asarray(got)[real], stored[f"arr_{depth}"][real], atol=1e-5
    )


def test_prefixed_keys_and_heads_are_understood(directory, tmp_path):
  tensors = {f"bert.{k}": v for k, v in reference.weights().items()}
  tensors["cls.predictions.bias"] = np.zeros(60, np.float32)
  tensors["bert.embeddings.position_ids"] = np.arange(16)[None]
  safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
  config = pretrained.text_config(str(directory), bert.BertConfig())
  want = load(directory, shapes(config))
  got = load(tmp_path, shapes(config))
  jax.tree.map(np.testing.assert_array_equal, got, want)


def test_all_differences_are_listed_at_once(directory, tmp_path):
  tensors = reference.weights()
  del tensors["encoder.layer.1.output.dense.bias"]
  tensors["embeddings.word_embeddings.weight"] = np.zeros((61, 32), np.float32)
  tensors["encoder.layer.2.output.dense.bias"] = np.zeros(32, np.float32)
  tensors["surprise"] = np.zeros(1, np.float32)
  safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors")
  config = pretrained.text_config(str(directory), bert.BertConfig())
  with pytest.raises(ValueError) as error:
    load(tmp_path, shapes(config))
  for words in (
    "nothing for layer_1/mlp_out/bias",
    "word_embeddings/embedding is (61, 32), expected (60, 32)",
    "no place for encoder.layer.2.output.dense.bias",
    "unknown key surprise",
  ):
    assert words in str(error.value)


def test_missing_weights_are_named(tmp_path):
  with pytest.raises(ValueError, match="holds no model.safetensors"):
    load(tmp_path, {})
  with pytest.raises(ValueError, match="init.text"):
    pretrained.text_config(str(tmp_path), bert.BertConfig())


def test_padding_changes_nothing():
  config = bert.BertConfig(
    vocab_size=20,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    max_position_embeddings=12,
  )
  model = bert.Bert(config)
  ids, mask = jnp.array([[2, 5, 6, 3]]), jnp.ones((1, 4), jnp.int32)
  params = model.init(jax.random.key(0), ids, mask)
  want = model.apply(params, ids, mask)
  longer = jnp.pad(ids, ((0, 0), (0, 6)), constant_values=9)
  got = model.apply(params, longer, jnp.pad(mask, ((0, 0), (0, 6))))
  np.testing.assert_allclose(got[:, :4], want, atol=1e-6)


def test_dropout_needs_its_key_and_acts_only_in_training():
  config = bert.BertConfig(20, 16, 1, 2, 32, 12, dropout_rate=0.5)
  model = bert.Bert(config)
  ids, mask = jnp.array([[2, 5, 6, 3]]), jnp.ones((1, 4), jnp.int32)
  params = model.init(jax.random.key(0), ids, mask)

  def run(seed):
    rngs = {"dropout": jax.random.key(seed)}
    return model.apply(params, ids, mask, deterministic=False, rngs=rngs)

  np.testing.assert_array_equal(run(1), run(1))
  assert not np.allclose(run(1), run(2))
  np.testing.assert_array_equal(
    model.apply(params, ids, mask), model.apply(params, ids, mask)
  )


def test_attention_dropout_drops_weights_of_the_attention_alone():
  def run(rate, seed=1, deterministic=False):
    config = bert.BertConfig(20, 16, 1, 2, 32, 12, attention_dropout_rate=rate)
    model = bert.Bert(config)
    ids = jnp.array([[2, 5, 6, 3, 9, 9]])
    mask = jnp.array([[1, 1, 1, 1, 0, 0]])
    params = model.init(jax.random.key(0), ids, mask)
    rngs = {"dropout": jax.random.key(seed)}
    return model.apply(
      params, ids, mask, deterministic=deterministic, rngs=rngs
    )

  # A rate that drops nothing takes the written-out path to the same values.
  np.testing.assert_allclose(run(1e-12), run(0.0), atol=1e-6)
  np.testing.assert_array_equal(run(0.5, deterministic=True), run(0.0))
  np.testing.assert_array_equal(run(0.5), run(0.5))
  assert not np.allclose(run(0.5, 1), run(0.5, 2))


def test_attention_with_dropout_has_float32_logits():
  config = bert.BertConfig(
    20, 16, 1, 2, 32, 12, attention_dropout_rate=0.5, dtype="bfloat16"
  )
  ids = jnp.ones((2, 4), jnp.int32)
  params = jax.eval_shape(bert.Bert(config).init, jax.random.key(0), ids, ids)

  def run(params):
    rngs = {"dropout": jax.random.key(1)}
    return bert.Bert(config).apply(
      params, ids, ids, deterministic=False, rngs=rngs
    )

  lines = jax.jit(run).lower(params).as_text().splitlines()
  products = [line for line in lines if "dot_general" in line]
  # As in the fused form; rounded to bfloat16 they move outputs by a tenth.
  (logits,) = (line for line in products if "tensor<2x2x4x4x" in line[-30:])
  assert logits.endswith("-> tensor<2x2x4x4xf32>")


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"hidden_size": 30}, "text.hidden_size 30 is not a multiple of"),
    ({"num_hidden_layers": 0}, "text.num_hidden_layers is 0"),
    ({"dropout_rate": 1.0}, "text.dropout_rate is 1.0"),
    ({"attention_dropout_rate": -0.1}, "attention_dropout_rate is -0.1"),
    ({"activation": "tanh"}, "text.activation is 'tanh'"),
    ({"dtype": "float16"}, "text.dtype is 'float16'"),
  ],
)
def test_bad_config(change, words):
  with pytest.raises(ValueError, match=words):
    bert.BertConfig(**change)


def test_another_architecture_is_refused(tmp_path):
  (tmp_path / "config.json").write_text(
    json.dumps({**reference.CONFIG, "model_type": "roberta"})
  )
  with pytest.raises(ValueError, match="model_type 'roberta', expected 'bert'"):
    pretrained.text_config(str(tmp_path), bert.BertConfig())


def test_truncated_weights_are_named(directory, tmp_path):
  whole = (directory / "model.safetensors").read_bytes()
  (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
  with pytest.raises(ValueError, match=r"model.safetensors cannot be read"):
    load(tmp_path, {})
