"""Self-attention: XLA's own, or fused, which keeps scores on the chip.

Fused is cuDNN's on GPUs, and on TPUs the kernel below. Reports and images are
short: all scores of a head, (T, T), fit a TPU's vector memory, so that it takes
one example at a time, head after head, and neither scores nor probabilities
ever reach the main memory. The backward pass computes them again. XLA's own
program writes them out, in several layouts.
"""

import contextlib
import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import tpu as pltpu
from jax.sharding import PartitionSpec

KINDS = ("xla", "fused")

# Instead of -inf, of which a row with nothing left would make NaN.
_LOWEST = float(jnp.finfo(jnp.float32).min)
_DEFAULT_MEMORY = 2**24  # bytes of vector memory that XLA gives a kernel
_SQUARES = 8  # (T, T) float32 arrays that a head has at once, at most
_ROWS = (((1,), (1,)), ((), ()))  # a @ b.T
_COLUMNS = (((0,), (0,)), ((), ()))  # a.T @ b


def check_kind(tower: str, value: str) -> None:
  """Raises ValueError unless `value` is one of `KINDS`."""
  if value not in KINDS:
    raise ValueError(f"{tower}.attention is {value!r}, expected one of {KINDS}")


@contextlib.contextmanager
def kernels_on(mesh: jax.sharding.Mesh) -> Iterator[None]:
  """While a step is traced in it, kind "fused" is the kernel, if on TPUs.

  Args:
    mesh: where the step runs; the batch is split over all of its axes.
  """
  if mesh.devices.flat[0].platform == "tpu":
    with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
      yield
  else:
    yield


def attend(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  num_heads: int,
  *,
  mask: jax.Array | None = None,
  kind: str = "xla",
) -> jax.Array:
  """Returns (B, T, W): for each head softmax(q k / sqrt(W / H)) v.

  Args:
    query, key, value: (B, T, W), heads side by side in W.
    num_heads: H, divides W.
    mask: (B, T) bool, True on the keys to look at; None is all.
    kind: "fused" is the kernel inside `kernels_on` TPUs, cuDNN's on GPUs, in
      bfloat16 (with a mask T must be even), and elsewhere "xla".
  """
  mesh = jax.sharding.get_abstract_mesh()
  if kind == "fused" and not mesh.empty:
    if mask is None:
      mask = jnp.ones(query.shape[:2], bool)
    # One row of an example, as the kernel's blocks want it.
    mask = mask.astype(jnp.float32)[:, None]  # (B, 1, T)
    # XLA cannot split a kernel by itself; examples do not see one another.
    split = PartitionSpec(mesh.axis_names)
    return jax.shard_map(
      functools.partial(fused, num_heads=num_heads),
      in_specs=split,
      out_specs=split,
      check_vma=False,
    )(query, key, value, mask)

  def heads(x):
    return x.reshape(*x.shape[:2], num_heads, -1)

  if mask is not None:
    mask = mask[:, None, None]  # (B, 1, 1, T)
  cudnn = kind == "fused" and jax.default_backend() == "gpu"
  y = jax.nn.dot_product_attention(
    heads(query),
    heads(key),
    heads(value),
    mask=mask,
    implementation="cudnn" if cudnn and query.dtype == jnp.bfloat16 else None,
  )
  return y.reshape(query.shape)


def fused(
  query: jax.Array,
  key: jax.Array,
  value: jax.Array,
  mask: jax.Array,
  num_heads: int,
  interpret: bool = False,
) -> jax.Array:
  """Returns what `attend` does, by the kernel, on one device.

  Scores, softmax and its sums are float32, products take the inputs' type and
  add up in float32.

  Args:
    query, key, value: (B, T, W).
    mask: (B, 1, T) float32, 0 on keys that nobody looks at.
    num_heads: H.
    interpret: run it step by step, for tests without a TPU.
  """
  return _fused(num_heads, interpret, query, key, value, mask)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _fused(num_heads, interpret, *inputs):
  return _call(_forward, 1, num_heads, interpret, *inputs)[0]


def _fused_forward(num_heads, interpret, *inputs):
  return _fused(num_heads, interpret, *inputs), inputs


def _fused_backward(num_heads, interpret, inputs, gradient):
  grads = _call(_backward, 3, num_heads, interpret, *inputs, gradient)
  return *grads, None


_fused.defvjp(_fused_forward, _fused_backward)


def _call(kernel, num_outputs, num_heads, interpret, *inputs):
  batch, length, width = inputs[0].shape

  def block(x):
    return pl.BlockSpec((1, *x.shape[1:]), lambda b: (b, 0, 0))

  output = jax.ShapeDtypeStruct((batch, length, width), inputs[0].dtype)
  # The next example's blocks come while this one is worked on.
  memory = 2 * (len(inputs) + num_outputs) * inputs[0].nbytes // batch
  memory += _SQUARES * 4 * length**2
  return pl.pallas_call(
    functools.partial(kernel, width // num_heads),
    grid=(batch,),
    in_specs=[block(x) for x in inputs],
    out_specs=[block(output)] * num_outputs,
    out_shape=[output] * num_outputs,
    compiler_params=pltpu.CompilerParams(
      dimension_semantics=("parallel",),
      vmem_limit_bytes=max(memory, _DEFAULT_MEMORY),
    ),
    interpret=interpret,
  )(*inputs)


def _forward(head_dim, query, key, value, mask, out):
  for at in _heads(head_dim, query):
    probs = _probabilities(query[0, :, at], key[0, :, at], mask[0])
    out[0, :, at] = _dot(probs, value[0, :, at]).astype(out.dtype)


def _backward(head_dim, query, key, value, mask, gradient, dq, dk, dv):
  for at in _heads(head_dim, query):
    q, k, v, g = (x[0, :, at] for x in (query, key, value, gradient))
    probs = _probabilities(q, k, mask[0])
    dprobs = _dot(g, v, _ROWS)
    change = dprobs - jnp.sum(probs * dprobs, axis=1, keepdims=True)
    dscores = probs * change * head_dim**-0.5
    dq[0, :, at] = _dot(dscores, k).astype(dq.dtype)
    dk[0, :, at] = _dot(dscores, q, _COLUMNS).astype(dk.dtype)
    dv[0, :, at] = _dot(probs, g, _COLUMNS).astype(dv.dtype)


def _heads(head_dim, x):
  """The columns of each head."""
  return [
    slice(start, start + head_dim) for start in range(0, x.shape[2], head_dim)
  ]


def _probabilities(query, key, mask):
  """(T, T) float32; rows are queries, `mask` (1, T) is of the keys."""
  scores = _dot(query, key, _ROWS) * query.shape[1] ** -0.5
  scores = jnp.where(mask != 0, scores, _LOWEST)
  scores = jnp.exp(scores - jnp.max(scores, axis=1, keepdims=True))
  return scores * (1 / jnp.sum(scores, axis=1, keepdims=True))


def _dot(left, right, dimensions=(((1,), (0,)), ((), ()))):
  return jax.lax.dot_general(
    left.astype(right.dtype),
    right,
    dimensions,
    preferred_element_type=jnp.float32,
  )
