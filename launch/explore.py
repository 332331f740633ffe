"""Serves a page on which a trained model can be explored, image by image.

  python launch/explore.py --workdir=runs/demo/tier --data_dir=runs/demo/data

prints an address of this machine to open in a browser. Drop a DICOM, PNG or
JPEG, and type a phrase: a heat-map says where it is seen. Findings are scored
by sentences that can be edited, and with --data_dir the nearest reports and
images of a prepared dataset are shown, whose vectors are computed once.

Nothing leaves the machine: the page listens on 127.0.0.1 alone, and what is
dropped is deleted once it is read. It needs `pip install -e .[explore]`.
Research software, not for clinical use.
"""

import sys
from importlib import util
from pathlib import Path

from absl import app, flags

# Nothing that needs jax: the processes that read files import this one too.
from tier_jax.evaluators.benchmarks import registry

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Work directory of the training.", required=True
)
_PORT = flags.DEFINE_integer(
  "port", 7860, "To listen on.", lower_bound=1, upper_bound=65535
)
_BENCHMARK = flags.DEFINE_string(
  "benchmark",
  "chexpert",
  f"Whose labels are scored at first, of {', '.join(registry.NAMES[:-1])}.",
)
_DATA_DIR = flags.DEFINE_string(
  "data_dir",
  None,
  "Root of the prepared datasets. Given, the nearest reports and images of one "
  "are shown; its vectors are kept in the workdir's folder index.",
)
_DATASET = flags.DEFINE_string(
  "dataset", None, "Its directory there; default: the training's first."
)
_SPLIT = flags.DEFINE_string(
  "split", None, "Split of it; default: test or, without one, validate."
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
  """Restores the model, builds the index, and serves."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  if util.find_spec("gradio") is None:
    sys.exit("error: gradio is not installed: pip install -e .[explore]")
  from tier_jax import inference, metric_writer
  from tier_jax.explore import explorer, index, server

  metric_writer.log_plainly()
  try:
    benchmark = registry.find(_BENCHMARK.value)
    if benchmark.labels is None:
      raise ValueError(
        f"benchmark {benchmark.name!r} has the labels of its data, expected "
        "one with labels of its own"
      )
    asked = {label: benchmark.prompts(label) for label in benchmark.labels}
    server.check(_PORT.value)
    inference.keep_compiled()
    step = inference.parse_step(_STEP.value)
    model = inference.load(_WORKDIR.value, step, _PARAMS.value)
    found = None
    if _DATA_DIR.value:
      dataset = _DATASET.value or model.config.data.datasets[0]
      found = index.load(
        model,
        Path(_DATA_DIR.value) / dataset,
        _SPLIT.value,
        Path(_WORKDIR.value) / "index",
      )
    server.serve(explorer.Explorer(model, found), asked, _PORT.value)
  except (ValueError, OSError) as error:
    sys.exit(f"error: {error}")
  except KeyboardInterrupt:
    sys.exit(130)


if __name__ == "__main__":
  app.run(main)
