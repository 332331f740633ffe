"""What an evaluation leaves in a directory.

`metrics.json` holds every figure with its interval, digests of all that it
depends on, and of the files beside it: `scores_NAME.csv`, one row an image, and
`grounding_NAME.csv`, one row a finding, from which anyone can recompute them.
All is computed afresh, always.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tier_jax.evaluators import (
  bootstrap,
  calibration,
  digests,
  external,
  metrics,
  prompts,
  score_files,
  subgroups,
  thresholds,
  zero_shot,
)
from tier_jax.evaluators import parts as parts_lib
from tier_jax.evaluators import readers as readers_lib

_METRICS = "metrics.json"

_Run = Callable[[zero_shot.ZeroShot], zero_shot.Scores]
# Of a benchmark, and of the validation split that thresholds are chosen on.
_Scored = tuple[zero_shot.Scores, zero_shot.Scores | None]


def score(
  evaluators: Sequence[zero_shot.ZeroShot],
  model: zero_shot.Encoder | external.Predictions,
  kept: zero_shot.Kept | None = None,
) -> list[_Scored]:
  """Returns the scores of every benchmark, and of its validation split or None.

  It is all that `evaluate` asks of the model: of processes that share one, the
  others need no more.

  Args:
    evaluators, model, kept: as `evaluate` takes them.
  """
  run = _runner(model, {} if kept is None else kept)
  found = []
  for evaluator in evaluators:
    logging.info("%s: scoring", evaluator.benchmark.name)
    found.append((run(evaluator), _validation(evaluator, model, run)))
  return found


def evaluate(
  evaluators: Sequence[zero_shot.ZeroShot],
  model: zero_shot.Encoder | external.Predictions,
  output_dir: Path,
  facts: Mapping[str, Any],
  *,
  parts: Mapping[str, Any] | None = None,
  readers: Mapping[str, Any] | None = None,
  pictures: Sequence[str] = (),
  kept: zero_shot.Kept | None = None,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = metrics.SEED,
) -> dict[str, Any]:
  """Scores every benchmark, writes scores_NAME.csv and metrics.json.

  Args:
    evaluators: one a benchmark.
    model: an encoder, or what another model predicted.
    output_dir: made when absent.
    facts: about the model, JSON values; they head metrics.json. Of an encoder,
      "params_sha256" is the digest of its weights.
    parts: as `parts.evaluate` returns them; what files they name lie in
      `output_dir`.
    readers: as `reader_files.evaluate` returns them, by the name of an entry.
    pictures: names of files in `output_dir` that show this very model; no
      figure is computed from them.
    kept: image embeddings of the encoder, as `zero_shot.ZeroShot.embed` takes
      them.
    num_resamples, seed: of the bootstrap over patients.

  Returns:
    What metrics.json holds.

  Raises:
    ValueError: if predictions are not of the benchmarks' images and labels.
  """
  output_dir.mkdir(parents=True, exist_ok=True)
  # Of an earlier evaluation: it would speak of scores that are replaced.
  target = output_dir / _METRICS
  target.unlink(missing_ok=True)
  settings = {"num_resamples": num_resamples, "seed": seed}
  scored = score(evaluators, model, kept)
  benchmarks: dict[str, dict[str, Any]] = {}
  data: dict[str, str] = {}
  for evaluator, rows in zip(evaluators, scored, strict=True):
    found = _benchmark(evaluator, model, rows, output_dir, readers, settings)
    benchmarks |= found
    manifest = digests.of_file(evaluator.directory / "manifest.json")
    data[evaluator.directory.name] = manifest
  parts = parts or {}
  grounded = list((parts.get("grounding") or {}).values())
  for entry in (*grounded, parts.get("retrieval"), parts.get("similarity")):
    if entry:
      data[entry["dataset"]] = entry["data_manifest_sha256"]
  entries = [*benchmarks.values(), *grounded]
  outside = isinstance(model, external.Predictions)
  result = {
    **facts,
    "digests": {
      "weights": facts.get("params_sha256"),
      "predictions": model.digest if outside else None,
      "prompts": prompts.digest(),
      "data": data,
      "code": digests.of_code(),
    },
    "files": {
      name: digests.of_file(output_dir / name)
      for name in sorted({*pictures, *(entry["scores"] for entry in entries)})
    },
    "bootstrap": {
      "resampled": "patients",
      **settings,
      "interval": "95 % percentile",  # calibration says its own
    },
    "benchmarks": benchmarks,
    **{name: parts.get(name) for name in parts_lib.NAMES},
  }
  text = json.dumps(result, indent=2, allow_nan=False) + "\n"
  # Renamed into place, after all that it speaks of.
  part = target.with_suffix(".part")
  part.write_text(text, "utf-8")
  part.replace(target)
  return result


def _benchmark(
  evaluator: zero_shot.ZeroShot,
  model: zero_shot.Encoder | external.Predictions,
  scored: _Scored,
  output_dir: Path,
  readers: Mapping[str, Any] | None,
  settings: Mapping[str, Any],
) -> dict[str, dict[str, Any]]:
  """Returns the entries of a benchmark: of images, and perhaps of studies."""
  benchmark = evaluator.benchmark
  scores, validation = scored
  path = output_dir / score_files.name(benchmark.name)
  score_files.write(path, scores)
  about: dict[str, Any] = {
    "split": benchmark.split,
    "scoring": benchmark.scoring,
    "scores": path.name,
    "data_manifest_sha256": digests.of_file(
      evaluator.directory / "manifest.json"
    ),
  }
  units = {"image": benchmark.name}
  if benchmark.study_level:
    units["study"] = f"{benchmark.name}_study"
  if isinstance(model, external.ScoreTable):
    about["scoring"] = None
    if model.unit == "study":
      del units["image"]  # it says nothing of a single one
  entries = {}
  for unit, name in units.items():
    rows, chosen = scores, validation
    if unit == "study":
      rows, chosen = rows.by_study(), chosen and chosen.by_study()
    logging.info(
      "%s: %d scored, resampling patients %d times",
      name,
      len(rows.image_ids),
      settings["num_resamples"],
    )
    whole = metrics.summarise(rows, apart=benchmark.apart, **settings)
    calls, calibrated = _from_validation(rows, chosen, settings)
    for label, item in whole["labels"].items():
      item["operating"] = calls.get(label)
    entries[name] = {
      "unit": unit,
      **about,
      **whole,
      "thresholds_from": "validate" if chosen else None,
      "calibration": calibrated,
      "subgroups": subgroups.summarise(rows, apart=benchmark.apart, **settings),
      "readers": readers_lib.beside_curve((readers or {}).get(name), rows),
    }
  return entries


def _from_validation(
  rows: zero_shot.Scores,
  chosen: zero_shot.Scores | None,
  settings: Mapping[str, Any],
) -> tuple[Mapping[str, Any], dict[str, Any] | None]:
  """Returns what is called and how likely it is, as validation chose."""
  if chosen is None:
    return {}, None
  calls = thresholds.summarise(thresholds.choose(chosen), rows, **settings)
  calibrated = calibration.summarise(calibration.fit(chosen), rows, **settings)
  about = {
    "method": "Platt, fitted on validate",
    "interval": "95 % basic (percentile reflected at the value), cut off at 0",
  }
  return calls, calibrated and about | calibrated


def _validation(
  evaluator: zero_shot.ZeroShot,
  model: zero_shot.Encoder | external.Predictions,
  run: _Run,
) -> zero_shot.Scores | None:
  """Returns the scores that thresholds may be chosen on, if there are any."""
  if evaluator.benchmark.split == "validate":
    return None
  sibling = evaluator.sibling("validate")
  if sibling is None:
    return None
  outside = isinstance(model, external.Predictions)
  if outside and not external.covers(model, sibling):
    return None
  return run(sibling)


def _runner(
  model: zero_shot.Encoder | external.Predictions, kept: zero_shot.Kept
) -> _Run:
  """Returns what scores a benchmark; no image is embedded twice."""
  if isinstance(model, external.Predictions):
    return model.run

  def run(evaluator: zero_shot.ZeroShot) -> zero_shot.Scores:
    image_embeds = evaluator.embed(model, kept)
    texts = model.embed_texts(evaluator.texts())
    return evaluator.score(image_embeds, texts.text_embeds)

  return run
