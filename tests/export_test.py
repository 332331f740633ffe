"""What is exported comes back bit for bit, and the card tells the run."""

import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from tier_jax import config as config_lib
from tier_jax import export, inference, sharding
from tier_jax.data import tokenizer
from tier_jax.models import dual_encoder, pretrained
from tier_jax.train_state import params_digest

VIT = {
  "image_size": 16,
  "patch_size": 8,
  "width": 16,
  "depth": 2,
  "num_heads": 2,
  "mlp_dim": 32,
}
TOWERS = {
  "siglip_vision_model": VIT,
  "siglip_with_head": VIT | {"pooling": "map", "activation": "gelu_tanh"},
  "vit": VIT | {"class_token": True, "pooling": "class"},
  "dinov2": VIT | {"class_token": True, "layer_scale": True},
  "dinov2_with_registers": VIT
  | {"class_token": True, "layer_scale": True, "num_registers": 3},
  "biovil_resnet50": {
    "tower": "resnet50",
    "image_size": 64,
    "width": 8,
    "stage_sizes": (1, 1, 1, 1),
  },
}


def make_model(image, name="phantoms"):
  values = {
    "data": {"data_dir": "somewhere", "datasets": (name,), "max_length": 8},
    "model": {
      "embed_dim": 8,
      "init_logit_bias": -3.0,
      "image": image,
      "text": {
        "vocab_size": 0,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 8,
      },
    },
    "train": {"batch_size": 8, "num_steps": 4},
  }
  tokenize = tokenizer.Tokenizer.from_name("bundled", 8)
  values["model"]["text"]["vocab_size"] = tokenize.vocab_size
  config = config_lib.build(values)
  network = dual_encoder.DualEncoder(config.model)
  variables = dual_encoder.init_variables(network, jax.random.key(0), 8)
  # Away from zeros and ones, which would hide a swap of two parameters.
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: np.asarray(x + 0.1 * rng.random(x.shape), np.float32), variables
  )
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  model = inference.Model(network, variables, tokenize, mesh)
  model.config, model.step = config, 4
  model.params_digest = params_digest(variables["params"])
  return model


@pytest.mark.parametrize("family", TOWERS)
def test_import_of_an_export_is_the_same_bit_for_bit(family, tmp_path):
  model = make_model(TOWERS[family])
  output = tmp_path / "export"
  export.write(model, output, tmp_path)
  written = json.loads((output / "image_tower" / "config.json").read_text())
  assert written["model_type"] == family.replace(
    "siglip_with_head", "siglip_vision_model"
  )
  init = pretrained.InitConfig(
    image=str(output / "image_tower"),
    text=str(output / "text_tower"),
    heads=str(output / "heads.safetensors"),
  )
  base = make_model(TOWERS[family]).config.model
  resolved = pretrained.resolve(init, base)
  assert resolved == model.config.model
  blank = jax.tree.map(np.zeros_like, model.variables)
  params, batch_stats = pretrained.load(init, **blank)
  want = traverse_util.flatten_dict(model.variables)
  got = traverse_util.flatten_dict(
    {"params": params, "batch_stats": batch_stats}
  )
  assert got.keys() == want.keys()
  for path, value in want.items():
    np.testing.assert_array_equal(got[path], value, err_msg=str(path))


def test_tokenizer_of_an_export_tokenises_alike(tmp_path):
  model = make_model(VIT)
  export.write(model, tmp_path / "export", tmp_path)
  loaded = tokenizer.Tokenizer.from_name(
    str(tmp_path / "export" / "text_tower"), 8
  )
  texts = ["Small left pleural effusion.", "Unchanged ___."]
  for name, value in model.tokenize(texts).items():
    np.testing.assert_array_equal(loaded(texts)[name], value)


def test_card_is_filled_from_the_record_and_shows_no_path(tmp_path):
  model = make_model(VIT)
  scores = {
    "params_sha256": model.params_digest,
    "benchmarks": {
      "chexpert": {
        "split": "test",
        "rows": 9,
        "macro_auroc": {"value": 0.75, "low": 0.5, "high": 1.0},
      }
    },
  }
  (tmp_path / "metrics.json").write_text(json.dumps(scores))
  export.write(model, tmp_path / "a", tmp_path)
  card = (tmp_path / "a" / "README.md").read_text()
  for words in (
    "not for clinical use",
    "phantoms",
    "0.750 [0.500, 1.000]",
    model.params_digest,
    "token_entropy_weight 0.2",
  ):
    assert words in card
  assert str(tmp_path) not in card
  scores["params_sha256"] = "0" * 64
  (tmp_path / "metrics.json").write_text(json.dumps(scores))
  export.write(model, tmp_path / "b", tmp_path)
  assert "of other weights" in (tmp_path / "b" / "README.md").read_text()


def test_heads_have_our_names(tmp_path):
  export.write(make_model(VIT), tmp_path / "export", tmp_path)
  heads = safetensors.numpy.load_file(tmp_path / "export" / "heads.safetensors")
  assert {name.split("/")[0] for name in heads} == {
    "image_head",
    "text_head",
    "logit_scale",
    "logit_bias",
  }


def test_a_directory_that_is_there_is_left_alone(tmp_path):
  (tmp_path / "export").mkdir()
  with pytest.raises(ValueError, match="exists, expected a new directory"):
    export.write(make_model(VIT), tmp_path / "export", tmp_path)


def test_a_tower_that_no_hugging_face_model_has_is_named(tmp_path):
  with pytest.raises(ValueError, match="layer_scale True"):
    export.write(
      make_model(VIT | {"layer_scale": True}), tmp_path / "export", tmp_path
    )
  assert not (tmp_path / "export").exists()
