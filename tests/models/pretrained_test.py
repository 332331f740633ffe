"""What config.json and preprocessor_config.json make of an image tower."""

import dataclasses
import json
import re

import jax
import numpy as np
import pytest
import safetensors.numpy

from tests.models import cxr_bert_reference, vit_test
from tests.models import vit_reference as reference
from tier_jax.models import (
  bert,
  dual_encoder,
  pretrained,
  resnet,
  vit,
  weight_files,
)

BASE = vit.ViTConfig(reference.SIZE, reference.PATCH, "B", class_token=True)
MODEL = dual_encoder.DualEncoderConfig(
  BASE, bert.BertConfig(20, 8, 1, 2, 16, 6)
)


def change(directory, **values):
  path = directory / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | values))


@pytest.mark.parametrize("kind", reference.CONFIGS)
def test_sizes_are_the_weights_and_the_rest_the_users(kind, tmp_path):
  reference.write(kind, tmp_path)
  base = vit.ViTConfig(32, 16, "S", dtype="bfloat16")
  got = pretrained.image_config(str(tmp_path), base)
  siglip, dino = kind == "siglip_vision_model", "dino" in kind
  assert got == vit.ViTConfig(
    image_size=32,
    patch_size=reference.PATCH,
    width=reference.WIDTH,
    depth=reference.DEPTH,
    num_heads=3,
    mlp_dim=2 * reference.WIDTH if dino else reference.INNER,
    class_token=not siglip,
    num_registers=3 if "registers" in kind else 0,
    layer_scale=dino,
    activation="gelu_tanh" if siglip else "gelu",
    layer_norm_eps=1e-12 if kind == "vit" else 1e-6,
    mean=reference.MEAN,
    std=reference.STD,
    dtype="bfloat16",
  )


def test_what_a_short_config_leaves_out_is_hugging_faces_default(tmp_path):
  (tmp_path / "config.json").write_text(
    json.dumps({"model_type": "siglip", "vision_config": {}, "text_config": {}})
  )
  got = pretrained.image_config(str(tmp_path), vit.ViTConfig(variant="Ti"))
  assert (got.width, got.depth, got.num_heads, got.mlp_dim) == (
    vit.VARIANTS["B"]
  )
  assert (got.mean, got.std) == (BASE.mean, BASE.std)  # no preprocessor


@pytest.mark.parametrize(
  ("kind", "values", "words"),
  [
    ("dinov2", {"use_swiglu_ffn": True}, "use_swiglu_ffn True, expected False"),
    ("dinov2", {"hidden_act": "silu"}, "hidden_act 'silu', expected one of"),
    ("vit", {"num_channels": 1}, "num_channels 1, expected 3"),
    ("vit", {"qkv_bias": False}, "qkv_bias False, expected True"),
    (
      "vit",
      {"patch_size": [4, 4]},
      r"patch_size \[4, 4\], expected one number",
    ),
    ("vit", {"model_type": "clip"}, "model_type 'clip', expected one of vit"),
    ("vit", {"patch_size": 5}, "12 is not a multiple of image.patch_size 5"),
  ],
)
def test_what_the_tower_lacks_is_refused(kind, values, words, tmp_path):
  reference.write(kind, tmp_path)
  change(tmp_path, **values)
  with pytest.raises(ValueError, match=words):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize(
  ("kind", "pooling", "expected"),
  [
    ("vit", "map", "mean, class"),
    ("dinov2", "map", "mean, class"),
    ("siglip_vision_model", "class", "mean, map"),
  ],
)
def test_pooling_must_be_possible(kind, pooling, expected, tmp_path):
  reference.write(kind, tmp_path)
  base = vit.ViTConfig(12, 4, "B", class_token=True, pooling=pooling)
  words = f"pooling is '{pooling}', expected one of {expected} with init.image"
  with pytest.raises(ValueError, match=words):
    pretrained.image_config(str(tmp_path), base)


def test_a_tower_without_its_head_pools_otherwise(tmp_path):
  reference.write("siglip_vision_model", tmp_path)
  change(tmp_path, vision_use_head=False)
  base = vit.ViTConfig(12, 4, "B", pooling="map")
  with pytest.raises(ValueError, match="expected one of mean with"):
    pretrained.image_config(str(tmp_path), base)


@pytest.mark.parametrize(
  ("values", "want"),
  [
    ({"do_normalize": False}, ((0.0,) * 3, (1.0,) * 3)),
    (
      {"image_processor": {"image_mean": [0.1] * 3, "image_std": [0.2] * 3}},
      ((0.1,) * 3, (0.2,) * 3),
    ),
    ({"image_mean": 0.5, "image_std": [0.25]}, ((0.5,) * 3, (0.25,) * 3)),
    ({"image_mean": [0, 0, 1], "image_std": 1}, ((0.0, 0.0, 1.0), (1.0,) * 3)),
    ({"image_mean": None, "image_std": 0.5}, (BASE.mean, BASE.std)),
    ({"rescale_factor": 1 / 255}, (BASE.mean, BASE.std)),
  ],
)
def test_pixel_statistics(values, want, tmp_path):
  reference.write("vit", tmp_path)
  (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
  got = pretrained.image_config(str(tmp_path), BASE)
  assert (got.mean, got.std) == want


@pytest.mark.parametrize(
  ("field", "value", "expected"),
  [
    ("image_mean", "0.5", "one or three numbers, 0 <= "),
    ("image_mean", [0.5, 0.5], "one or three numbers"),
    ("image_mean", [0.5, 0.5, "0.5"], "one or three numbers"),
    ("image_mean", [0.5, 0.5, True], "one or three numbers"),
    ("image_mean", [123.7, 116.3, 103.5], "one or three numbers"),
    ("image_mean", [-0.5] * 3, "one or three numbers"),
    ("image_std", 0, "one or three numbers, 0 < "),
    ("image_std", [0.2, 0.2, 1.5], "one or three numbers"),
    ("image_std", [[0.2] * 3], "one or three numbers"),
    ("do_normalize", "false", "true or false"),
    ("do_rescale", 0, "true or false"),
    ("rescale_factor", "1/255", "a number"),
    ("rescale_factor", True, "a number"),
    ("image_processor", [], "a dict"),
  ],
)
@pytest.mark.parametrize(
  "file", ["preprocessor_config.json", "processor_config.json"]
)
def test_bad_pixel_statistics_are_named(file, field, value, expected, tmp_path):
  reference.write("vit", tmp_path)
  (tmp_path / "preprocessor_config.json").unlink()
  values = {"image_mean": 0.5, "image_std": 0.5, field: value}
  (tmp_path / file).write_text(json.dumps(values))
  words = f"{field} of its {file} is {value!r}, expected {expected}"
  with pytest.raises(ValueError, match=re.escape(words)):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize(
  "values", [{"rescale_factor": 1}, {"do_rescale": False}]
)
def test_other_pixel_ranges_are_refused(values, tmp_path):
  reference.write("vit", tmp_path)
  (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
  with pytest.raises(ValueError, match="rescales pixels by"):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize("pooling", ["mean", "map"])
def test_the_vision_tower_of_a_whole_siglip(pooling, tmp_path):
  kind = "siglip_vision_model"
  alone, whole = tmp_path / "alone", tmp_path / "whole"
  for directory in (alone, whole):
    directory.mkdir()
    reference.write(kind, directory)
  (whole / "config.json").write_text(
    json.dumps(
      {"model_type": "siglip", "vision_config": reference.CONFIGS[kind]}
    )
  )
  tensors = {f"vision_model.{k}": v for k, v in reference.weights(kind).items()}
  for key in ("text_model.head.bias", "logit_scale", "logit_bias"):
    tensors[key] = np.zeros(1, np.float32)
  safetensors.numpy.save_file(tensors, whole / "model.safetensors")
  base = vit.ViTConfig(12, 4, "B", pooling=pooling)
  configs = [pretrained.image_config(str(d), base) for d in (alone, whole)]
  assert configs[0] == configs[1]
  shapes = vit_test.shapes(configs[0])
  want, got = (vit_test.load(directory, shapes) for directory in (alone, whole))
  assert ("pool" in got) == (pooling == "map")
  np.testing.assert_array_equal(
    got["block_1"]["query"]["kernel"], want["block_1"]["query"]["kernel"]
  )


def test_a_directory_without_a_model_is_named(tmp_path):
  with pytest.raises(ValueError, match=r"init.image .* holds no config.json"):
    pretrained.image_config(str(tmp_path), BASE)


def test_the_dual_encoder_is_filled(tmp_path):
  reference.write("dinov2_with_registers", tmp_path)
  init = pretrained.InitConfig(image=str(tmp_path))
  model = pretrained.resolve(
    init,
    dual_encoder.DualEncoderConfig(BASE, bert.BertConfig(20, 8, 1, 2, 16, 6)),
  )
  variables = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      dual_encoder.DualEncoder(model), jax.random.key(0), 6
    )
  )
  params, batch_stats = pretrained.load(init, **variables)
  assert list(params) == ["image_tower"]
  assert not batch_stats
  for new, old in zip(
    jax.tree.leaves_with_path(params["image_tower"]),
    jax.tree.leaves_with_path(variables["params"]["image_tower"]),
    strict=True,
  ):
    assert new[0] == old[0]
    assert new[1].shape == old[1].shape
    assert new[1].dtype == old[1].dtype == np.float32


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"image_mean": NaN}'])
def test_a_broken_preprocessor_is_named(text, tmp_path):
  reference.write("vit", tmp_path)
  (tmp_path / "preprocessor_config.json").write_text(text)
  with pytest.raises(ValueError, match="preprocessor_config.json cannot be"):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize(
  ("family", "change"),
  [
    ("vit", {"hidden_size": "wide"}),
    ("dinov2", {"mlp_ratio": 2.5}),
    ("dinov2", {"num_attention_heads": None}),
    ("vit", {"hidden_act": ["gelu"]}),
    ("vit", {"layer_norm_eps": 0.0}),
    ("siglip_vision_model", {"layer_norm_eps": "small"}),
  ],
)
def test_a_value_of_another_type_is_named(family, change, tmp_path):
  reference.write(family, tmp_path)
  path = tmp_path / "config.json"
  path.write_text(json.dumps(json.loads(path.read_text()) | change))
  (field,) = change
  with pytest.raises(ValueError, match=rf"config.json is malformed.*{field}"):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize(
  "text", ["", "{", "null", "3", '"x"', "[]", '{"layer_norm_eps": NaN}']
)
@pytest.mark.parametrize("field", ["image", "text"])
def test_a_broken_config_is_named(field, text, tmp_path):
  (tmp_path / "config.json").write_text(text)
  init = pretrained.InitConfig(**{field: str(tmp_path)})
  with pytest.raises(
    ValueError, match=f"init.{field} .*: its config.json cannot be read"
  ):
    pretrained.resolve(init, MODEL)


@pytest.mark.parametrize("kind", [["vit"], {}, None, 3])
@pytest.mark.parametrize("field", ["image", "text"])
def test_a_family_that_is_no_name_is_named(field, kind, tmp_path):
  (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
  init = pretrained.InitConfig(**{field: str(tmp_path)})
  words = f"init.{field} {str(tmp_path)!r} has model_type {kind!r}, expected"
  with pytest.raises(ValueError, match=re.escape(words)):
    pretrained.resolve(init, MODEL)


def test_a_vision_config_that_is_no_dict_is_named(tmp_path):
  values = {"model_type": "siglip", "vision_config": 3}
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(ValueError, match="vision_config of its config.json is 3"):
    pretrained.image_config(str(tmp_path), BASE)


@pytest.mark.parametrize(
  ("theirs", "ours"), list(pretrained._ACTIVATIONS.items())
)
def test_activations_of_a_text_tower_are_read(theirs, ours, tmp_path):
  values = {"model_type": "bert", "hidden_act": theirs}
  (tmp_path / "config.json").write_text(json.dumps(values))
  got = pretrained.text_config(str(tmp_path), bert.BertConfig())
  assert got.activation == ours


def test_another_activation_of_a_text_tower_is_refused(tmp_path):
  values = {"model_type": "bert", "hidden_act": "silu"}
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(ValueError, match="hidden_act 'silu' .*expected one of"):
    pretrained.text_config(str(tmp_path), bert.BertConfig())


def test_a_resnets_sizes_are_those_of_its_export(tmp_path):
  path = tmp_path / "config.json"
  base = resnet.ResNetConfig(image_size=64)
  values = {"width": 8, "stage_sizes": [1, 2, 1, 1], "image_size": 224}
  path.write_text(json.dumps(values | {"model_type": "biovil_resnet50"}))
  got = pretrained.resnet_config(str(tmp_path), base)
  assert got == resnet.ResNetConfig(
    image_size=64, width=8, stage_sizes=(1, 2, 1, 1)
  )
  path.write_text(json.dumps(values | {"model_type": "cxr-bert"}))
  assert pretrained.resnet_config(str(tmp_path), base) == base


@pytest.mark.parametrize(
  "change",
  [{"width": "8"}, {"stage_sizes": 3}, {"stage_sizes": [1, 1, 1, None]}],
)
def test_sizes_of_a_resnet_that_are_no_numbers_are_named(change, tmp_path):
  values = {"width": 8, "stage_sizes": [1, 1, 1, 1]} | change
  values["model_type"] = "biovil_resnet50"
  (tmp_path / "config.json").write_text(json.dumps(values))
  with pytest.raises(ValueError, match="its config.json has width"):
    pretrained.resnet_config(str(tmp_path), resnet.ResNetConfig())


def test_each_file_is_read_once(tmp_path, monkeypatch):
  safetensors.numpy.save_file(
    cxr_bert_reference.weights(), tmp_path / "model.safetensors"
  )
  calls, read = [], weight_files.read
  monkeypatch.setattr(
    weight_files, "read", lambda *args: (calls.append(args), read(*args))[1]
  )
  (tmp_path / "config.json").write_text(json.dumps(cxr_bert_reference.CONFIG))
  init = pretrained.InitConfig(text=str(tmp_path), heads="pretrained")
  model = pretrained.resolve(
    init, dataclasses.replace(MODEL, embed_dim=cxr_bert_reference.EMBED_DIM)
  )
  variables = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      dual_encoder.DualEncoder(model), jax.random.key(0), 6
    )
  )
  params, _ = pretrained.load(init, **variables)
  assert sorted(params) == ["text_head", "text_tower"]
  assert calls == [(str(tmp_path), "init.text")]
