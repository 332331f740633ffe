"""The training loop."""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from clu import parameter_overview
from flax import traverse_util

from tier_jax import (
  checkpointing,
  compilation,
  metric_writer,
  optim,
  prefetch,
  sharding,
  train_step,
)
from tier_jax import config as config_lib
from tier_jax import program as program_lib
from tier_jax.data import loader, tokenizer
from tier_jax.evaluators import encoder, zero_shot
from tier_jax.evaluators.benchmarks import registry
from tier_jax.models import pretrained
from tier_jax.train_state import TrainState, params_digest

# A resumed run may differ in where and how often, not in what it computes.
_FREE = (
  *("data.data_dir", "data.num_", "train.eval_", "_every"),
  # But for rounding, and which units accumulation drops out.
  *("mesh.", "train.accumulate", "loss.ring"),
  *(".attention", ".remat", ".scan_layers"),
)
_AHEAD = 2  # batches on the devices before the steps ask for them


def train_and_evaluate(
  config: config_lib.Config, workdir: str | Path, *, dry_run: bool = False
) -> None:
  """Trains, or resumes, and evaluates on the way.

  Writes checkpoints, `config.json`, `metrics.jsonl` and TensorBoard files
  under `workdir`. The last line logged is the digest of the final parameters.
  A dry run checks config, data and weights, compiles the step, logs what it
  needs, and leaves `workdir` alone.

  Raises:
    ValueError: before any work, if the config does not fit the devices, the
      data or the checkpoint in `workdir`.
    FloatingPointError: if the loss is not finite.
  """
  workdir = Path(workdir)
  mesh = sharding.make_mesh(config.mesh)
  config, tokenize = resolve(config)
  program = program_lib.make(config, mesh)
  source = loader.PairSource(config.data, "train")
  evaluation = _Evaluation(config, tokenize, mesh)
  iterator = loader.train_iterator(
    source,
    config.data,
    config.augment,
    tokenize,
    image_size=config.model.image.image_size,
    batch_size=config.train.batch_size,
    seed=config.seed,
    second_view=config.loss.image_image_weight > 0,
    process_index=jax.process_index(),
    process_count=jax.process_count(),
  )

  seed_key = jax.random.key(config.seed)
  abstract = program.state
  loaded = pretrained.load(config.init, abstract.params, abstract.batch_stats)

  meta = {
    "config": config_lib.to_dict(config),
    "tokenizer": tokenize.to_json(),
    "data": source.digest,
  }
  if dry_run:
    _, summary = compilation.compile_step(program)
    logging.info("%s", summary.line())
    return
  checkpointing.remove_unfinished(workdir)
  checkpointer = checkpointing.Checkpointer(workdir)
  first_step = max(checkpointer.all_steps(), default=0)
  if not first_step:
    state = program.init(seed_key)
    if loaded[0]:
      state = _with_weights(state, *loaded)
      logging.info("%s filled from %s", ", ".join(loaded[0]), config.init)
  else:
    _check_same(checkpointer.restore_meta(first_step), meta)
    logging.info("resuming at step %d", first_step)
    state, position = checkpointer.restore(first_step, abstract)
    iterator.set_state(position)
  if jax.process_index() == 0:
    text = json.dumps(meta["config"], indent=2) + "\n"
    (workdir / "config.json").write_text(text, "utf-8")
  trainable, fixed = optim.partition(abstract.params, config.optim.frozen)
  logging.info(
    "%d parameters train, %d are frozen; mesh %s, %d pairs a step, steps %d "
    "to %d",
    parameter_overview.count_parameters(trainable),
    parameter_overview.count_parameters(fixed),
    dict(mesh.shape),
    config.train.batch_size,
    first_step,
    config.train.num_steps,
  )

  train_on, summary = compilation.compile_step(program)
  logging.info("%s", summary.line())
  diagnose = jax.jit(
    train_step.make_diagnose(
      program.model,
      config.loss,
      frozen=config.optim.frozen,
      accumulate=config.train.accumulate,
      mesh=mesh,
    )
  )
  writer = metric_writer.MetricWriter(workdir, first_step)
  progress = metric_writer.Progress(config.train.num_steps, first_step)
  batches = prefetch.Prefetcher(iterator, mesh, _AHEAD)
  every = config.train
  clock, clock_step, waited = time.monotonic(), first_step, 0.0
  for step in range(first_step + 1, config.train.num_steps + 1):
    batch = batches.next()
    last = step == config.train.num_steps
    scalars = {}
    if step % every.diagnostics_every == 0:
      norms = jax.device_get(diagnose(state.params, state.batch_stats, batch))
      scalars |= {f"train/{name}": value for name, value in norms.items()}
    state, metrics = train_on(state, batch, seed_key)
    if jax.default_backend() == "cpu":
      # Fake devices deadlock when many steps are queued.
      jax.block_until_ready(metrics["loss"])
    progress.step()
    if step == first_step + 1:
      # Leaves compilation out.
      clock, clock_step, waited = time.monotonic(), step, batches.waited

    save = step % every.checkpoint_every == 0 or last
    if step % every.log_every == 0 or save or scalars:
      metrics = jax.device_get(metrics)
      # Both: the loss is that before the update, the gradient makes the next.
      for name in ("loss", "grad_norm"):
        if not np.isfinite(metrics[name]):
          raise FloatingPointError(
            f"{name} is {metrics[name]} at step {step}, expected a finite one; "
            "the last checkpoint is sound"
          )
      scalars |= {f"train/{name}": value for name, value in metrics.items()}
      scalars["train/learning_rate"] = program.schedule(step - 1)
    if (step % every.log_every == 0 or last) and step > clock_step:
      seconds = (time.monotonic() - clock) / (step - clock_step)
      rate = every.batch_size / seconds
      scalars["train/pairs_per_second"] = rate
      # Of the time, what the host waited for batches; 0 is as it should be.
      share = (batches.waited - waited) / (time.monotonic() - clock)
      scalars["train/input_wait"] = share
      left = seconds * (every.num_steps - step)
      progress.log(step, float(metrics["loss"]), rate, left)
      clock, clock_step, waited = time.monotonic(), step, batches.waited
    if step % every.eval_every == 0 or last:
      paused = time.monotonic()
      scalars |= evaluation.run(program.model, state)
      clock += time.monotonic() - paused
    if scalars:
      writer.write(step, scalars)
    if save:
      checkpointer.save(step, state, batches.position(), meta)
  batches.close()
  progress.close()
  writer.close()
  checkpointer.close()
  if state.ema_params is not None:
    digest = params_digest(state.ema_params)
    logging.info("final moving average sha256:%s", digest)
  logging.info("final parameters sha256:%s", params_digest(state.params))


def resolve(
  config: config_lib.Config,
) -> tuple[config_lib.Config, tokenizer.Tokenizer]:
  """Returns the config with the towers' sizes filled in, and tokenizer.

  Sizes come from the pretrained weights where there are any; a vocabulary
  size of 0 becomes the tokenizer's.

  Raises:
    ValueError: if tokenizer, weights and config do not fit together.
  """
  tokenize = tokenizer.Tokenizer.from_name(
    config.data.tokenizer, config.data.max_length
  )
  model = pretrained.resolve(config.init, config.model)
  _check_vocabulary(config, tokenize)
  text = model.text
  if not text.vocab_size:
    text = dataclasses.replace(text, vocab_size=tokenize.vocab_size)
  if text.vocab_size < tokenize.vocab_size:
    raise ValueError(
      f"model.text.vocab_size {text.vocab_size} is less than the "
      f"{tokenize.vocab_size} tokens of data.tokenizer "
      f"{config.data.tokenizer!r}"
    )
  if text.max_position_embeddings < config.data.max_length:
    raise ValueError(
      f"data.max_length {config.data.max_length} exceeds "
      f"model.text.max_position_embeddings {text.max_position_embeddings}"
    )
  model = dataclasses.replace(model, text=text)
  return dataclasses.replace(config, model=model), tokenize


def _check_vocabulary(config, tokenize) -> None:
  """Warns, or raises, if pretrained text weights are of other tokens."""
  name, text = config.data.tokenizer, config.init.text
  if not text or name == text:
    return

  def vocabulary(tokenize):
    return json.loads(tokenize.to_json())["model"].get("vocab")

  try:
    own = tokenizer.Tokenizer.from_name(text, config.data.max_length)
    if vocabulary(own) == vocabulary(tokenize):
      return
  except ValueError:
    pass  # weights without a tokenizer
  if name == "bundled":
    raise ValueError(
      f"data.tokenizer is 'bundled', but init.text {text!r} was trained with "
      "another vocabulary, expected its tokenizer"
    )
  logging.warning(
    "data.tokenizer %r may number tokens otherwise than init.text %r: then its "
    "embeddings stand for other words",
    name,
    text,
  )


class _Evaluation:
  """Validation loss and zero-shot score, set up before training starts."""

  def __init__(self, config, tokenize, mesh):
    self._config, self._tokenize, self._mesh = config, tokenize, mesh
    self._source = loader.PairSource(config.data, "validate")
    size = min(config.train.eval_batch_size, len(self._source))
    self._batch_size = size // mesh.size * mesh.size
    if not self._batch_size:
      raise ValueError(
        f"{len(self._source)} validation pairs (train.eval_batch_size "
        f"{config.train.eval_batch_size}) do not fill {mesh.size} devices"
      )
    self._zero_shot = None
    name = config.train.eval_benchmark
    if name:
      benchmark = dataclasses.replace(registry.find(name), split="validate")
      directory = Path(config.data.data_dir) / benchmark.dataset
      if directory.is_dir():
        self._zero_shot = zero_shot.ZeroShot(benchmark, directory)
      else:
        logging.info("no zero-shot validation: %s is not there", directory)
    self._loss = None
    self._encoder = None

  def run(self, model, state: TrainState) -> dict[str, Any]:
    """Returns the scalars of an evaluation, named valid/...

    They are the moving average's where there is one.
    """
    variables = state.eval_variables
    if self._loss is None:

      @jax.jit
      def loss(variables, batch):
        return train_step.loss_fn(
          **variables,
          batch=batch,
          key=None,
          model=model,
          config=self._config.loss,
          mesh=self._mesh,
        )[1][0]

      self._loss = loss
    rows = [
      jax.device_get(
        self._loss(variables, sharding.put_batch(batch, self._mesh))
      )
      for batch in loader.eval_batches(
        self._source,
        self._config.data,
        self._tokenize,
        image_size=self._config.model.image.image_size,
        batch_size=self._batch_size,
        process_index=jax.process_index(),
        process_count=jax.process_count(),
      )
    ]
    scalars = {
      f"valid/{name}": float(np.mean([row[name] for row in rows]))
      for name in train_step.TERMS
    }
    if self._zero_shot is not None:
      if self._encoder is None:
        self._encoder = encoder.Encoder(
          model, variables, self._tokenize, self._mesh
        )
      self._encoder.variables = variables
      summary = zero_shot.summarise(
        self._zero_shot.run(self._encoder), num_resamples=0
      )
      name = self._config.train.eval_benchmark
      macro = summary["macro_auroc"]["value"]
      if macro is not None:
        scalars[f"valid/{name}/macro_auroc"] = macro
    logging.info(
      "validation: %s",
      ", ".join(f"{name} {value:.4f}" for name, value in scalars.items()),
    )
    return scalars


def _with_weights(state, params, batch_stats) -> TrainState:
  def fill(old, loaded):
    placed = {
      name: jax.tree.map(
        lambda new, was: jax.device_put(new, was.sharding), tree, old[name]
      )
      for name, tree in loaded.items()
    }
    return {**old, **placed}

  params = fill(state.params, params)
  batch_stats = fill(state.batch_stats, batch_stats)
  ema_params = None
  if state.ema_params is not None:
    ema_params = jax.tree.map(jnp.copy, params)  # both trees are donated
  return state.replace(
    params=params, batch_stats=batch_stats, ema_params=ema_params
  )


def _check_same(saved: dict, meta: dict) -> None:
  """Raises ValueError if the checkpoint belongs to another experiment."""
  for name in ("data", "tokenizer"):
    if saved[name] != meta[name]:
      raise ValueError(
        f"workdir holds a checkpoint of other {name}, expected a fresh "
        "--workdir or what it was trained with"
      )
  old, new = (
    traverse_util.flatten_dict(config, sep=".")
    for config in (saved["config"], json.loads(json.dumps(meta["config"])))
  )
  changed = [
    f"{name} {old.get(name)!r} -> {new.get(name)!r}"
    for name in sorted(old.keys() | new.keys())
    if old.get(name) != new.get(name)
    and not name.startswith(_FREE)
    and not name.endswith(_FREE)
  ]
  if changed:
    raise ValueError(
      "workdir holds the checkpoint of another config, expected a fresh "
      "--workdir or the same config; changed: " + "; ".join(changed)
    )
