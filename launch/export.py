r"""Writes a trained model for others, with a model card.

  python launch/export.py --workdir=runs/demo/tier --output_dir=runs/demo/export
  python launch/export.py --workdir=runs/demo/tier --format=stablehlo \
    --output_dir=runs/demo/export_stablehlo

As hugging_face, `image_tower` and `text_tower` load with transformers (a ResNet
does not); heads.safetensors holds the two projection heads and the logits'
scale and bias. As stablehlo, load.py embeds images and texts and needs only
jax, on CPUs, GPUs and TPUs.
"""

import sys
from pathlib import Path

from absl import app, flags

from tier_jax import export, inference, metric_writer, stablehlo

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Work directory of the training.", required=True
)
_OUTPUT_DIR = flags.DEFINE_string(
  "output_dir", None, "Where to write.", required=True
)
_FORMAT = flags.DEFINE_enum(
  "format",
  "hugging_face",
  ["hugging_face", "stablehlo"],
  "What is written: weights that transformers loads, or programs for jax.",
)
_STEP = flags.DEFINE_string(
  "step",
  None,
  "Checkpoint to export: a number, or best; default: the newest sound one.",
)
_PARAMS = flags.DEFINE_enum(
  "params",
  None,
  ["ema", "raw"],
  "Moving average of the parameters, or themselves; default: the average, if "
  "the training kept one.",
)


def main(argv: list[str]) -> None:
  """Restores the checkpoint and writes it."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  metric_writer.log_plainly()
  workdir, output_dir = Path(_WORKDIR.value), Path(_OUTPUT_DIR.value)
  try:
    step = inference.parse_step(_STEP.value)
    model = inference.load(workdir, step, _PARAMS.value)
    write = export.write if _FORMAT.value == "hugging_face" else stablehlo.write
    write(model, output_dir, workdir)
  except ValueError as error:
    sys.exit(f"error: {error}")
  print(
    f"exported step {model.step}, {model.params_kind} parameters, to "
    f"{output_dir}"
  )


if __name__ == "__main__":
  app.run(main)
