"""What is exported comes back bit for bit, and the card tells the run."""

import dataclasses
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import traverse_util

from tests.evaluators import datasets
from tier_jax import config as config_lib
from tier_jax import export, inference, sharding
from tier_jax.data import tokenizer
from tier_jax.evaluators import encoder
from tier_jax.models import (
  bert,
  dual_encoder,
  layers,
  pretrained,
  resnet,
  vit,
)
from tier_jax.train_state import params_digest

VIT = {
  "image_size": 16,
  "patch_size": 8,
  "width": 16,
  "depth": 2,
  "num_heads": 2,
  "mlp_dim": 32,
  "layer_norm_eps": 1e-4,
  "mean": (0.5, 0.4, 0.3),
  "std": (0.2, 0.3, 0.4),
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
    "stage_sizes": (1, 2, 1, 1),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
  },
}


def make_model(image, **change):
  values = {
    "data": {
      "data_dir": "somewhere",
      "datasets": ("phantoms",),
      "max_length": 8,
    },
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
        "layer_norm_eps": 1e-4,
        "activation": "relu",  # as in the demo
      },
    },
    "train": {"batch_size": 8, "num_steps": 4},
    **change,
  }
  tokenize = tokenizer.Tokenizer.from_name("bundled", 8)
  values["model"]["text"]["vocab_size"] = tokenize.vocab_size
  config = config_lib.build(values)
  network = dual_encoder.DualEncoder(config.model)
  shapes = jax.eval_shape(
    lambda: dual_encoder.init_variables(network, jax.random.key(0), 8)
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    # A scalar is no array but a number.
    lambda x: np.asarray(rng.normal(0.1, 0.3, x.shape), np.float32),
    shapes,
  )
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  return inference.Model(
    encoder.Encoder(network, variables, tokenize, mesh),
    config=config,
    step=4,
    params_kind="raw",
    params_digest=params_digest(variables["params"]),
    rendering=datasets.RENDERING,
  )


def other_base(model):
  """Returns a config that has nothing of `model` that its files tell."""
  text = bert.BertConfig(20, 8, 1, 1, 16, 40, 1, 1e-3)
  if isinstance(model.image, resnet.ResNetConfig):
    image = resnet.ResNetConfig(image_size=model.image.image_size)
  else:
    pooling = model.image.pooling
    image = vit.ViTConfig(
      model.image.image_size,
      4,
      "S",
      class_token=pooling == "class",
      num_registers=1,
      pooling=pooling,
      activation="relu",
      layer_norm_eps=1e-3,
    )
  return dataclasses.replace(model, image=image, text=text)


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
  resolved = pretrained.resolve(init, other_base(model.config.model))
  assert resolved == model.config.model
  blank = jax.tree.map(np.zeros_like, model.encoder.variables)
  params, batch_stats = pretrained.load(init, **blank)
  want = traverse_util.flatten_dict(model.encoder.variables)
  got = traverse_util.flatten_dict(
    {"params": params, "batch_stats": batch_stats}
  )
  assert got.keys() == want.keys()
  for path, value in want.items():
    np.testing.assert_array_equal(
      got[path], value, err_msg=str(path), strict=True
    )


def test_tokenizer_of_an_export_tokenises_alike(tmp_path):
  model = make_model(VIT)
  export.write(model, tmp_path / "export", tmp_path)
  loaded = tokenizer.Tokenizer.from_name(
    str(tmp_path / "export" / "text_tower"), 8
  )
  texts = ["Small left pleural effusion.", "Unchanged ___."]
  for name, value in model.encoder.tokenize(texts).items():
    np.testing.assert_array_equal(loaded(texts)[name], value)


@pytest.mark.parametrize("activation", layers.ACTIVATIONS)
def test_activations_go_round(activation, tmp_path):
  text = bert.BertConfig(activation=activation)
  (tmp_path / "config.json").write_text(json.dumps(export._bert_config(text)))
  assert pretrained.text_config(str(tmp_path), bert.BertConfig()) == text
  image = vit.ViTConfig(variant="S", activation=activation)
  written, _ = export._image_family(image)
  (tmp_path / "config.json").write_text(json.dumps(written))
  got = pretrained.image_config(str(tmp_path), vit.ViTConfig(variant="B"))
  assert got.activation == activation


def scores_of(model):
  return {
    "params_sha256": model.params_digest,
    "benchmarks": {
      "chexpert": {
        "split": "test",
        "rows": 9,
        "macro_auroc": {"value": 0.75, "low": 0.5, "high": 1.0},
      }
    },
  }


def test_card_is_filled_from_the_record_and_shows_no_path(tmp_path):
  model = make_model(
    VIT,
    init={"image": f"{tmp_path}/a|b", "text": "/", "heads": ""},
    loss={"compat": "authors", "positives": "text"},
    optim={
      "optimizer": "adam_l2",
      "learning_rate": 3e-4,
      "ema_decay": 0.99,
      "frozen": ("text_tower/(word|position)_embeddings/.*",),
    },
  )
  (tmp_path / "metrics.json").write_text(json.dumps(scores_of(model)))
  export.write(model, tmp_path / "a", tmp_path)
  card = (tmp_path / "a" / "README.md").read_text()
  for words in (
    "not for clinical use",
    "| chexpert | test | 9 | 0.750 [0.500, 1.000] |",
    f"| parameters sha256 | {model.params_digest} |",
    "token_entropy_weight 0.2",
    "| pixels | in [0, 1], less 0.5, 0.4, 0.3, divided by 0.2, 0.3, 0.4 |",
    "| files read by | recipe voi, to 256 px |",
    r"| image tower started from | a\|b |",
    "| text tower started from | weights without a name |",
    "| heads started from | random |",
    "| trained on | phantoms |",
    "| positives | text |",
    "| penalties | compat authors, reduction per_token, ",
    "| optimiser | adam_l2, learning rate 0.0003 (cosine, ",
    r"| frozen | text_tower/(word\|position)_embeddings/.* |",
    "| word-pieces | are projected one by one |",
    "| parameters | those of the last step |",
  ):
    assert words in card
  assert str(tmp_path) not in card
  model = dataclasses.replace(model, params_kind="ema", params_digest="0" * 64)
  export.write(model, tmp_path / "b", tmp_path)
  card = (tmp_path / "b" / "README.md").read_text()
  assert "of other weights" in card
  assert "| parameters | their moving average, decay 0.99 |" in card


@pytest.mark.parametrize(
  ("family", "there", "not_there"),
  [
    (
      "vit",
      ["class token", "Poolers are not trained", "(dense, gelu, layer norm"],
      "pooled output",
    ),
    (
      "siglip_with_head",
      ["pooled output", "pooler of `image_tower` is trained"],
      "Poolers are not trained",
    ),
    (
      "biovil_resnet50",
      ["`image_tower` does not", "batch norm", "relu, dense", "mean of the"],
      "`image_tower` and `text_tower` load with",
    ),
  ],
)
def test_card_says_how_to_use_the_very_towers(family, there, not_there):
  text = " ".join(export._use(make_model(TOWERS[family]).config.model))
  for words in there:
    assert words in text
  assert not_there not in text
  assert "pieces of a word" not in text


@pytest.mark.parametrize("text", ["{", "[]", '{"params_sha256": "DIGEST"}'])
def test_bad_scores_are_an_error_before_anything_is_written(text, tmp_path):
  model = make_model(VIT)
  text = text.replace("DIGEST", model.params_digest)
  (tmp_path / "metrics.json").write_text(text)
  with pytest.raises(ValueError, match="metrics.json is "):
    export.write(model, tmp_path / "new" / "export", tmp_path)
  assert [path.name for path in tmp_path.iterdir()] == ["metrics.json"]


def test_a_failure_leaves_nothing_and_nothing_of_the_users_goes(
  tmp_path, monkeypatch
):
  (tmp_path / "export.part").mkdir()
  (tmp_path / "export.part" / "mine.txt").touch()

  def fail(*args):
    raise OSError("the disk is full")

  monkeypatch.setattr(export, "_write_tokenizer", fail)
  with pytest.raises(OSError, match="the disk is full"):
    export.write(make_model(VIT), tmp_path / "export", tmp_path)
  assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")] == [
    "export.part",
    "export.part/mine.txt",
  ]


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
