"""What leaves the device, on a made-up model; others test the true one."""

import types

import jax
import jax.numpy as jnp
import numpy as np

from tier_jax import sharding
from tier_jax.evaluators import encoder


class _Model:
  """Each patch is a row of the image."""

  config = types.SimpleNamespace(
    image=types.SimpleNamespace(image_size=8, grid=(8, 1)),
    merge_wordpieces=False,
  )

  def apply(self, variables, images, method):
    assert method == "encode_image"
    patches = jnp.sin(images.astype(jnp.float32) * variables["scale"])
    return patches.mean(axis=1), patches


def test_vectors_are_the_same_bits_and_no_patch_leaves_the_device(monkeypatch):
  embed = encoder.Encoder(
    _Model(),
    {"scale": np.float32(0.3)},
    None,
    sharding.make_mesh(sharding.MeshConfig()),
    batch_size=8,
  )
  rng = np.random.default_rng(0)
  images = rng.integers(256, size=(11, 8, 8), dtype=np.uint8)  # 8 and then 3
  left = []
  get = jax.device_get

  def record(arrays):
    left.append([array.shape for array in arrays])
    return get(arrays)

  monkeypatch.setattr(jax, "device_get", record)
  whole, patches = embed.embed_images(images)
  assert left == [[(8, 8), (8, 8, 8)]] * 2
  assert patches.shape == (11, 8, 8)
  left.clear()
  np.testing.assert_array_equal(embed.embed_image_vectors(images), whole)
  assert left == [[(8, 8)]] * 2
