"""The training loop, beside nothing but its steps.

Both take the same batches of chest phantoms, made on the spot, through the same
loader, with the towers of configs/demo.py. "Steps" runs the bare update: loss,
gradients, AdamW. "Training" is `launch/train.py`'s own loop, with what keeps it
safe and tells of it: checks for numbers that are not finite, the state kept
when there are some, norms by module, watchdog, notices of preemption, scalars
and TensorBoard, and a checkpoint with checksums half-way. Left out are
compilation and evaluation.
"""

import argparse
import json
import tempfile
import time
from pathlib import Path

import jax
import optax
from absl import flags

from tier_jax import config as config_lib
from tier_jax import (
  experiment,
  optim,
  prefetch,
  program,
  sharding,
  train,
  train_step,
)
from tier_jax.benchmarks import devices, rounds
from tier_jax.benchmarks import input as input_benchmark
from tier_jax.data import loader, pair_source

RATIOS = {"training / steps": ("training", "steps")}
table = rounds.table
_LOG_EVERY = 25
TOWERS = {
  "image": {
    "image_size": 96,
    "patch_size": 12,
    "width": 96,
    "depth": 3,
    "num_heads": 3,
    "mlp_dim": 192,
    "activation": "relu",
  },
  "text": {
    "vocab_size": 0,
    "hidden_size": 96,
    "num_hidden_layers": 1,
    "num_attention_heads": 3,
    "intermediate_size": 192,
    "max_position_embeddings": 40,
    "activation": "relu",
  },
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  parser.add_argument(
    "--num_steps",
    type=int,
    default=450,  # for each of which the demo saves a checkpoint
    help="a cell and round, with a checkpoint half-way (%(default)s)",
  )
  for name, default, text in (
    ("batch_size", 64, "pairs, over all devices"),
    ("rounds", 3, "in which the cells take turns"),
  ):
    parser.add_argument(
      f"--{name}", type=int, default=default, help=f"{text} (%(default)s)"
    )


def measure(arguments: argparse.Namespace) -> dict:
  """Returns pairs a second by cell and round, and their ratio.

  Raises:
    ValueError: if a flag is out of range.
  """
  if arguments.num_steps < 4 * _LOG_EVERY:
    raise ValueError(
      f"num_steps is {arguments.num_steps}, expected >= {4 * _LOG_EVERY}"
    )
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads its own
  with tempfile.TemporaryDirectory(prefix="loop_benchmark-") as root:
    splits = {"train": 512, "validate": arguments.batch_size}
    input_benchmark.write_dataset(Path(root) / "phantom", splits, 112)
    bench = _Bench(Path(root), arguments)
    rates = rounds.interleave(
      {"steps": bench.steps, "training": bench.training}, arguments.rounds
    )
  return {
    "benchmark": "loop",
    "about": f"towers of configs/demo.py, batches of {arguments.batch_size}, "
    f"{arguments.rounds} rounds of {arguments.num_steps} steps, a checkpoint "
    f"every {bench.config.train.checkpoint_every}",
    "machine": devices.machine(),
    "unit": "pairs a second",
    "rates": rates,
    **rounds.summarise(rates, RATIOS),
  }


class _Bench:
  """The cells; each returns pairs a second."""

  def __init__(self, root: Path, arguments: argparse.Namespace):
    self._root = root
    num_steps = arguments.num_steps
    config = config_lib.build(
      {
        "data": {
          "data_dir": str(root),
          "datasets": ("phantom",),
          "max_length": 40,
          "num_threads": 2,
        },
        "model": TOWERS,
        "loss": {"token_entropy_weight": 0.2, "patch_entropy_weight": 0.1},
        "train": {
          "batch_size": arguments.batch_size,
          "num_steps": num_steps,
          "log_every": _LOG_EVERY,
          "checkpoint_every": num_steps // 2 + 1,
          # Neither comes but at the end, which is not measured.
          "eval_every": num_steps,
          "diagnostics_every": num_steps + 1,
          "eval_benchmark": "",
        },
      }
    )
    self.config, self._tokenize = experiment.resolve(config)
    self._mesh = sharding.make_mesh(config.mesh)
    self._program = program.make(self.config, self._mesh)
    optimizer = optim.make_optimizer(
      config.optim, self._program.schedule, self._program.state.params
    )

    def step(params, opt_state, batch, key):
      def loss(params):
        return train_step.loss_fn(
          params, {}, batch, key, self._program.model, self.config.loss
        )[0]

      value, grads = jax.value_and_grad(loss)(params)
      updates, opt_state = optimizer.update(grads, opt_state, params)
      return optax.apply_updates(params, updates), opt_state, value

    self._step = jax.jit(step, donate_argnums=(0, 1))

  def steps(self) -> float:
    config = self.config
    iterator = loader.train_iterator(
      pair_source.PairSource(config.data, "train"),
      config.data,
      config.augment,
      self._tokenize,
      image_size=config.model.image.image_size,
      batch_size=config.train.batch_size,
      seed=config.seed,
    )
    key = jax.random.key(0)
    state = self._program.init(key)
    params, opt_state = state.params, state.opt_state
    batches = prefetch.Prefetcher(iterator, self._mesh, 2)
    count = config.train.num_steps - 1  # the first leaves compilation out
    start = time.perf_counter()
    for i in range(count + 1):
      params, opt_state, loss = self._step(
        params, opt_state, batches.next(), key
      )
      jax.block_until_ready(loss)
      if not i:
        start = time.perf_counter()
    seconds = time.perf_counter() - start
    batches.close()
    return count * config.train.batch_size / seconds

  def training(self) -> float:
    with tempfile.TemporaryDirectory(dir=self._root) as workdir:
      train.train_and_evaluate(self.config, workdir)
      text = (Path(workdir) / "metrics.jsonl").read_text("utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    last, seconds = 1, 0.0
    for row in rows:
      if "train/step_seconds" in row:
        seconds += row["train/step_seconds"] * (row["step"] - last)
        last = row["step"]
    return (last - 1) * self.config.train.batch_size / seconds
