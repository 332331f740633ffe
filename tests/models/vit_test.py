"""The image tower against the formula, and against Hugging Face's."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.models import vit_reference
from tier_jax.models import pretrained, vit

pytestmark = pytest.mark.usefixtures("unoptimized")

CONFIG = vit.ViTConfig(
  image_size=12, patch_size=4, width=16, depth=2, num_heads=2, mlp_dim=24
)


def reference(params, image, config):
  """A ViT written out: float64, no library."""
  p = jax.tree.map(lambda x: np.asarray(x, np.float64), params)

  def dense(x, name):
    return x @ name["kernel"] + name["bias"]

  def norm(x, name):
    x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.layer_norm_eps)
    return x * name["scale"] + name["bias"]

  def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

  size = config.patch_size
  rgb = (image[..., None] / 255 - config.mean) / config.std
  rows = [
    rgb[r : r + size, c : c + size].reshape(-1)
    for r in range(0, config.image_size, size)
    for c in range(0, config.image_size, size)
  ]
  x = dense(np.array(rows), p["patch_embed"]) + p["position_embed"][0]
  for i in range(config.depth):
    block = p[f"block_{i}"]
    y = norm(x, block["norm_attention"])
    q, k, v = (dense(y, block[name]) for name in ("query", "key", "value"))
    heads = []
    for h in np.split(np.arange(config.width), config.num_heads):
      z = q[:, h] @ k[:, h].T / math.sqrt(len(h))
      z = np.exp(z - z.max(1, keepdims=True))
      heads.append(z / z.sum(1, keepdims=True) @ v[:, h])
    x = x + dense(np.concatenate(heads, 1), block["attention_out"])
    y = gelu(dense(norm(x, block["norm_mlp"]), block["mlp_in"]))
    x = x + dense(y, block["mlp_out"])
  return norm(x, p["norm"])


def test_equals_the_formula():
  images = np.random.default_rng(0).integers(0, 256, (2, 12, 12), np.uint8)
  model = vit.ViT(CONFIG)
  variables = model.init(jax.random.key(1), images)
  got = model.apply(variables, images).patches
  for image, features in zip(images, got, strict=True):
    want = reference(variables["params"], image, CONFIG)
    np.testing.assert_allclose(features, want, atol=1e-4, rtol=1e-4)


def test_patches_are_row_major():
  pixels = jnp.arange(36.0).reshape(1, 6, 6, 1)
  got = vit.patchify(pixels, 3)[0, :, 0]
  np.testing.assert_array_equal(got, [0, 3, 18, 21])


@pytest.mark.parametrize(
  ("variant", "patch_size", "image_size", "patches", "millions"),
  [
    ("Ti", 16, 224, 196, 5.5),
    ("S", 16, 224, 196, 21.7),
    ("B", 16, 224, 196, 85.8),
    ("B", 14, 518, 1369, 86.6),
  ],
)
def test_variants_have_the_published_sizes(
  variant, patch_size, image_size, patches, millions
):
  config = vit.ViTConfig(image_size, patch_size, variant)
  assert config.grid[0] * config.grid[1] == patches
  params = jax.eval_shape(
    lambda: vit.ViT(config).init(
      jax.random.key(0), np.zeros((1, image_size, image_size), np.uint8)
    )
  )
  count = sum(leaf.size for leaf in jax.tree.leaves(params))
  # The papers round to a tenth of a million.
  np.testing.assert_allclose(count / 1e6, millions, atol=0.1)


@pytest.mark.parametrize(
  ("config", "millions"),
  [
    # As timm counts them, without the classifiers that it leaves out too.
    ({"patch_size": 14, "variant": "S", "image_size": 518}, 22.06),
    ({"patch_size": 14, "variant": "L", "image_size": 518}, 304.37),
    ({"variant": "B", "pooling": "map"}, 92.88),
    ({"variant": "L", "image_size": 256, "pooling": "map"}, 315.96),
    (
      {
        "patch_size": 14,
        "variant": "So400m",
        "image_size": 378,
        "pooling": "map",
      },
      428.23,
    ),
  ],
)
def test_dinov2_and_siglip_have_the_published_sizes(config, millions):
  dino = config.get("pooling") != "map"
  config = vit.ViTConfig(**config, class_token=dino, layer_scale=dino)
  count = sum(leaf.size for leaf in jax.tree.leaves(shapes(config)))
  # Two decimals are given: half a unit of the last, and float rounding.
  np.testing.assert_allclose(count / 1e6, millions, atol=0.006)


def test_bfloat16_keeps_float32_parameters():
  config = vit.ViTConfig(
    12,
    4,
    width=16,
    depth=1,
    num_heads=2,
    mlp_dim=24,
    class_token=True,
    num_registers=1,
    layer_scale=True,
    pooling="map",
    dtype="bfloat16",
  )
  image = np.zeros((1, 12, 12), np.uint8)
  variables = vit.ViT(config).init(jax.random.key(0), image)
  kinds = {leaf.dtype for leaf in jax.tree.leaves(variables)}
  assert kinds == {jnp.dtype("float32")}
  features = vit.ViT(config).apply(variables, image)
  assert features.patches.dtype == features.pooled.dtype == jnp.bfloat16


@pytest.mark.parametrize(
  ("options", "words"),
  [
    (
      {"image_size": 384, "patch_size": 14, "variant": "So400m"},
      "384 is not a multiple of image.patch_size 14, expected 378 or 392",
    ),
    ({"image_size": 9, "variant": "B"}, "of image.patch_size 16, expected 16"),
    ({"variant": "H"}, "image.variant is 'H', expected one of Ti, S, B"),
    ({}, "image.width is 0"),
    ({"variant": "B", "num_heads": 7}, "image.width 768 is not a multiple"),
    ({"variant": "B", "pooling": "max"}, "image.pooling is 'max'"),
    ({"variant": "B", "pooling": "class"}, "expected image.class_token True"),
    ({"variant": "B", "num_registers": -1}, "image.num_registers is -1"),
    ({"variant": "B", "tower": "cnn"}, "image.tower is 'cnn'"),
  ],
)
def test_bad_config(options, words):
  with pytest.raises(ValueError, match=words):
    vit.ViTConfig(**options)


def test_wrong_image_size_is_named():
  with pytest.raises(ValueError, match=r"\(1, 8, 8\), expected \(B, 12, 12\)"):
    vit.ViT(CONFIG).init(jax.random.key(0), np.zeros((1, 8, 8), np.uint8))


def stages(config, params, image):
  """Returns the input of every block and of the final norm, and the output.

  Class token and registers are among the former.
  """
  seen = []

  def spy(next_fun, args, kwargs, context):
    module = context.module
    if isinstance(module, vit.Block) or module.path == ("norm",):
      seen.append(args[0])
    return next_fun(*args, **kwargs)

  with nn.intercept_methods(spy):
    features = vit.ViT(config).apply({"params": params}, image)
  return seen, features


def shapes(config):
  side = config.image_size
  return jax.eval_shape(
    lambda: vit.ViT(config).init(
      jax.random.key(0), np.zeros((1, side, side), np.uint8)
    )
  )["params"]


def load(directory, shapes):
  """Returns the image tower's parameters, filled from files."""
  init = pretrained.InitConfig(image=str(directory))
  params, _ = pretrained.load(init, {"image_tower": shapes}, {})
  return params["image_tower"]


@pytest.mark.parametrize("size", [vit_reference.SIZE, vit_reference.LARGER])
@pytest.mark.parametrize("kind", vit_reference.CONFIGS)
def test_every_stage_equals_hugging_face(kind, size, tmp_path):
  vit_reference.write(kind, tmp_path)
  siglip = kind == "siglip_vision_model"
  config = pretrained.image_config(
    str(tmp_path),
    vit.ViTConfig(
      size,
      vit_reference.PATCH,
      "B",
      class_token=not siglip,
      pooling="map" if siglip else "class",
    ),
  )
  assert config.width == vit_reference.WIDTH
  np.testing.assert_allclose(config.mean, vit_reference.MEAN)
  params = load(tmp_path, shapes(config))
  image = vit_reference.image()[:, :size, :size]
  seen, features = stages(config, params, image)
  stored = np.load(vit_reference.PATH)
  assert len(seen) == vit_reference.DEPTH + 1
  # Of unit scale: standard deviations of 1.0 to 2.7.
  for i, stage in enumerate(seen):
    want = stored[f"{kind}/{size}/{i}"]
    np.testing.assert_allclose(stage, want, atol=1e-5, rtol=0)
  want = stored[f"{kind}/{size}/norm"]
  np.testing.assert_allclose(
    features.patches, want[:, -features.patches.shape[1] :], atol=1e-5, rtol=0
  )
  pooled = stored[f"{kind}/{size}/pooled"] if siglip else want[:, 0]
  np.testing.assert_allclose(features.pooled, pooled, atol=1e-5, rtol=0)


@pytest.mark.parametrize("pooling", ["mean", "class", "map"])
def test_extra_tokens_are_no_patches(pooling):
  config = dataclasses.replace(
    CONFIG, class_token=True, num_registers=2, layer_scale=True, pooling=pooling
  )
  image = np.zeros((2, 12, 12), np.uint8)
  variables = vit.ViT(config).init(jax.random.key(0), image)
  params = variables["params"]
  assert params["class_token"].shape == (1, 1, 16)
  assert params["registers"].shape == (1, 2, 16)
  assert params["position_embed"].shape == (1, 10, 16)
  np.testing.assert_array_equal(
    params["block_0"]["scale_mlp"], np.full(16, 1e-5, np.float32)
  )
  assert ("pool" in params) == (pooling == "map")
  features = vit.ViT(config).apply(variables, image)
  assert features.patches.shape == (2, 9, 16)
  if pooling == "mean":
    assert features.pooled is None
  else:
    assert features.pooled.shape == (2, 16)
