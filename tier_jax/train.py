"""The training loop."""

import contextlib
import dataclasses
import json
import os
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from clu import parameter_overview
from jax.experimental import multihost_utils

from tier_jax import (
  checkpointing,
  checksums,
  compilation,
  durations,
  experiment,
  faults,
  features,
  metric_writer,
  optim,
  preemption,
  prefetch,
  run_record,
  sharding,
  telemetry,
  train_step,
  validation,
  watchdog,
)
from tier_jax import config as config_lib
from tier_jax import program as program_lib
from tier_jax.data import loader, pair_source
from tier_jax.models import pretrained
from tier_jax.train_state import params_digest

_AHEAD = 2  # batches on the devices before the steps ask for them


class _PreemptedError(Exception):
  """A notice of preemption came during an evaluation."""


def train_and_evaluate(
  config: config_lib.Config,
  workdir: str | Path,
  *,
  dry_run: bool = False,
  profile_steps: tuple[int, int] | None = None,
) -> None:
  """Trains, or resumes, and evaluates on the way.

  Writes checkpoints, `config.json`, `run.json`, `metrics.jsonl` and TensorBoard
  files under `workdir`. The last line logged is the digest of the final
  parameters. A dry run checks config, data, weights and what `workdir` holds,
  compiles the step, logs what it needs, and writes nothing.

  Args:
    config: as `config.build` returns it.
    workdir: of the training.
    dry_run: stop before step one.
    profile_steps: the first step to trace into `workdir/profile`, and the one
      after the last.

  Raises:
    ValueError: before any work, if the config does not fit the devices, the
      data or the checkpoint in `workdir`.
    FloatingPointError: if loss or gradients are not finite, and the config says
      to abort or it has happened too often.
    OSError: if something cannot be written.
    SystemExit: with `preemption.EXIT_CODE`, once preempted and saved.
  """
  _Training(config, Path(workdir), profile_steps).run(dry_run)


class _Training:
  """One start of a training: what it works with, and the loop.

  Attributes that change on the way:
    state, step: of the model, after so many updates.
    progress: what a checkpoint says beside them. "best": see
      `validation.better`; "faults": how many were skipped or rewound from;
      "pending": scalars of the step, if preempted before its evaluation.
  """

  def __init__(self, config, workdir, profile_steps):
    """Finds and checks everything; compiles and writes nothing."""
    self.workdir, self.profile_steps = workdir, profile_steps
    self.mesh = sharding.make_mesh(config.mesh)
    config, tokenize = experiment.resolve(config)
    self.source = pair_source.PairSource(config.data, "train")
    self.config = config = durations.resolve(config, len(self.source))
    self.program = program_lib.make(config, self.mesh)
    self.validation = validation.Validation(
      config, self.program.model, tokenize, self.mesh, self._before_batch
    )
    self.tokenize = tokenize
    self.iterator = self._iterate(None)
    self.seed_key = jax.random.key(config.seed)
    self.meta = {
      "config": config_lib.to_dict(config),
      "tokenizer": tokenize.to_json(),
      "data": self.source.digest,
      "rendering": dataclasses.asdict(experiment.find_rendering(config.data)),
    }
    self.progress: dict[str, Any] = {"best": None, "faults": 0, "pending": None}
    self.saved: int | None = None
    self.saved_at = time.monotonic()

  def run(self, dry_run: bool) -> None:
    """Trains, unless dry, from where `workdir` is to the last step."""
    if dry_run:
      self._check_dry()
      return
    with contextlib.ExitStack() as stack:
      self.stack = stack
      self.notice = self._closing(preemption.Notice())
      self.checkpointer = checkpointing.Checkpointer(self.workdir)
      if self.config.data.feature_cache:
        cached = features.read(self.program, self.source)
        self.iterator = self._iterate(cached)
      self._start()
      self._compile()
      train = self.config.train
      # The row of a pending evaluation is about to be written, perhaps again.
      done = self.step - (self.progress["pending"] is not None)
      self.writer = self._closing(
        metric_writer.MetricWriter(self.workdir, done)
      )
      self.bar = self._closing(
        metric_writer.Progress(train.num_steps, self.step)
      )
      self.guard = faults.Guard(
        train.on_nonfinite,
        train.max_faults,
        self.workdir,
        self.source,
        self.progress["faults"],
      )
      self.batches = prefetch.Prefetcher(self.iterator, self.mesh, _AHEAD)
      stack.callback(lambda: self.batches.close())  # rewinding makes another
      self.dog = self._closing(
        watchdog.Watchdog(train.watchdog_minutes, self.workdir)
      )
      self.profile = self._closing(
        telemetry.Profile(self.workdir, self.profile_steps)
      )
      try:
        self._loop()
      except Exception as error:
        # What is being saved is finished first, unless another process may not
        # know of the error and would not take part.
        if jax.process_count() == 1 or isinstance(error, FloatingPointError):
          self._closing(self.checkpointer)
        raise
      self.dog.rest()
      self.checkpointer.close()
    if self.state.ema_params is not None:
      digest = params_digest(self.state.ema_params)
      logging.info("final moving average sha256:%s", digest)
    digest = params_digest(self.state.params)
    logging.info("final parameters sha256:%s", digest)

  def _closing(self, what):
    """Returns `what`, to be closed at the end, whatever that is.

    An error then is told, but must not take the place of what ended the run.
    """

    def close():
      try:
        what.close()
      except Exception as error:
        logging.warning("%s did not close: %s", type(what).__name__, error)

    self.stack.callback(close)
    return what

  def _compile(self):
    self.compiled, summary = compilation.compile_step(self.program)
    logging.info("%s", summary.line())
    self.diagnose = jax.jit(
      train_step.make_diagnose(
        self.program.model,
        self.config.loss,
        frozen=self.config.optim.frozen,
        accumulate=self.config.train.accumulate,
        mesh=self.mesh,
      )
    )
    self.meter = telemetry.Meter(
      self.config.train.batch_size,
      summary.useful_flops * self.mesh.size,
      self.mesh.size,
    )

  def _iterate(self, cached) -> loader.TrainIterator:
    config = self.config
    return loader.train_iterator(
      self.source,
      config.data,
      config.augment,
      self.tokenize,
      image_size=config.model.image.image_size,
      batch_size=config.train.batch_size,
      seed=config.seed,
      second_view=config.loss.image_image_weight > 0,
      features=cached,
      process_index=jax.process_index(),
      process_count=jax.process_count(),
    )

  def _check_dry(self):
    if (self.workdir / "checkpoints").is_dir():
      reader = checkpointing.Checkpointer(self.workdir, read_only=True)
      step = reader.latest_sound()
      if step is not None:
        experiment.check_same(reader.restore_meta(step), self.meta)
        logging.info("%s would resume at step %d", self.workdir, step)
    abstract = self.program.state
    pretrained.load(self.config.init, abstract.params, abstract.batch_stats)
    next(self.iterator)  # records that do not read are found here
    where = self.workdir.absolute()
    while not where.exists():
      where = where.parent
    if not os.access(where, os.W_OK):
      raise ValueError(f"workdir {self.workdir} cannot be written")
    _, summary = compilation.compile_step(self.program)
    logging.info("%s", summary.line())

  def _start(self):
    """Makes the first state, or restores the newest sound one."""
    abstract, config = self.program.state, self.config
    step = self.checkpointer.latest_sound()
    if step is None:
      damaged = self.workdir / "damaged"
      if any(damaged.glob(f"*/{checksums.NAME}")):
        # Those were whole once: to begin again is for a person to decide.
        raise ValueError(
          f"{self.workdir} holds no sound checkpoint any more, all are in "
          f"{damaged}: expected a fresh --workdir, or that they be moved away"
        )
      loaded = pretrained.load(
        config.init, abstract.params, abstract.batch_stats
      )
      self.step, self.state = 0, self.program.init(self.seed_key)
      if loaded[0]:
        self.state = experiment.with_weights(self.state, *loaded)
        logging.info("%s filled from %s", ", ".join(loaded[0]), config.init)
    else:
      experiment.check_same(self.checkpointer.restore_meta(step), self.meta)
      logging.info("resuming at step %d", step)
      self._restore(step)
    if jax.process_index() == 0:
      text = json.dumps(self.meta["config"], indent=2) + "\n"
      (self.workdir / "config.json").write_text(text, "utf-8")
    run_record.append(
      self.workdir,
      run_record.describe(
        config,
        mesh=self.mesh,
        tokenizer=self.meta["tokenizer"],
        data_digest=self.meta["data"],
        params_digest=params_digest(self.state.params),
        first_step=self.step,
      ),
    )
    trainable, fixed = optim.partition(abstract.params, config.optim.frozen)
    logging.info(
      "%d parameters train, %d are frozen; mesh %s, %d pairs a step, steps %d "
      "to %d",
      parameter_overview.count_parameters(trainable),
      parameter_overview.count_parameters(fixed),
      dict(self.mesh.shape),
      config.train.batch_size,
      self.step,
      config.train.num_steps,
    )

  def _restore(self, step):
    self.state, position, progress = self.checkpointer.restore(
      step, self.program.state
    )
    self.iterator.set_state(position)
    self.progress, self.step, self.saved = progress, step, step

  def _loop(self):
    train = self.config.train
    self.dog.beat()
    if self.progress["pending"] is not None:
      scalars, self.progress["pending"] = self.progress["pending"], None
      try:
        self._evaluate(scalars)
      except _PreemptedError:
        self._leave()  # what was saved says that it is still to be done
      if self.step == train.num_steps:  # no later step will tell of the best
        self.checkpointer.delete(self.step)
        self._save()
    first = self.step + 1
    while self.step < train.num_steps:
      batch = self.batches.next()
      scalars = {}
      if (self.step + 1) % train.diagnostics_every == 0:
        norms = self.diagnose(self.state.params, self.state.batch_stats, batch)
        scalars |= {
          f"train/{name}": float(value)
          for name, value in jax.device_get(norms).items()
        }
      self.profile.before(self.step + 1, self.state)
      self.state, metrics = self.compiled(self.state, batch, self.seed_key)
      self.step += 1
      last = self.step == train.num_steps
      if jax.default_backend() == "cpu":
        # Fake devices deadlock when many steps are queued.
        jax.block_until_ready(metrics["loss"])
      self.profile.after(self.step, self.state)
      self.bar.step()
      self.dog.beat()
      preempted = self.notice.received()
      log = self.step % train.log_every == 0 or last
      evaluate = self.step % train.eval_every == 0 or last
      save = self.step % train.checkpoint_every == 0 or last or preempted
      save |= log and self._long_ago()

      # Before anything is kept of the step; else one step later, so that the
      # devices need not wait.
      again = self.guard.look(
        self.step,
        metrics.pop("health"),
        self.batches.position(),
        now=log or evaluate or save or bool(scalars),
      )
      self.progress["faults"] = self.guard.count
      if again is not None:
        self._rewind(again)
        continue
      if self.step == first:
        self.meter.start(self.step, self.batches.waited)  # leaves compiling out
      if log or scalars:
        scalars |= self._measure(metrics, log)
      if evaluate:
        self.meter.pause()
        try:
          if preempted:
            raise _PreemptedError
          save |= self._evaluate(scalars)
        except _PreemptedError:
          self.progress["pending"], preempted, save = scalars, True, True
        self.meter.resume()
      elif scalars:
        self.writer.write(self.step, scalars)
      if save:
        self._save()
      if preempted:
        self._leave()

  def _measure(self, metrics, log):
    """Returns the scalars of the step, shown on the console if `log`."""
    metrics = jax.device_get(metrics)
    scalars = {f"train/{name}": float(x) for name, x in metrics.items()}
    # A skipped update does not count for the schedule.
    skips = self.config.train.on_nonfinite == "skip"
    updates = self.step - 1 - (self.guard.count if skips else 0)
    rate = self.program.schedule(updates)
    scalars["train/learning_rate"] = float(np.asarray(rate))
    if log:
      rates = self.meter.scalars(self.step, self.batches.waited)
      scalars |= rates
      if "train/step_seconds" in rates:
        self.bar.log(
          self.step,
          scalars["train/loss"],
          rates["train/pairs_per_second"],
          rates["train/step_seconds"]
          * (self.config.train.num_steps - self.step),
          mfu=rates.get("train/mfu"),
          input_wait=rates["train/input_wait"],
        )
    return scalars

  def _evaluate(self, scalars) -> bool:
    """Writes `scalars` with those of an evaluation; returns if it is the best.

    Raises:
      _PreemptedError: before anything is written.
    """
    found = self.validation.run(self.state)
    picture = self.validation.draw(self.state)
    self.writer.write(self.step, scalars | found)
    if picture is not None:
      self.writer.write_image(self.step, "valid/similarity_maps", picture)
    old = self.progress["best"]
    self.progress["best"] = validation.better(
      old, self.step, found, self.validation.batch_size
    )
    return self.progress["best"] is not old

  def _long_ago(self) -> bool:
    """Whether `checkpoint_minutes` are over, by the clock of process 0."""
    seconds = 60 * self.config.train.checkpoint_minutes
    if not seconds:
      return False
    due = np.array(time.monotonic() - self.saved_at >= seconds)
    return bool(multihost_utils.broadcast_one_to_all(due))

  def _save(self):
    self.dog.rest()  # the last save may still be written
    best = self.progress["best"]
    self.checkpointer.save(
      self.step,
      self.state,
      self.batches.position(),
      self.progress,
      self.meta,
      best=best and best["step"],
    )
    self.saved, self.saved_at = self.step, time.monotonic()
    self.dog.beat()

  def _rewind(self, position):
    """Goes back to the last checkpoint, and on with the batches after a fault.

    Raises:
      FloatingPointError: if there is no checkpoint.
    """
    self.dog.rest()
    self.checkpointer.wait()
    self.batches.close()
    if self.saved is None:
      raise FloatingPointError(
        f"there is no checkpoint to rewind to yet, at step {self.step}"
      )
    logging.warning(
      "back to step %d, and on with the batches after the fault: those since "
      "that step are left out with it",
      self.saved,
    )
    # All that is in `progress` happened before the step or stays true.
    progress = self.progress
    self._restore(self.saved)
    self.progress = progress
    self.iterator.set_state(position)
    self.writer.rewind(self.step)
    self.bar.rewind(self.step)
    self.batches = prefetch.Prefetcher(self.iterator, self.mesh, _AHEAD)
    self.meter.start(self.step, 0.0)
    self.dog.beat()

  def _before_batch(self):
    """Called before each batch of an evaluation."""
    self.dog.beat()
    if self.notice.received():
      raise _PreemptedError

  def _leave(self):
    self.dog.rest()
    self.checkpointer.close()
    logging.info(
      "preempted: step %d is saved, the same command goes on from there",
      self.step,
    )
    raise SystemExit(preemption.EXIT_CODE)
