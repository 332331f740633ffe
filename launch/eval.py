"""Scores a trained model on benchmarks, zero-shot.

  python launch/eval.py --workdir=runs/demo/tier --benchmark=chexpert,padchest

Prints the figures and writes metrics.json, scores_NAME.csv, heatmaps.npz and
report.html. Model and configuration come from the checkpoint alone.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import jax
from absl import app, flags

from tier_jax import distributed, inference, metric_writer
from tier_jax.evaluators import heatmaps, report, results, zero_shot
from tier_jax.evaluators.benchmarks import registry

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Work directory of the training.", required=True
)
_BENCHMARK = flags.DEFINE_list(
  "benchmark",
  ["chexpert", "padchest"],
  "Benchmarks: chexpert, padchest, or table:NAME for the directory NAME.",
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir", None, "Root of the prepared datasets; default: the training's."
)
_STEP = flags.DEFINE_string(
  "step",
  None,
  "Checkpoint to score: a number, or best; default: the newest sound one.",
)
_PARAMS = flags.DEFINE_enum(
  "params",
  None,
  ["ema", "raw"],
  "Moving average of the parameters, or themselves; default: the average, if "
  "the training kept one.",
)
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Where to write; default: the work directory."
)


def main(argv: list[str]) -> None:
  """Checks the benchmarks, then scores them."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  metric_writer.log_plainly()
  try:
    distributed.initialize()
    if not _BENCHMARK.value:
      raise ValueError("--benchmark is empty, expected e.g. chexpert,padchest")
    benchmarks = [
      registry.find(name) for name in dict.fromkeys(_BENCHMARK.value)
    ]
    step = inference.parse_step(_STEP.value)
    model = inference.load(_WORKDIR.value, step, _PARAMS.value)
    data_dir = Path(_DATA_DIR.value or model.config.data.data_dir)
    evaluators = [
      zero_shot.ZeroShot(item, data_dir / item.dataset) for item in benchmarks
    ]
  except ValueError as error:
    sys.exit(f"error: {error}")
  with contextlib.ExitStack() as stack:
    output_dir = Path(_OUTPUT_DIR.value or _WORKDIR.value)
    if jax.process_index():  # it takes part in the computing, no more
      output_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    _score(evaluators, model, data_dir, output_dir)


def _score(evaluators, model, data_dir, output_dir):
  results.evaluate(
    evaluators,
    model,
    output_dir,
    {
      "step": model.step,
      "params": model.params_kind,
      "params_sha256": model.params_digest,
    },
  )
  maps = heatmaps.Cases(data_dir, evaluators, model.image_size).compute(model)
  if maps is not None:
    maps.save(output_dir / "heatmaps.npz")
  workdir = Path(_WORKDIR.value)
  run = results.read_run(workdir.resolve().name, workdir, output_dir)
  page = output_dir / "report.html"
  report.write(page, [run], {})
  if not jax.process_index():
    print(results.table([run], {}))
    print(f"report: {page}")


if __name__ == "__main__":
  app.run(main)
