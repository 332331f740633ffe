"""Scores images with a trained model: DICOM, PNG or JPEG in, a table out.

  python launch/predict.py --workdir=runs/demo/tier --benchmark=chexpert \\
    --inputs=studies,one.dcm,more.csv --output=scores.csv --heatmaps=heatmaps

Inputs are images, folders, which are searched, and .csv files with a column of
paths. What is asked are a benchmark's labels, or your own:

  --prompts="Pneumothorax,Pleural Effusion,left lower lobe collapse"
  --prompts=mine.json
    {"collapse": {"positive": ["There is left lower lobe collapse."],
                  "negative": ["The left lower lobe is aerated."]}}

A score is a difference of cosines, in [-2, 2]: it orders images, and is no
probability. A file that cannot be scored gets a row with the reason. Pixels are
prepared as the checkpoint says. Research software, not for clinical use.
"""

import json
import sys
from pathlib import Path

from absl import app, flags

# Nothing that needs jax: the processes that read files import this one too.
from tier_jax.evaluators import prompts
from tier_jax.evaluators.benchmarks import registry

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Work directory of the training.", required=True
)
_INPUTS = flags.DEFINE_list(
  "inputs",
  None,
  "Images, folders of images and .csv files of paths, separated by commas.",
  required=True,
)
_PATH_COLUMN = flags.DEFINE_string(
  "path_column", "path", "Column of the .csv files that holds the paths."
)
_BENCHMARK = flags.DEFINE_string(
  "benchmark",
  None,
  f"Whose labels to score, of {', '.join(registry.NAMES[:-1])}.",
)
_PROMPTS = flags.DEFINE_string(
  "prompts",
  None,
  "In place of --benchmark: names of findings, separated by commas, or a .json "
  "file of sentences that state and deny them.",
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "The .csv file to write.", required=True
)
_HEATMAPS = flags.DEFINE_string(
  "heatmaps",
  None,
  "Folder for pictures, ROW_COLUMN_LABEL.png: what each place of an image adds "
  "to a score, each in its own range of colours.",
)
_STEP = flags.DEFINE_string(
  "step",
  None,
  "Checkpoint to use: a number, or best; default: the newest sound one.",
)
_PARAMS = flags.DEFINE_enum(
  "params",
  None,
  ["ema", "raw"],
  "Moving average of the parameters, or themselves; default: the average, if "
  "the training kept one.",
)


def main(argv: list[str]) -> None:
  """Restores the model, then scores file by file."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  from tier_jax import image_files, inference, metric_writer, predict

  metric_writer.log_plainly()
  output = Path(_OUTPUT.value)
  try:
    asked = _asked()
    paths = image_files.find(_INPUTS.value, _PATH_COLUMN.value)
    inference.keep_compiled()
    step = inference.parse_step(_STEP.value)
    model = inference.load(_WORKDIR.value, step, _PARAMS.value)
    heatmaps = Path(_HEATMAPS.value) if _HEATMAPS.value else None
    counts = predict.predict(model, paths, asked, output, heatmaps)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    print(f"interrupted: rows so far are in {output}.part", file=sys.stderr)
    sys.exit(130)
  print(f"scored {counts.scored} of {len(paths)} images: {output}")
  for reason, count in sorted(
    counts.left_out.items(), key=lambda item: (-item[1], item[0])
  ):
    print(f"left out {count}: {reason}")
  if not counts.scored:
    sys.exit("error: no image was scored, the column status says why")


def _asked() -> dict[str, prompts.Prompts]:
  """Returns the sentences of each label."""
  if bool(_BENCHMARK.value) == bool(_PROMPTS.value):
    raise ValueError("expected one of --benchmark and --prompts")
  if _BENCHMARK.value:
    benchmark = registry.find(_BENCHMARK.value)
    if benchmark.labels is None:
      raise ValueError(
        f"benchmark {benchmark.name!r} has the labels of its data, expected "
        "--prompts"
      )
    return {label: benchmark.prompts(label) for label in benchmark.labels}
  given = _PROMPTS.value or ""
  if not given.endswith(".json"):
    names = [name.strip() for name in given.split(",")]
    return prompts.parse([name for name in names if name])
  path = Path(given)
  try:
    return prompts.parse(json.loads(path.read_text("utf-8")))
  except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
    raise ValueError(f"--prompts: {path.name} is no JSON: {error}") from None


if __name__ == "__main__":
  app.run(main)
