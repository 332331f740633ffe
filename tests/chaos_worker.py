"""A training that tells what it does, for `chaos.py`.

  python -m tests.chaos_worker DATA_DIR WORKDIR DEVICES NUM_STEPS

writes one JSON object a line to standard output, each with "event" and "step":
"batch", with "records", its indices in order; "row", of metrics, with "loss";
"save", as it begins; "evaluation" and "evaluated", as one begins and ends.
"""

import functools
import json
import os
import sys
from pathlib import Path

import jax
import numpy as np
from absl import flags, logging

from tests import trainings
from tier_jax import (
  checkpointing,
  metric_writer,
  prefetch,
  train,
  validation,
)
from tier_jax import config as config_lib

SAVE_EVERY, EVAL_EVERY = 4, 5  # apart, but together every twentieth step


def make_config(data_dir: Path, num_steps: int) -> config_lib.Config:
  """Returns a tiny training with all that a checkpoint can hold."""
  return trainings.config(
    data_dir,
    num_steps=num_steps,
    log_every=1,
    eval_every=EVAL_EVERY,
    eval_batch_size=4,  # as many as the most devices
    eval_benchmark="chexpert",  # if it is there
    checkpoint_every=SAVE_EVERY,
  )


def tell(event: str, step: int, **more) -> None:
  # In one call: a kill leaves whole lines.
  line = json.dumps({"event": event, "step": step, **more}) + "\n"
  os.write(sys.stdout.fileno(), line.encode())


def tell_all() -> None:
  """Wraps what a training calls, so that it tells."""
  step = 0  # counted here, to see that input and state fit together

  def restore(original, checkpointer, number, abstract):
    nonlocal step
    step = number
    return original(checkpointer, number, abstract)

  def take(original, batches):
    nonlocal step
    batch = original(batches)
    step += 1
    tell("batch", step, records=np.asarray(batch["record"]).tolist())
    return batch

  def evaluate(original, evaluation, state):
    tell("evaluation", step)
    return original(evaluation, state)

  def draw(original, evaluation, state):
    picture = original(evaluation, state)
    tell("evaluated", step)
    return picture

  def write(original, writer, number, scalars):
    original(writer, number, scalars)
    tell("row", number, loss=scalars["train/loss"])

  def save(original, checkpointer, number, *args, **kwargs):
    tell("save", number)
    original(checkpointer, number, *args, **kwargs)

  def wrap(owner, name, wrapper):
    original = getattr(owner, name)

    @functools.wraps(original)
    def wrapped(*args, **kwargs):
      return wrapper(original, *args, **kwargs)

    setattr(owner, name, wrapped)

  wrap(checkpointing.Checkpointer, "restore", restore)
  wrap(checkpointing.Checkpointer, "save", save)
  wrap(prefetch.Prefetcher, "next", take)
  wrap(validation.Validation, "run", evaluate)
  wrap(validation.Validation, "draw", draw)
  wrap(metric_writer.MetricWriter, "write", write)


def main(data_dir: str, workdir: str, devices: str, num_steps: str) -> None:
  jax.config.update("jax_platforms", "cpu")
  jax.config.update("jax_num_cpu_devices", int(devices))
  flags.FLAGS.mark_as_parsed()  # grain reads them
  logging.use_absl_handler()
  metric_writer.log_plainly()
  tell_all()
  # What one start has compiled, all others of all trainings find.
  for name, value in (
    ("jax_compilation_cache_dir", str(Path(workdir).parents[1] / "compiled")),
    ("jax_persistent_cache_min_compile_time_secs", 0.0),
    ("jax_persistent_cache_min_entry_size_bytes", -1),
  ):
    jax.config.update(name, value)
  config = make_config(Path(data_dir), int(num_steps))
  train.train_and_evaluate(config, workdir)


if __name__ == "__main__":
  main(*sys.argv[1:])
