"""Scores a trained model, or what another model predicted, on benchmarks.

  python launch/eval.py --workdir=runs/demo/tier --benchmark=chexpert,padchest

prints the figures and writes metrics.json, scores_NAME.csv, grounding_NAME.csv,
heatmaps.npz and report.html. Model and configuration come from the checkpoint
alone. Any other model enters the same tables, by the same sentences:

  python launch/eval.py --benchmark=chexpert --data_dir=data \\
    --template --output_dir=asked
  python launch/eval.py --benchmark=chexpert --data_dir=data \\
    --scores=theirs.csv --output_dir=theirs
"""

import contextlib
import dataclasses
import sys
import tempfile
from pathlib import Path

import jax
from absl import app, flags

from tier_jax import distributed, inference, metric_writer
from tier_jax.evaluators import (
  external,
  heatmaps,
  parts,
  reader_files,
  report,
  results,
  runs,
  tables,
  zero_shot,
)
from tier_jax.evaluators.benchmarks import benchmark, registry

_WORKDIR = flags.DEFINE_string("workdir", None, "Work directory of a training.")
_BENCHMARK = flags.DEFINE_list(
  "benchmark",
  ["chexpert", "padchest"],
  f"Of {', '.join(registry.NAMES)}, for the directory NAME.",
)
_SPLIT = flags.DEFINE_string(
  "split", None, "Split to score; default: the benchmark's, test."
)
_SCORING = flags.DEFINE_enum(
  "scoring",
  None,
  benchmark.SCORINGS,
  "How cosines become a score; default: the benchmark's, difference.",
)
_PARTS = flags.DEFINE_list(
  "parts",
  list(parts.DEFAULT),
  f"What else to measure, of {', '.join(parts.NAMES)}: as far as the data "
  "allow. Empty for nothing.",
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
_SCORES = flags.DEFINE_string(
  "scores",
  None,
  "In place of --workdir, what another model predicted for all images of the "
  "split, and perhaps of validate, on which thresholds are then chosen: a .csv "
  "of image_id (or study_id) and a column of scores a label, or an .npz of "
  "image_ids, image_embeds, texts and text_embeds. Ids are hashed as in the "
  "records: `python -m data_prep ids` prints those of the source's files.",
)
_TEMPLATE = flags.DEFINE_bool(
  "template",
  False,
  "Scores nothing: writes template_NAME.csv, the ids and labels that --scores "
  "is to hold, and texts_NAME.json, the sentences to embed.",
)
_READERS = flags.DEFINE_list(
  "readers",
  [],
  "Files of the CheXpert test set's truth, groundtruth.csv, and then of each "
  "reader, to set beside the studies of benchmarks that have them.",
)


def main(argv: list[str]) -> None:
  """Checks the benchmarks, then scores them."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  metric_writer.log_plainly()
  try:
    distributed.initialize()
    asked = _benchmarks()
    parts.check(_PARTS.value, asked)
    model = _load()
    evaluators = _evaluators(asked, model)
    if model is None:
      return _write_templates(evaluators)
    if isinstance(model, external.Predictions):
      external.check(model, evaluators)
    called = _read_readers(evaluators)
    with contextlib.ExitStack() as stack:
      output_dir = Path(_OUTPUT_DIR.value or _WORKDIR.value or "")
      if jax.process_index():  # it takes part in the computing, no more
        output_dir = Path(stack.enter_context(tempfile.TemporaryDirectory()))
      _score(evaluators, model, output_dir, called)
  except ValueError as error:
    sys.exit(f"error: {error}")


def _load() -> inference.Model | external.Predictions | None:
  """Returns the model, what another predicted, or None for a template."""
  given = [bool(x) for x in (_WORKDIR.value, _SCORES.value, _TEMPLATE.value)]
  if sum(given) != 1:
    raise ValueError("expected one of --workdir, --scores and --template")
  if not _WORKDIR.value and not (_DATA_DIR.value and _OUTPUT_DIR.value):
    raise ValueError("without --workdir, give --data_dir and --output_dir")
  if _WORKDIR.value:
    step = inference.parse_step(_STEP.value)
    return inference.load(_WORKDIR.value, step, _PARAMS.value)
  return external.read(Path(_SCORES.value)) if _SCORES.value else None


def _benchmarks() -> list[benchmark.Benchmark]:
  if not _BENCHMARK.value:
    raise ValueError("--benchmark is empty, expected e.g. chexpert,padchest")
  changes = {"split": _SPLIT.value, "scoring": _SCORING.value}
  changes = {name: value for name, value in changes.items() if value}
  return [
    dataclasses.replace(registry.find(name), **changes)
    for name in dict.fromkeys(_BENCHMARK.value)
  ]


def _evaluators(asked, model) -> list[zero_shot.ZeroShot]:
  found = [zero_shot.ZeroShot(a, _data_dir(model) / a.dataset) for a in asked]
  for item in found:
    if item.benchmark.study_level:
      item.unscored.by_study()  # for its checks: scoring can take hours
  return found


def _data_dir(model) -> Path:
  return Path(_DATA_DIR.value or model.config.data.data_dir)


def _write_templates(evaluators):
  if jax.process_index():
    return
  for item in evaluators:
    asked = [item, *filter(None, [item.sibling("validate")])]
    for path in external.write_template(Path(_OUTPUT_DIR.value or ""), asked):
      print(path)


def _read_readers(evaluators):
  """Returns what readers called, by the name of the studies' entry."""
  paths = [Path(path) for path in _READERS.value]
  asked = [item for item in evaluators if item.benchmark.study_level]
  if paths and not asked:
    raise ValueError("--readers is given, but no benchmark with studies")
  return {
    f"{item.benchmark.name}_study": reader_files.evaluate(
      paths, item.unscored.by_study()
    )
    for item in asked
    if paths
  }


def _score(evaluators, model, output_dir, called):
  page = output_dir / "report.html"
  workdir = Path(_WORKDIR.value or output_dir)
  pictures = output_dir / runs.HEATMAPS
  pictures.unlink(missing_ok=True)  # of an earlier evaluation
  kept: zero_shot.Kept = {}
  if isinstance(model, external.Predictions):
    encoder, made = model, {}
    facts = {"predictions_file": model.name}
  else:
    encoder = model.encoder
    facts = {
      "step": model.step,
      "params": model.params_kind,
      "params_sha256": model.params_digest,
    }
    source = parts.Source(
      data_dir=_data_dir(model),
      pairs=model.config.data.datasets[0],
      temperature=model.config.loss.penalty_temperature,
      benchmarks=evaluators,
      kept=kept,
    )
    made = parts.evaluate(encoder, source, _PARTS.value, output_dir)
    cases = heatmaps.Cases(
      source.data_dir / source.pairs, evaluators, encoder.image_size
    )
    maps = cases.compute(encoder)
    if maps is not None:
      maps.save(pictures)
  if jax.process_index():
    # All processes embed in the same order and, so that none waits in vain for
    # another, at the same pace. What is left needs no device.
    results.score(evaluators, encoder, kept)
    return distributed.wait("evaluated")
  results.evaluate(
    evaluators,
    encoder,
    output_dir,
    facts,
    parts=made,
    readers=called,
    pictures=[pictures.name] if pictures.is_file() else [],
    kept=kept,
  )
  run = runs.read(workdir.resolve().name, workdir, output_dir)
  report.write(page, [run], {})
  print(tables.table([run], {}))
  if measured := tables.parts(run):
    print(f"{measured}\n")
  print(f"report: {page}")
  distributed.wait("evaluated")


if __name__ == "__main__":
  app.run(main)
