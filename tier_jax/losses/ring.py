"""The losses of `contrastive` without their (B, B) logits, for large batches.

Every device keeps its rows of the first embeddings, while those of the second
pass round all devices of the mesh: at any time a device holds (b, b) logits,
b = B / devices. Values and gradients are those of `contrastive`.

Gradients are a second round. Autodiff would keep the second embeddings of
every station, all B of them; a few numbers a row are enough.

`groups` says who is no negative of an image besides its own text: (B, k)
integers, j fits i where their rows are equal; None is no one.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, PartitionSpec

from tier_jax.losses import contrastive


def infonce(
  image_embeds: jax.Array,
  text_embeds: jax.Array,
  logit_scale: jax.Array,
  *,
  groups: jax.Array | None,
  mesh: Mesh,
) -> jax.Array:
  """Returns `contrastive.infonce`; both directions in one round.

  Args:
    image_embeds: (B, D) unit rows.
    text_embeds: (B, D) unit rows; row i belongs to image i.
    logit_scale: () log of the factor on the cosines.
    groups: see above.
    mesh: over whose devices B is split.

  Raises:
    ValueError: if the shapes do not fit, or the devices do not divide B.
  """
  groups = _groups(image_embeds, text_embeds, "text_embeds", groups, mesh)
  return _cross_entropy(
    mesh, (0.5, 0.5), image_embeds, text_embeds, logit_scale, groups
  )


def image_image(
  image_embeds: jax.Array,
  second_image_embeds: jax.Array,
  logit_scale: jax.Array,
  *,
  groups: jax.Array | None,
  mesh: Mesh,
) -> jax.Array:
  """Returns `contrastive.image_image`; arguments as in `infonce`."""
  groups = _groups(
    image_embeds, second_image_embeds, "second_image_embeds", groups, mesh
  )
  return _cross_entropy(
    mesh, (1.0, 0.0), image_embeds, second_image_embeds, logit_scale, groups
  )


def siglip(
  image_embeds: jax.Array,
  text_embeds: jax.Array,
  logit_scale: jax.Array,
  logit_bias: jax.Array,
  *,
  groups: jax.Array | None,
  mesh: Mesh,
) -> jax.Array:
  """Returns `contrastive.siglip`; arguments as in `infonce`.

  Source: the blocks are those of Zhai et al., "Sigmoid loss for language image
    pre-training", 2023, section 3.3.
  """
  groups = _groups(image_embeds, text_embeds, "text_embeds", groups, mesh)
  return _sigmoid(
    mesh, image_embeds, text_embeds, logit_scale, logit_bias, groups
  )


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _cross_entropy(mesh, weights, rows, columns, logit_scale, groups):
  """Weighted mean of the cross entropies of rows and of columns."""
  return _cross_entropy_forward(
    mesh, weights, rows, columns, logit_scale, groups
  )[0]


def _cross_entropy_forward(mesh, weights, rows, columns, logit_scale, groups):
  size = len(rows)
  # Of the logits so far: log sum exp, sum over positives, and their number.
  nothing = (jnp.full(size, -jnp.inf), jnp.zeros(size), jnp.zeros(size))

  def station(home, passing, logit_scale):
    rows, row_groups, of_rows = home
    columns, column_groups, of_columns = passing
    logits = _logits(rows, columns, logit_scale)
    positives = contrastive.same_group(row_groups, column_groups)

    def add(sums, axis):
      return (
        jnp.logaddexp(sums[0], jax.nn.logsumexp(logits, axis=axis)),
        sums[1] + jnp.sum(jnp.where(positives, logits, 0), axis=axis),
        sums[2] + jnp.sum(positives, axis=axis),
      )

    return (
      (rows, row_groups, add(of_rows, 1)),
      (columns, column_groups, add(of_columns, 0)),
    )

  home, passing = _round(
    mesh,
    station,
    (rows, groups, nothing),
    (columns, groups, nothing),
    logit_scale,
  )
  total = jnp.zeros(())
  for weight, (log_total, fitting, count) in zip(
    weights, (home[2], passing[2]), strict=True
  ):
    total += weight * jnp.mean(log_total - fitting / count)
  return total, (rows, columns, logit_scale, groups, home[2], passing[2])


def _cross_entropy_backward(mesh, weights, saved, cotangent):
  rows, columns, logit_scale, groups, of_rows, of_columns = saved

  def slopes(logits, positives, of_rows, of_columns):
    row_log_total, _, row_count = (x[:, None] for x in of_rows)
    column_log_total, _, column_count = (x[None] for x in of_columns)
    by_row = jnp.exp(logits - row_log_total) - positives / row_count
    by_column = jnp.exp(logits - column_log_total) - positives / column_count
    return weights[0] * by_row + weights[1] * by_column

  *gradients, _ = _gradients(
    mesh,
    slopes,
    (rows, groups, of_rows),
    (columns, groups, of_columns),
    (logit_scale, jnp.zeros(())),
    cotangent,
  )
  return (*gradients, None)


_cross_entropy.defvjp(_cross_entropy_forward, _cross_entropy_backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sigmoid(mesh, rows, columns, logit_scale, logit_bias, groups):
  return _sigmoid_forward(mesh, rows, columns, logit_scale, logit_bias, groups)[
    0
  ]


def _sigmoid_forward(mesh, rows, columns, logit_scale, logit_bias, groups):
  def station(home, passing, numbers):
    rows, row_groups, sums = home
    columns, column_groups = passing
    logits = _logits(rows, columns, *numbers)
    positives = contrastive.same_group(row_groups, column_groups)
    fits = jax.nn.log_sigmoid(jnp.where(positives, logits, -logits))
    return (rows, row_groups, sums - jnp.sum(fits, axis=1)), passing

  (_, _, sums), _ = _round(
    mesh,
    station,
    (rows, groups, jnp.zeros(len(rows))),
    (columns, groups),
    (logit_scale, logit_bias),
  )
  saved = (rows, columns, logit_scale, logit_bias, groups)
  return jnp.mean(sums), saved


def _sigmoid_backward(mesh, saved, cotangent):
  rows, columns, logit_scale, logit_bias, groups = saved

  def slopes(logits, positives, of_rows, of_columns):
    del of_rows, of_columns
    return jax.nn.sigmoid(logits) - positives

  gradients = _gradients(
    mesh,
    slopes,
    (rows, groups, ()),
    (columns, groups, ()),
    (logit_scale, logit_bias),
    cotangent,
  )
  return (*gradients, None)


_sigmoid.defvjp(_sigmoid_forward, _sigmoid_backward)


def _gradients(mesh, slopes, home, passing, numbers, cotangent):
  """Returns the gradients of rows, columns, logit_scale and logit_bias.

  Args:
    mesh: of the devices.
    slopes: (logits, positives, of_rows, of_columns) -> (b, b), B times the
      slope of the loss along each logit.
    home, passing: (rows or columns, their groups, what `slopes` wants).
    numbers: logit_scale and logit_bias.
    cotangent: () of the loss.
  """
  size = len(home[0])

  def station(home, passing, numbers):
    (rows, row_groups, of_rows), (row_sums, scale_sums, bias_sums) = home
    (columns, column_groups, of_columns), column_sums = passing
    logits = _logits(rows, columns, *numbers)
    positives = contrastive.same_group(row_groups, column_groups)
    slope = slopes(logits, positives, of_rows, of_columns)
    row_sums += jnp.matmul(slope, columns)
    column_sums += jnp.matmul(slope.T, rows)
    scale_sums += jnp.sum(slope * (logits - numbers[1]), axis=1)
    bias_sums += jnp.sum(slope, axis=1)
    return (home[0], (row_sums, scale_sums, bias_sums)), (
      passing[0],
      column_sums,
    )

  zeros = jnp.zeros(size)
  home, passing = _round(
    mesh,
    station,
    (home, (jnp.zeros_like(home[0]), zeros, zeros)),
    (passing, jnp.zeros_like(passing[0])),
    numbers,
  )
  row_sums, scale_sums, bias_sums = home[1]
  factor = jnp.exp(numbers[0]) * cotangent / size
  return (
    factor * row_sums,
    factor * passing[1],
    cotangent * jnp.mean(scale_sums),
    cotangent * jnp.mean(bias_sums),
  )


def _round(
  mesh: Mesh, station: Callable, home: Any, passing: Any, numbers: Any
) -> tuple[Any, Any]:
  """Returns home and passing after every block has been at every device.

  Args:
    mesh: a ring over all its devices.
    station: (home, passing, numbers) -> (home, passing), on one device.
    home: arrays (B, ...); a device keeps its rows.
    passing: arrays (B, ...); rows go to the next device after each station,
      and come home at the end.
    numbers: scalars, the same everywhere.
  """
  axes = mesh.axis_names
  order = [(i, (i + 1) % mesh.size) for i in range(mesh.size)]

  def on_device(home, passing, numbers):
    def step(carry, _):
      home, passing = station(*carry, numbers)
      passing = jax.tree.map(
        lambda x: jax.lax.ppermute(x, axes, order), passing
      )
      return (home, passing), None

    return jax.lax.scan(step, (home, passing), length=mesh.size)[0]

  split = PartitionSpec(axes)
  return jax.shard_map(
    on_device,
    mesh=mesh,
    in_specs=(split, split, PartitionSpec()),
    out_specs=split,
  )(home, passing, numbers)


def _logits(rows, columns, logit_scale, logit_bias=0.0):
  """(b, b) float32."""
  cosines = jnp.matmul(rows, columns.T, preferred_element_type=jnp.float32)
  return jnp.exp(logit_scale) * cosines + logit_bias


def _groups(rows, columns, columns_name, groups, mesh):
  """Checks what the public functions are given; no groups is one's own."""
  contrastive.check_embeds(rows, columns, columns_name)
  if len(rows) % mesh.size:
    raise ValueError(
      f"image_embeds {rows.shape}: expected a multiple of the {mesh.size} "
      "devices"
    )
  return jnp.arange(len(rows))[:, None] if groups is None else groups
