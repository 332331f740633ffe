"""What an evaluation leaves in a directory, and how it is read again.

`metrics.json` holds every figure with its interval and where it comes from;
`scores_NAME.csv` holds one row an image, from which anyone can recompute them.
"""

import csv
import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tier_jax.evaluators import bootstrap, prompts, statistics, zero_shot

_ID_COLUMNS = ("image_id", "study_id", "patient_id")
_TRUTH, _SCORE = " truth", " score"


def evaluate(
  evaluators: Sequence[zero_shot.ZeroShot],
  encoder: zero_shot.Encoder,
  output_dir: Path,
  facts: Mapping[str, Any],
  *,
  num_resamples: int = zero_shot.NUM_RESAMPLES,
  seed: int = zero_shot.SEED,
) -> dict[str, Any]:
  """Scores every benchmark, writes scores_NAME.csv and metrics.json.

  Args:
    evaluators: one a benchmark.
    encoder: to score.
    output_dir: made when absent.
    facts: about the model, JSON values; they head metrics.json.
    num_resamples, seed: of the bootstrap over patients.

  Returns:
    What metrics.json holds.
  """
  output_dir.mkdir(parents=True, exist_ok=True)
  # Of an earlier evaluation: it would speak of scores that are replaced.
  target = output_dir / "metrics.json"
  target.unlink(missing_ok=True)
  benchmarks = {}
  for evaluator in evaluators:
    benchmark = evaluator.benchmark
    logging.info("%s: scoring", benchmark.name)
    scores = evaluator.run(encoder)
    logging.info(
      "%s: %d images scored, resampling patients %d times",
      benchmark.name,
      len(scores.image_ids),
      num_resamples,
    )
    path = output_dir / f"scores_{benchmark.name.replace(':', '_')}.csv"
    write_scores(path, scores)
    manifest = (evaluator.directory / "manifest.json").read_bytes()
    about = {
      "split": benchmark.split,
      "scores": path.name,
      "data_manifest_sha256": hashlib.sha256(manifest).hexdigest(),
    }
    units = {benchmark.name: ("image", scores)}
    if benchmark.study_level:
      units[f"{benchmark.name}_study"] = ("study", scores.by_study())
    for name, (unit, rows) in units.items():
      summary = zero_shot.summarise(
        rows, num_resamples=num_resamples, seed=seed
      )
      benchmarks[name] = {"unit": unit, **about, **summary}
  metrics = {
    **facts,
    "prompts_sha256": prompts.digest(),
    "bootstrap": {
      "resampled": "patients",
      "num_resamples": num_resamples,
      "seed": seed,
      "interval": "95 % percentile",
    },
    "benchmarks": benchmarks,
  }
  text = json.dumps(metrics, indent=2, allow_nan=False) + "\n"
  # Renamed into place, after all that it speaks of.
  part = target.with_suffix(".part")
  part.write_text(text, "utf-8")
  part.replace(target)
  return metrics


def write_scores(path: Path, scores: zero_shot.Scores) -> None:
  """Writes one row an image: ids, then truth and score of each label.

  A truth that is not counted is a blank. Scores are written so that reading
  them gives the same float32 values.
  """
  header = list(_ID_COLUMNS)
  for name in scores.labels:
    header += [name + _TRUTH, name + _SCORE]
  with path.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for i, image_id in enumerate(scores.image_ids):
      row: list[Any] = [image_id, scores.study_ids[i], scores.patient_ids[i]]
      for truth, score in zip(scores.truth[i], scores.scores[i], strict=True):
        row += ["" if truth == -1 else int(truth), str(score)]
      writer.writerow(row)


def read_scores(path: Path) -> zero_shot.Scores:
  """Returns what `write_scores` wrote.

  Raises:
    ValueError: if the file is missing, or its columns or cells are others.
  """
  if not path.is_file():
    raise ValueError(f"{path} is missing, expected the scores of a benchmark")
  with path.open(encoding="utf-8", newline="") as file:
    header, *rows = list(csv.reader(file)) or [[]]
  labels = [name.removesuffix(_TRUTH) for name in header[3::2]]
  expected = list(_ID_COLUMNS)
  for name in labels:
    expected += [name + _TRUTH, name + _SCORE]
  if header != expected or any(len(row) != len(header) for row in rows):
    raise ValueError(
      f"{path.name}: expected the columns {', '.join(_ID_COLUMNS)} and each "
      "label's truth and score"
    )
  try:
    truth = [[int(cell) if cell else -1 for cell in r[3::2]] for r in rows]
    values = [[float(cell) for cell in r[4::2]] for r in rows]
  except ValueError as error:
    raise ValueError(
      f"{path.name}: a truth is not 1, 0 or blank, or a score no number"
    ) from error
  shape = (len(rows), len(labels))
  return zero_shot.Scores(
    labels=tuple(labels),
    image_ids=tuple(row[0] for row in rows),
    study_ids=tuple(row[1] for row in rows),
    patient_ids=tuple(row[2] for row in rows),
    truth=np.array(truth, np.int8).reshape(shape),
    scores=np.array(values, np.float32).reshape(shape),
  )


@dataclasses.dataclass(frozen=True)
class Run:
  """An evaluated training run.

  Attributes:
    name: shown to readers.
    directory: where the evaluation wrote.
    metrics: what metrics.json holds.
    curves: the lines of the training's metrics.jsonl; empty when it has none.
    config: the training's config.json; empty when it has none.
  """

  name: str
  directory: Path
  metrics: Mapping[str, Any]
  curves: Sequence[Mapping[str, Any]]
  config: Mapping[str, Any]

  def scores(self, benchmark: str) -> zero_shot.Scores:
    """Returns the rows that a benchmark of metrics.json was computed from."""
    entry = self.metrics["benchmarks"][benchmark]
    scores = read_scores(self.directory / Path(entry["scores"]).name)
    return scores.by_study() if entry["unit"] == "study" else scores


def read_run(name: str, workdir: Path, results_dir: Path) -> Run:
  """Returns a run from its work directory and where its evaluation wrote.

  Raises:
    ValueError: if there is no metrics.json, or it or config.json is no JSON.
  """
  path = results_dir / "metrics.json"
  if not path.is_file():
    raise ValueError(
      f"run {name!r}: {path} is missing, expected what launch/eval.py writes"
    )
  config = workdir / "config.json"
  return Run(
    name=name,
    directory=results_dir,
    metrics=_parse(path),
    curves=_read_curves(workdir / "metrics.jsonl"),
    config=_parse(config) if config.is_file() else {},
  )


def difference(first: Run, second: Run, benchmark: str) -> dict[str, Any]:
  """Returns first - second with intervals, paired over the same patients.

  Returns:
    macro and labels: {name: value, low, high}, None where not available.

  Raises:
    ValueError: if the two runs were not scored on the same rows and truth.
  """
  one, two = first.scores(benchmark), second.scores(benchmark)
  same = (
    one.labels == two.labels
    and one.image_ids == two.image_ids
    and np.array_equal(one.truth, two.truth)
  )
  if not same:
    raise ValueError(
      f"benchmark {benchmark!r}: {first.name!r} and {second.name!r} were "
      "scored on different images, labels or truths; expected the same"
    )
  settings = first.metrics["bootstrap"]
  draws = [
    bootstrap.ranking_draws(
      scores.truth,
      scores.scores,
      scores.patient_ids,
      num_resamples=settings["num_resamples"],
      seed=settings["seed"],
    )
    for scores in (one, two)
  ]
  entries = [run.metrics["benchmarks"][benchmark] for run in (first, second)]
  labels = {}
  for i, name in enumerate(one.labels):
    low, high = statistics.interval(
      draws[0].values["auroc"][:, i] - draws[1].values["auroc"][:, i]
    )
    areas = [entry["labels"][name]["auroc"] for entry in entries]
    labels[name] = areas[0] and {
      "value": areas[0]["value"] - areas[1]["value"],
      "low": low,
      "high": high,
    }
  macros = [entry["macro_auroc"]["value"] for entry in entries]
  low, high = statistics.interval(
    zero_shot.macro_draws(draws[0]) - zero_shot.macro_draws(draws[1])
  )
  macro = None
  if macros[0] is not None:
    macro = {"value": macros[0] - macros[1], "low": low, "high": high}
  return {"macro": macro, "labels": labels}


def differences(runs: Sequence[Run]) -> dict[str, dict[str, Any]]:
  """Returns the difference of exactly two runs a benchmark; else nothing."""
  if len(runs) != 2:
    return {}
  return {
    name: difference(runs[0], runs[1], name)
    for name in runs[0].metrics["benchmarks"]
    if name in runs[1].metrics["benchmarks"]
  }


def table(runs: Sequence[Run], deltas: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the figures of one or more runs as plain text."""
  lines = []
  names = dict.fromkeys(n for run in runs for n in run.metrics["benchmarks"])
  for name in names:
    entries = [run.metrics["benchmarks"].get(name) for run in runs]
    entry = next(entry for entry in entries if entry)
    units = "studies" if entry["unit"] == "study" else "images"
    lines.append(
      f"{name}: AUROC [95 % interval], split {entry['split']}, "
      f"{entry['rows']} {units} of {entry['patients']} patients"
    )
    heads = [run.name for run in runs]
    if name in deltas:
      heads.append(f"{runs[0].name} - {runs[1].name}")
    pad = " " * 46
    lines.append(pad + "pos/neg".rjust(11) + _row(heads))
    missing = []
    for label, item in entry["labels"].items():
      counts = f"{item['positives']}/{item['negatives']}"
      if item["auroc"] is None:
        missing.append(f"{label} {counts}")
        continue
      cells = [
        interval_text(e and e["labels"].get(label, {}).get("auroc"))
        for e in entries
      ]
      if name in deltas:
        cells.append(interval_text(deltas[name]["labels"][label], sign=True))
      lines.append(f"  {label[:44]:44}" + counts.rjust(11) + _row(cells))
    cells = [interval_text(e and e["macro_auroc"]) for e in entries]
    if name in deltas:
      cells.append(interval_text(deltas[name]["macro"], sign=True))
    macro = f"macro of {entry['macro_auroc']['num_labels']}"
    lines.append(f"  {macro:44}" + " " * 11 + _row(cells))
    if missing:
      lines.append(
        f"  not available, without both classes ({len(missing)}, positive/"
        f"negative): {', '.join(missing[:8])}"
        + (", ..." if len(missing) > 8 else "")
      )
    lines.append("")
  return "\n".join(lines)


def summary(runs: Sequence[Run]) -> str:
  """Returns one line a run as plain text: scores, entropies and speed.

  Entropies (nats) are those of the last validation, the cosine between tokens'
  rows of similarities that of the last logged training batch, and milliseconds
  a step the median over what was logged. What a run has not is "-".
  """
  names = list(
    dict.fromkeys(n for run in runs for n in run.metrics["benchmarks"])
  )
  heads = ["token entropy", "patch entropy", "row cosine", "ms a step"]
  rows = [["", *names, *heads]]
  for run in runs:
    entries = [run.metrics["benchmarks"].get(name) for name in names]
    values = [entry and entry["macro_auroc"]["value"] for entry in entries]
    values += [
      _last(run.curves, "valid/token_entropy"),
      _last(run.curves, "valid/patch_entropy"),
      _last(run.curves, "train/row_cosine"),
    ]
    cells = ["-" if value is None else f"{value:.3f}" for value in values]
    rates = [
      row["train/pairs_per_second"]
      for row in run.curves
      if "train/pairs_per_second" in row
    ]
    step = "-"
    if rates and run.config:
      step = f"{1e3 * run.config['train']['batch_size'] / np.median(rates):.0f}"
    rows.append([run.name, *cells, step])
  widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
  return "\n".join(
    "  ".join(
      cell.ljust(width) if i == 0 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    for row in rows
  )


def interval_text(
  item: Mapping[str, float | None] | None, *, sign: bool = False
) -> str:
  """Returns "0.873 [0.831, 0.912]", with + or - when it is a difference."""
  if not item or item["value"] is None:
    return "not available"
  spec = "+.3f" if sign else ".3f"
  text = format(item["value"], spec)
  if item["low"] is None or item["high"] is None:
    return text
  return f"{text} [{item['low']:{spec}}, {item['high']:{spec}}]"


def _row(cells: Sequence[str]) -> str:
  return "".join(cell.rjust(26) for cell in cells)


def _last(curves, name):
  return next((row[name] for row in reversed(curves) if name in row), None)


def _read_curves(path: Path) -> list[dict[str, Any]]:
  if not path.is_file():
    return []
  rows = []
  for line in path.read_text("utf-8").splitlines():
    try:
      rows.append(json.loads(line))
    except ValueError:
      continue  # a kill in the middle of a line
  return rows


def _parse(path: Path) -> Any:
  try:
    return json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path.name} is no JSON: {error}") from error
