"""One update, and what is measured on the way."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import traverse_util

from tier_jax import optim
from tier_jax.losses import objective
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState

MAX_LOGIT_SCALE = math.log(100)  # as CLIP; unclamped it can blow up

Batch = Mapping[str, jax.Array]
TERMS = ("contrastive_loss", "token_entropy", "patch_entropy")


def loss_fn(
  params: Any,
  batch_stats: Any,
  batch: Batch,
  key: jax.Array | None,
  model: dual_encoder.DualEncoder,
  config: objective.LossConfig,
  *,
  accumulate: int = 1,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, tuple[dict[str, jax.Array], Any]]:
  """Returns the total loss, and its parts with the new `batch_stats`.

  With a key the model trains: dropout is on, and batch norms take the
  statistics of the batch.

  With `accumulate` the towers see that many parts of the batch in turn, and
  the loss, of which every pair is a negative of every other, all of their
  embeddings: the numbers are those of the whole batch. The gradient encodes
  each part again, with the same dropout, so that the activations of one part
  alone are held at a time; beside them the embeddings of the whole batch, with
  those of tokens and patches. Batch norms would need the whole batch at once.

  Args:
    params, batch_stats: the model's.
    batch: as `loader.train_iterator` gives it.
    key: of dropout, or None.
    model: the dual encoder.
    config: of the loss.
    accumulate: parts; divides B. Batch statistics stay as they are if not 1.
    mesh: over whose devices the batch is split; `config.ring` needs it.

  Raises:
    ValueError: if it trains on an image-image loss without a second view.

  Source of the accumulation: Gao et al., "Scaling deep contrastive learning
    batch size under memory limited setup" (GradCache), 2021.
  """
  output, batch_stats = _encode(
    params, batch_stats, batch, key, model, config, accumulate, mesh
  )
  total, metrics = objective.compute_losses(output, batch, config, mesh)
  return total, (metrics, batch_stats)


def _encode(
  params, batch_stats, batch, key, model, config, accumulate, mesh
) -> tuple[dual_encoder.DualEncoderOutput, Any]:
  """Returns the whole batch's output and new statistics; see `loss_fn`."""
  training = key is not None
  if training and config.image_image_weight and "second_image" not in batch:
    raise ValueError(
      f"loss.image_image_weight is {config.image_image_weight}, but the batch "
      "has no second_image, expected train_iterator(second_view=True)"
    )
  if mesh is not None and mesh.shape["fsdp"] > 1:
    # Each device takes the whole of what it holds a part of. Left to itself
    # the compiler may part the activations instead, which grow with the batch.
    whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
    params = jax.lax.with_sharding_constraint(params, whole)

  def encode(batch, key, mutable):
    return model.apply(
      {"params": params, "batch_stats": batch_stats},
      batch["image"],
      batch["input_ids"],
      batch["attention_mask"],
      batch["word_starts"],
      batch.get("second_image"),
      deterministic=not training,
      rngs={"dropout": key} if training else None,
      mutable=mutable,
    )

  if accumulate == 1:
    output, changed = encode(batch, key, ["batch_stats"] if training else [])
    batch_stats = changed.get("batch_stats", batch_stats)
  else:
    output = _encode_parts(encode, batch, key, accumulate)
  return output, batch_stats


def _encode_parts(encode, batch, key, accumulate):
  """Returns the output of the whole batch, encoded part by part."""

  # Every accumulate-th pair, so that each device keeps what it has.
  def split(x):
    return x.reshape(-1, accumulate, *x.shape[1:]).swapaxes(0, 1)

  def join(x):
    if x.ndim == 1:  # a scalar, the same from each part
      return x[0]
    return x.swapaxes(0, 1).reshape(-1, *x.shape[2:])

  @jax.checkpoint  # what the backward pass needs is computed again there
  def encode_part(part):
    index, batch = part
    part_key = None if key is None else jax.random.fold_in(key, index)
    return encode(batch, part_key, [])[0]

  parts = jax.lax.map(
    encode_part, (jnp.arange(accumulate), jax.tree.map(split, dict(batch)))
  )
  return jax.tree.map(join, parts)


def make_train_step(
  model: dual_encoder.DualEncoder,
  optimizer: optax.GradientTransformation,
  config: objective.LossConfig,
  *,
  frozen: tuple[str, ...] = (),
  ema_decay: float = 0.0,
  accumulate: int = 1,
  mesh: jax.sharding.Mesh | None = None,
) -> Callable[
  [TrainState, Batch, jax.Array], tuple[TrainState, dict[str, Any]]
]:
  """Returns step(state, batch, seed_key) -> (state, metrics), to be jitted.

  A step that is not finite leaves parameters, statistics, moments and moving
  average as they were, bit for bit: `step` counts it, but the optimiser's own
  count, and with it the schedule, does not.

  Metrics belong to the state before the update. All are () but "health", a
  dict that says whether the step was kept, and if not what is to blame:

  - "finite": () bool, whether the loss and every gradient are; a gradient so
    large that its square overflows counts as not finite.
  - "examples": (B,) bool, whether all embeddings of a pair are finite: image,
    text, patches and tokens, and those of a second view.
  - "records": (B,) int32, the batch's `record`.
  - "grad_norms": module -> () norm of its gradient, of what trains. Modules are
    the parts of the model, and of towers their blocks, layers and embeddings,
    such as "image_tower/block_3" or "text_head".

  On a mesh all of it is replicated, so that every process reads the same.

  Args:
    model: to be trained.
    optimizer: of the trainable part of the parameters.
    config: of the loss.
    frozen, ema_decay: as in `optim.OptimConfig`.
    accumulate, mesh: as in `loss_fn`.
  """

  def train_step(state, batch, seed_key):
    # Folded from the step, so that resuming needs no saved key.
    key = jax.random.fold_in(seed_key, state.step)
    trainable, fixed = optim.partition(state.params, frozen)

    # Only what trains is differentiated: no backward pass goes further down.
    def loss(trainable):
      params = optim.merge(trainable, fixed)
      output, batch_stats = _encode(
        params, state.batch_stats, batch, key, model, config, accumulate, mesh
      )
      total, metrics = objective.compute_losses(output, batch, config, mesh)
      return total, (metrics, batch_stats, _finite_pairs(output))

    grads, (metrics, batch_stats, examples) = jax.grad(loss, has_aux=True)(
      trainable
    )
    metrics["grad_norm"], grad_norms = _norms(grads)
    finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["grad_norm"])
    health = {
      "finite": finite,
      "examples": examples,
      "records": batch["record"],
      "grad_norms": grad_norms,
    }
    if mesh is not None:
      whole = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
      health = jax.lax.with_sharding_constraint(health, whole)
    metrics["health"] = health
    updates, opt_state = optimizer.update(grads, state.opt_state, trainable)
    trainable: Any = optax.apply_updates(trainable, updates)
    if "logit_scale" in trainable:
      trainable["logit_scale"] = jnp.minimum(
        trainable["logit_scale"], MAX_LOGIT_SCALE
      )
    params = optim.merge(trainable, fixed)
    step = state.step + 1
    ema_params = None
    if ema_decay:
      ema_params = optim.update_ema(state.ema_params, params, step, ema_decay)
    new = TrainState(step, params, batch_stats, opt_state, ema_params)
    # Always, whatever comes of it: the select costs nothing inside the update,
    # and what is done about a fault does not change how others are rounded.
    old = state.replace(step=step)
    new = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, old)
    return new, metrics

  return train_step


def _finite_pairs(output: dual_encoder.DualEncoderOutput) -> jax.Array:
  """Returns (B,) bool, whether every embedding of a pair is finite."""
  embeds = (
    *(output.image_embeds, output.text_embeds),
    *(output.patch_embeds, output.token_embeds),
    *(
      [] if output.second_image_embeds is None else [output.second_image_embeds]
    ),
  )
  finite = [jnp.isfinite(x).all(tuple(range(1, x.ndim))) for x in embeds]
  return jnp.stack(finite).all(0)


def _norms(grads) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the global norm, and that of each module; see `make_train_step`."""
  squares = jax.tree.map(lambda x: optax.tree.norm(x, squared=True), grads)
  modules = {}
  for path, square in traverse_util.flatten_dict(squares).items():
    depth = 2 if path[0].endswith("_tower") else 1
    name = "/".join(path[:depth])
    modules[name] = modules.get(name, 0.0) + square
  norms = {name: jnp.sqrt(square) for name, square in modules.items()}
  return jnp.sqrt(optax.tree.sum(squares)), norms


def make_diagnose(
  model: dual_encoder.DualEncoder,
  config: objective.LossConfig,
  *,
  frozen: tuple[str, ...] = (),
  accumulate: int = 1,
  mesh: jax.sharding.Mesh | None = None,
) -> Callable[[Any, Any, Batch], dict[str, jax.Array]]:
  """Returns diagnose(params, batch_stats, batch): gradient norms, by name.

  By loss term and tower: three backward passes, for now and then and not for
  every step. The model is as in evaluation. The norms are of the entropies
  before their weights, of the contrastive terms' weighted sum, and of what
  trains: 0 where nothing of a tower and its head does.

  Args:
    model, config, frozen, accumulate, mesh: as in `make_train_step`.
  """

  def diagnose(params, batch_stats, batch):
    trainable, fixed = optim.partition(params, frozen)

    def terms(trainable):
      params = optim.merge(trainable, fixed)
      _, (metrics, _) = loss_fn(
        params,
        batch_stats,
        batch,
        None,
        model,
        config,
        accumulate=accumulate,
        mesh=mesh,
      )
      return jnp.stack([metrics[name] for name in TERMS])

    _, pull_back = jax.vjp(terms, trainable)
    norms = {}
    for i, term in enumerate(TERMS):
      (grads,) = pull_back(jnp.zeros(len(TERMS)).at[i].set(1))
      for tower in ("image", "text"):
        names = (f"{tower}_tower", f"{tower}_head")
        part = [grads[name] for name in names if name in grads]
        norms[f"grad_norm/{term}/{tower}"] = optax.tree.norm(part)
    return norms

  return diagnose
