"""The ring against the plain losses, which are tested against float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tier_jax import sharding
from tier_jax.losses import contrastive, ring

SIZE, DIM = 32, 8
NUMBERS = {
  "infonce": (2.0,),
  "image_image": (2.0,),
  "siglip": (1.5, -4.0),
}


def embeds(size=SIZE):
  x = np.random.default_rng(0).normal(size=(2, size, DIM))
  return (x / np.linalg.norm(x, axis=-1, keepdims=True)).astype(np.float32)


def make_mesh(data, fsdp):
  return sharding.make_mesh(
    sharding.MeshConfig(data, fsdp), jax.devices()[: data * fsdp]
  )


@pytest.mark.parametrize(
  ("name", "mesh", "several"),
  [
    ("infonce", (2, 4), False),
    ("infonce", (4, 1), True),
    ("siglip", (2, 2), True),
    ("image_image", (1, 2), True),
  ],
)
def test_values_and_gradients_are_those_of_the_plain_losses(
  name, mesh, several
):
  mesh = make_mesh(*mesh)
  # Partners far from the diagonal, so that they meet late on the way round.
  groups = positives = None
  if several:
    i = np.arange(SIZE)
    groups = jnp.asarray(np.stack([i % 4, i // (SIZE // 2)], axis=1))
    positives = contrastive.same_group(groups, groups)
    assert positives.sum() > 3 * SIZE
  inputs = (*embeds(), *map(np.float32, NUMBERS[name]))
  placed = [
    jax.device_put(x, sharding.batch_sharding(mesh)) for x in inputs[:2]
  ]

  def compute(module, inputs, **negatives):
    loss = functools.partial(getattr(module, name), **negatives)
    # Three times the loss: the gradient of what follows comes in.
    return jax.jit(
      jax.value_and_grad(
        lambda *args: 3 * loss(*args), tuple(range(len(inputs)))
      )
    )(*inputs)

  want, want_grads = compute(contrastive, inputs, positives=positives)
  got, grads = compute(ring, (*placed, *inputs[2:]), groups=groups, mesh=mesh)
  np.testing.assert_allclose(got, want, rtol=1e-6)
  for grad, want_grad in zip(grads, want_grads, strict=True):
    difference = np.linalg.norm(np.float64(grad) - np.float64(want_grad))
    assert difference < 1e-6 * np.linalg.norm(want_grad)


def temporary_bytes(module, size, devices, **negatives):
  """Of a device, with gradients."""
  mesh = make_mesh(devices, 1)
  if module is ring:
    negatives["mesh"] = mesh
  loss = functools.partial(module.infonce, **negatives)
  rows = jax.ShapeDtypeStruct(
    (size, DIM), np.float32, sharding=sharding.batch_sharding(mesh)
  )
  scale = jax.ShapeDtypeStruct((), np.float32)
  compiled = jax.jit(jax.grad(loss, (0, 1))).lower(rows, rows, scale).compile()
  return compiled.memory_analysis().temp_size_in_bytes


def test_memory_grows_with_the_block_alone():
  block = 4 * 256**2  # bytes of the logits of 256 pairs a device
  plain = temporary_bytes(contrastive, 2048, 8)
  around = temporary_bytes(ring, 2048, 8, groups=None)
  assert plain > 8 * block  # a row of blocks, at the least
  assert around < 5 * block
  # As many pairs a device on fewer devices: the same.
  fewer = temporary_bytes(ring, 512, 2, groups=None)
  assert abs(around - fewer) < 0.02 * fewer


def test_bad_shapes_name_both():
  mesh = make_mesh(4, 1)
  scale = jnp.array(0.0)
  with pytest.raises(ValueError, match=r"\(8, 8\) and text_embeds \(4, 8\)"):
    ring.infonce(jnp.eye(8), jnp.eye(8)[:4], scale, groups=None, mesh=mesh)
  with pytest.raises(ValueError, match=r"\(6, 6\): .* multiple of the 4 dev"):
    ring.siglip(jnp.eye(6), jnp.eye(6), scale, scale, groups=None, mesh=mesh)
