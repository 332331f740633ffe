"""The ResNet-50 tower and its projector against PyTorch, stage by stage."""

import dataclasses
import functools
import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import traverse_util

from tests.models import resnet_reference as reference
from tier_jax import sharding, train_step
from tier_jax.losses import objective
from tier_jax.models import (
  bert,
  dual_encoder,
  pretrained,
  resnet,
  weight_tables,
)

pytestmark = pytest.mark.usefixtures("unoptimized")

CONFIG = dual_encoder.DualEncoderConfig(
  resnet.ResNetConfig(
    image_size=reference.IMAGE_SIZE,
    width=reference.WIDTH,
    stage_sizes=reference.STAGE_SIZES,
  ),
  bert.BertConfig(20, 8, 1, 2, 16, 6),
  embed_dim=reference.EMBED_DIM,
)
MODEL = dual_encoder.DualEncoder(CONFIG)
STAGES = ("stem", *(f"stage_{i}" for i in range(4)), "projected")


def random_variables(model):
  """As an initialisation would give, without compiling one."""
  rng = np.random.default_rng(0)
  shapes: Any = jax.eval_shape(
    lambda: dual_encoder.init_variables(model, jax.random.key(0), 6)
  )

  def fill(path, leaf):
    if path[-1].key in ("kernel", "embedding"):
      scale = np.sqrt(2 / np.prod(leaf.shape[:-1]))
      return rng.normal(0, scale, leaf.shape).astype(np.float32)
    ones = path[-1].key in ("scale", "var")
    return np.full(leaf.shape, float(ones), np.float32)

  return jax.tree_util.tree_map_with_path(fill, shapes)


@pytest.fixture(scope="module")
def variables(tmp_path_factory):
  """Variables with tower and head filled from a file with BioViL's names."""
  path = tmp_path_factory.mktemp("resnet") / "biovil.safetensors"
  tensors = reference.weights()
  tensors["encoder.encoder.bn1.num_batches_tracked"] = np.array(7)
  tensors["projector.model.1.num_batches_tracked"] = np.array(7)
  tensors["encoder.encoder.fc.weight"] = np.zeros((5, 256), np.float32)
  safetensors.numpy.save_file(tensors, path)
  init = pretrained.InitConfig(image=str(path), heads="pretrained")
  start = random_variables(MODEL)
  loaded = pretrained.load(init, **start)
  assert [sorted(tree) for tree in loaded] == [
    ["image_head", "image_tower"]
  ] * 2
  return {
    name: {**start[name], **tree}
    for name, tree in zip(("params", "batch_stats"), loaded, strict=True)
  }


def run(variables, mode):
  """Returns what each stage makes of the images, and the batch statistics."""

  def forward(module, image):
    deterministic = mode == "eval"
    features = module.image_tower(image, deterministic=deterministic)
    return module.image_head(features.patches, deterministic=deterministic)

  apply = functools.partial(
    MODEL.apply,
    method=forward,
    mutable=["batch_stats", "intermediates"],
    capture_intermediates=True,
  )
  projected, changed = jax.jit(apply)(variables, reference.IMAGES)
  kept = changed["intermediates"]["image_tower"]
  stages = [kept[f"stage_{i}"]["__call__"][0] for i in range(4)]
  stem = jax.nn.relu(kept["norm_stem"]["__call__"][0])
  stem = jax.lax.reduce_window(
    stem,
    -jnp.inf,
    jax.lax.max,
    (1, 3, 3, 1),
    (1, 2, 2, 1),
    ((0, 0), (1, 1), (1, 1), (0, 0)),
  )
  values = (stem, *stages, projected.reshape(*stages[-1].shape[:3], -1))
  return dict(zip(STAGES, values, strict=True)), changed["batch_stats"]


# In training, dividing by the deviations of small batches enlarges rounding:
# PyTorch's own float32 is as far from its float64.
@pytest.mark.parametrize(("mode", "atol"), [("eval", 1e-5), ("train", 4e-5)])
def test_every_stage_equals_pytorch(variables, mode, atol):
  got, _ = run(variables, mode)
  stored = np.load(reference.PATH)
  for name in STAGES:
    np.testing.assert_allclose(
      got[name][:2, ..., ::2],
      stored[f"{mode}_{name}"],
      atol=atol,
      err_msg=f"{mode} {name}",
    )


def test_running_statistics_move_as_in_pytorch(variables):
  _, batch_stats = run(variables, "train")
  stored, start = np.load(reference.PATH), reference.weights()
  for part, table, prefix in (
    ("image_tower", weight_tables.RESNET50, reference.PREFIX),
    ("image_head", weight_tables.BIOVIL_HEAD, ""),
  ):
    flat: Any = traverse_util.flatten_dict(batch_stats[part], sep="/")
    for name, got in weight_tables.to_theirs(table, flat).items():
      want = stored[prefix + name].astype(np.float64)
      if name.endswith("running_var"):
        # What PyTorch adds is n / (n - 1) of ours.
        count = stored[prefix + name.replace("running_var", "count")]
        old = 0.9 * start[prefix + name].astype(np.float64)
        want = old + (want - old) * (count - 1) / count
      np.testing.assert_allclose(got, want, atol=1e-5, err_msg=name)


def test_export_gives_the_same_tensors_back(variables):
  theirs = reference.weights()
  params, batch_stats = variables["params"], variables["batch_stats"]
  flat: Any = {
    part: traverse_util.flatten_dict(params[part], sep="/")
    | traverse_util.flatten_dict(batch_stats[part], sep="/")
    for part in ("image_tower", "image_head")
  }
  tower = weight_tables.to_theirs(weight_tables.RESNET50, flat["image_tower"])
  head = weight_tables.to_theirs(weight_tables.BIOVIL_HEAD, flat["image_head"])
  got = {f"{reference.PREFIX}{name}": value for name, value in tower.items()}
  got |= head
  assert got.keys() == theirs.keys()
  for name, value in theirs.items():
    np.testing.assert_array_equal(got[name], value)


def test_pixel_statistics_of_a_directory_are_taken(tmp_path):
  statistics = {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.2, 0.1]}
  (tmp_path / "preprocessor_config.json").write_text(json.dumps(statistics))
  safetensors.numpy.save_file(
    reference.weights(), tmp_path / "model.safetensors"
  )
  init = pretrained.InitConfig(image=str(tmp_path))
  image: Any = pretrained.resolve(init, CONFIG).image
  assert image.mean == (0.5, 0.4, 0.3)
  assert image.std == (0.2, 0.2, 0.1)
  init = pretrained.InitConfig(image=str(tmp_path / "model.safetensors"))
  assert pretrained.resolve(init, CONFIG) == CONFIG


def test_patches_are_row_major(variables):
  """A bright corner moves the first patch's features most."""
  dark = np.zeros((1, 64, 64), np.uint8)
  corner = dark.copy()
  corner[:, :8, 56:] = 255  # top right: second of 2 x 2

  apply = functools.partial(MODEL.apply, method=lambda m, x: m.image_tower(x))
  pair = jax.jit(apply)(variables, np.concatenate([dark, corner])).patches
  assert np.abs(pair[1] - pair[0]).sum(-1).argmax() == 1
  assert CONFIG.image.grid == (2, 2)


def batch(size):
  rng = np.random.default_rng(2)
  ids = rng.integers(5, 20, (size, 6))
  return {
    "image": rng.integers(0, 256, (size, 64, 64), np.uint8),
    "input_ids": ids.astype(np.int32),
    "attention_mask": np.ones((size, 6), np.int32),
    "word_starts": np.tile(np.arange(6, dtype=np.int32), (size, 1)),
    "token_mask": np.tile([False, True, True, True, True, False], (size, 1)),
  }


TINY = dual_encoder.DualEncoder(
  dataclasses.replace(
    CONFIG,
    image=resnet.ResNetConfig(image_size=64, width=8, stage_sizes=(1, 1, 1, 1)),
  )
)
# Compiling the gradient is what takes time; running it takes none.
FAST = {"xla_backend_optimization_level": 0}


@functools.cache
def trained(data, fsdp):
  """Loss, new statistics and gradients of a batch split over devices."""
  mesh = sharding.make_mesh(
    sharding.MeshConfig(data, fsdp), jax.devices()[: data * fsdp]
  )
  start = random_variables(TINY)
  where = sharding.state_sharding(start, mesh)
  if fsdp > 1:
    kernel = where["params"]["image_tower"]["stage_3"]["bottleneck_0"]["conv_2"]
    assert not kernel["kernel"].is_fully_replicated
  step = jax.jit(
    jax.value_and_grad(train_step.loss_fn, has_aux=True),
    static_argnums=(4, 5),
    compiler_options=FAST,
  )
  start = jax.device_put(start, where)
  (loss, (_, batch_stats)), grads = step(
    start["params"],
    start["batch_stats"],
    sharding.put_batch(batch(8), mesh),
    jax.random.key(1),
    TINY,
    objective.LossConfig(),
  )
  return jax.device_get((loss, batch_stats, grads))


@pytest.mark.parametrize(("data", "fsdp"), [(8, 1), (2, 2)])
def test_statistics_are_the_global_batchs(data, fsdp):
  loss, batch_stats, grads = trained(1, 1)
  got_loss, got_stats, got_grads = trained(data, fsdp)
  np.testing.assert_allclose(got_loss, loss, rtol=1e-6)
  jax.tree.map(
    lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6),
    got_stats,
    batch_stats,
  )
  difference = optax.tree.norm(optax.tree.sub(got_grads, grads))
  # Float32 rounding that small batch deviations enlarge: 4e-6 measured, and
  # 3e-9 (loss and statistics 1e-15) of the same computation in float64.
  assert difference <= 1e-5 * optax.tree.norm(grads)


def test_frozen_statistics_stay_and_are_used():
  start = random_variables(TINY)
  start = {name: tree["image_tower"] for name, tree in start.items()}
  config: Any = TINY.config.image
  images = reference.IMAGES

  def run_tower(config, **kwargs):
    apply = jax.jit(functools.partial(resnet.ResNet(config).apply, **kwargs))
    return apply(start, images)

  want = run_tower(config, deterministic=True)
  got, changed = run_tower(
    dataclasses.replace(config, freeze_batch_stats=True),
    deterministic=False,
    mutable=["batch_stats"],
  )
  np.testing.assert_array_equal(got.patches, want.patches)
  jax.tree.map(
    np.testing.assert_array_equal, changed["batch_stats"], start["batch_stats"]
  )


def test_a_head_of_another_dimension_is_listed(tmp_path):
  path = tmp_path / "biovil.safetensors"
  tensors = reference.weights()
  tensors["projector.model.3.weight"] = np.zeros((7, 6, 1, 1), np.float32)
  tensors["projector.model.0.weight"] = np.zeros((6, 256, 3, 3), np.float32)
  tensors["projector.model.4.weight"] = np.zeros((6, 6, 1, 1), np.float32)
  safetensors.numpy.save_file(tensors, path)
  init = pretrained.InitConfig(image=str(path), heads="pretrained")
  with pytest.raises(ValueError) as error:
    pretrained.load(init, **random_variables(MODEL))
  for words in (
    "out/kernel is (6, 7), expected (6, 6)",
    "dense/kernel: projector.model.0.weight is (6, 256, 3, 3)",
    "unknown key projector.model.4.weight",
  ):
    assert words in str(error.value)


def test_a_missing_statistic_is_an_error(tmp_path):
  path = tmp_path / "biovil.safetensors"
  tensors = reference.weights()
  del tensors["encoder.encoder.layer2.1.bn2.running_var"]
  tensors["encoder.encoder.layer2.2.bn2.running_var"] = np.ones(16, np.float32)
  safetensors.numpy.save_file(tensors, path)
  with pytest.raises(ValueError) as error:
    pretrained.load(
      pretrained.InitConfig(image=str(path)), **random_variables(MODEL)
    )
  for words in (
    "nothing for stage_1/bottleneck_1/norm_2/var",
    "no place for encoder.encoder.layer2.2.bn2.running_var",
  ):
    assert words in str(error.value)


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"tower": "vit"}, "image.tower is 'vit', expected 'resnet50'"),
    ({"image_size": 100}, "image.image_size is 100, expected a multiple of 32"),
    ({"width": 0}, "image.width is 0"),
    ({"stage_sizes": (1, 1, 1)}, r"image.stage_sizes is \(1, 1, 1\)"),
    ({"std": (1.0, 0.0, 1.0)}, "image.std"),
    ({"dtype": "float16"}, "image.dtype is 'float16'"),
  ],
)
def test_bad_config(change, words):
  with pytest.raises(ValueError, match=words):
    resnet.ResNetConfig(**change)
