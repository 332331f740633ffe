"""From ConfigDict to dataclasses: every mistake is named."""

import dataclasses
import importlib.util
import re
from pathlib import Path

import jax
import pytest
from flax import traverse_util

from tier_jax import config as config_lib
from tier_jax import optim
from tier_jax.models import dual_encoder

CONFIGS = Path(__file__).parents[1] / "configs"


def load(name, arg=None):
  spec = importlib.util.spec_from_file_location(name, CONFIGS / f"{name}.py")
  assert spec is not None
  assert spec.loader is not None
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config(arg)


def merge(base, change):
  both = {
    key: merge(base[key], value)
    for key, value in change.items()
    if isinstance(value, dict) and key in base
  }
  return {**base, **change, **both}


def smoke(**change):
  return merge(load("vit_b16", "smoke").to_dict(), change)


@pytest.mark.parametrize(
  ("name", "arg"),
  [
    ("vit_b16", None),
    ("vit_b16", "smoke"),
    ("rad_dino_b14", None),
    ("rad_dino_b14", "smoke"),
    ("paper_resnet50", None),
    ("paper_resnet50", "smoke"),
    ("demo", "tier"),
    ("demo", "plain"),
    ("demo", "siglip"),
    ("demo", "siglip_tier"),
    ("demo", "local"),
    ("frozen_s14", "plain"),
    ("frozen_s14", "t0.3_w0.5_0.02"),
  ],
)
def test_shipped_configs_build_and_survive_json(name, arg):
  built = config_lib.build(load(name, arg))
  assert config_lib.build(config_lib.to_dict(built)) == built


def test_flagship_has_the_size_its_name_says():
  image = config_lib.build(load("vit_b16")).model.image
  assert (image.width, image.depth, image.num_heads) == (768, 12, 12)
  assert image.grid == (14, 14)


def test_rad_dino_has_the_grid_of_its_weights_and_trains_two_blocks():
  config = config_lib.build(load("rad_dino_b14"))
  assert config.model.image.grid == (37, 37)
  names = [f"image_tower/block_{i}/query/kernel" for i in range(12)]
  frozen = [
    any(re.fullmatch(pattern, name) for pattern in config.optim.frozen)
    for name in names
  ]
  assert frozen == [True] * 10 + [False] * 2


def _frozen(tower, parts):
  return {f"{tower}/{part}" for part in parts.split()}


def _layers(name, count):
  return " ".join(f"{name}_{i}" for i in range(count))


_TABLES = "word_embeddings position_embeddings"
_BELOW_BLOCKS = "patch_embed position_embed class_token"
_BELOW_LAYERS = f"{_TABLES} token_type_embeddings norm_embeddings"


@pytest.mark.parametrize(
  ("name", "arg", "image", "text"),
  [
    ("vit_b16", None, "", ""),
    ("vit_b16", "smoke", "", ""),
    (
      "rad_dino_b14",
      None,
      f"{_BELOW_BLOCKS} {_layers('block', 10)}",
      f"{_BELOW_LAYERS} {_layers('layer', 8)}",
    ),
    (
      "rad_dino_b14",
      "smoke",
      f"{_BELOW_BLOCKS} {_layers('block', 2)}",
      f"{_BELOW_LAYERS} {_layers('layer', 2)}",
    ),
    ("paper_resnet50", None, "", f"{_TABLES} {_layers('layer', 8)}"),
    ("paper_resnet50", "smoke", "", f"{_TABLES} {_layers('layer', 8)}"),
    ("demo", "tier", "", ""),
  ],
)
def test_what_a_config_trains(name, arg, image, text):
  config = config_lib.build(load(name, arg))
  model = config.model
  if not model.text.vocab_size:
    model = dataclasses.replace(
      model, text=dataclasses.replace(model.text, vocab_size=50)
    )
  shapes = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      dual_encoder.DualEncoder(model), jax.random.key(0), 8
    )
  )["params"]
  trainable, fixed = (
    {"/".join(path[:2]) for path in traverse_util.flatten_dict(tree)}
    for tree in optim.partition(shapes, config.optim.frozen)
  )
  assert fixed == _frozen("image_tower", image) | _frozen("text_tower", text)
  assert not trainable & fixed
  assert {"logit_scale", "image_head/out", "text_head/out"} <= trainable


def test_the_paper_freezes_eight_layers_and_counts_as_the_authors_do():
  config = config_lib.build(load("paper_resnet50"))
  names = [f"text_tower/layer_{i}/query/kernel" for i in range(12)]
  frozen = [
    any(re.fullmatch(pattern, name) for pattern in config.optim.frozen)
    for name in names
  ]
  assert frozen == [True] * 8 + [False] * 4
  assert config.model.image.grid == (7, 7)
  assert not config.loss.mask_padding
  assert config.loss.eps_after_softmax == 1e-7


def test_the_demos_differ_in_the_weights_alone():
  tier = config_lib.to_dict(config_lib.build(load("demo", "tier")))
  plain = config_lib.to_dict(config_lib.build(load("demo", "plain")))
  assert tier["loss"].pop("token_entropy_weight") > 0
  assert tier["loss"].pop("patch_entropy_weight") > 0
  assert plain["loss"].pop("token_entropy_weight") == 0
  assert plain["loss"].pop("patch_entropy_weight") == 0
  assert tier == plain


def test_the_arms_of_the_frozen_tower_differ_in_the_penalties_alone():
  arms = {
    "plain": (1, 0, 0),
    "tier": (1, 0.2, 0.1),
    "t0.3_w0.5_0.02": (0.3, 0.5, 0.02),
  }
  names = "penalty_temperature", "token_entropy_weight", "patch_entropy_weight"
  rest = []
  for arm, penalties in arms.items():
    config = config_lib.to_dict(config_lib.build(load("frozen_s14", arm)))
    assert tuple(config["loss"].pop(name) for name in names) == penalties
    rest.append(config)
  assert rest[0] == rest[1] == rest[2]


@pytest.mark.parametrize(
  "name", ["vit_b16", "rad_dino_b14", "paper_resnet50", "demo", "frozen_s14"]
)
def test_unknown_argument_is_refused(name):
  with pytest.raises(ValueError, match="config argument 'huge', expected"):
    load(name, "huge")


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"optim": {"learnin_rate": 1e-3}}, "optim.learnin_rate: did you mean "),
    ({"surprise": 1}, "unknown config key surprise"),
    ({"optim": {"learning_rate": "fast"}}, "optim.learning_rate is 'fast'"),
    ({"optim": {"learning_rate": -1.0}}, "optim.learning_rate is -1.0"),
    ({"train": {"batch_size": 0}}, "train.batch_size is 0, expected >= 1"),
    ({"train": {"batch_size": 8.0}}, "train.batch_size is 8.0, expected int"),
    ({"data": {"datasets": "mimic_cxr"}}, "data.datasets is 'mimic_cxr'"),
    ({"seed": True}, "seed is True, expected int"),
    ({"model": {"image": {"patch_size": 5}}}, "image.patch_size 5"),
    ({"loss": {"compat": "paper"}}, "loss.compat is 'paper'"),
  ],
)
def test_mistakes_are_named(change, words):
  with pytest.raises(ValueError, match=words):
    config_lib.build(smoke(**change))


def test_missing_key_is_named():
  values = smoke()
  del values["train"]["num_steps"]
  with pytest.raises(ValueError, match="train.num_steps is missing"):
    config_lib.build(values)
  del values["model"]
  with pytest.raises(ValueError, match="model is missing"):
    config_lib.build(values)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"seed": -1}, "seed is -1"),
    ({"train": {"accumulate": 0}}, "train.accumulate is 0, expected >= 1"),
    ({"model": {"image": {"patch_size": 0}}}, "image.patch_size is 0"),
    ({"model": {"image": {"std": (0.2,)}}}, r"image.std is .*expected 3 items"),
    ({"optim": {"weight_decay": float("nan")}}, "weight_decay is nan"),
    ({"optim": {"b1": 1.5}}, "optim.b1 is 1.5"),
    ({"augment": {"scale": 1.0}}, "augment.scale is 1.0"),
    ({"train": {"on_nonfinite": "stop"}}, "on_nonfinite is 'stop', expected"),
    ({"train": {"max_faults": 0}}, "train.max_faults is 0, expected >= 1"),
    ({"train": {"watchdog_minutes": -1.0}}, "watchdog_minutes is -1.0"),
  ],
)
def test_numbers_that_would_fail_late_are_refused_early(change, words):
  with pytest.raises(ValueError, match=words):
    config_lib.build(smoke(**change))


def test_every_field_is_logged_and_what_flags_changed_is_marked(caplog):
  config = config_lib.build(smoke(train={"num_steps": "3 epochs"}))
  with caplog.at_level("INFO"):
    config_lib.log(config, {"train.num_steps": "4 steps"})
  lines = caplog.messages
  fields = traverse_util.flatten_dict(config_lib.to_dict(config), sep=".")
  assert len(lines) == len(fields)
  assert lines[0] == "seed = 0"
  assert lines[1:] == sorted(lines[1:])
  assert "train.num_steps = '3 epochs'  (file: '4 steps')" in lines
  assert "train.batch_size = 8" in lines


def test_batch_norms_do_not_accumulate():
  values = load("paper_resnet50").to_dict()
  values["train"]["accumulate"] = 2
  with pytest.raises(ValueError, match="accumulate is 2, .*'resnet50'"):
    config_lib.build(values)


def test_flagship_names_every_field_so_that_each_can_be_a_flag():
  named = load("vit_b16").to_dict()

  def missing(values, fields, prefix=""):
    for name, value in fields.items():
      if name not in values:
        yield prefix + name
      elif isinstance(value, dict):
        yield from missing(values[name], value, f"{prefix}{name}.")

  fields = config_lib.to_dict(config_lib.build(named))
  assert not list(missing(named, fields))


@pytest.mark.parametrize("page", ["README.md", "configs/README.md"])
def test_flags_of_the_pages_are_keys_of_the_flagship(page):
  text = (CONFIGS.parent / page).read_text("utf-8")
  names = re.findall(r"--config\.([a-z_.]+[a-z])=", text)
  assert names
  for name in names:
    values = load("vit_b16")
    for part in name.split("."):
      assert part in values, f"{page} has --config.{name}"
      values = values[part]
