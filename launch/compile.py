"""Compiles a training step ahead of time; prints what it needs and costs.

  python launch/compile.py --config=configs/vit_b16.py --topology=v5e:16x16

Without --topology for the devices that are here. It needs no data, and no
TPU: libtpu (the extra `tpu`) compiles for those that are not there. Nothing is
downloaded: sizes come from the config where `init` names weights of the hub.
Exits with 1 if the step does not fit.
"""

import json
import os
import sys

from absl import app, flags
from ml_collections import config_flags

from tier_jax import overrides

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Python file with get_config, as FILE or FILE:ARGUMENT."
)
_TOPOLOGY = flags.DEFINE_string(
  "topology", "", "TPUs to compile for, such as v5e:16x16 or v5p:4x4x4."
)
_PAIRS = flags.DEFINE_integer(
  "pairs_per_device",
  None,
  "Replaces config.train.batch_size; where --search_batch starts.",
  lower_bound=1,
)
_SEARCH = flags.DEFINE_boolean(
  "search_batch", False, "Find the most pairs a device, a power of two."
)
_JSON = flags.DEFINE_string("json", None, "File to write the figures to.")


def main(argv: list[str]) -> None:
  """Compiles, prints and writes."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  if _TOPOLOGY.value:
    # Read when jax is imported: no TPU is asked for, and none is locked.
    os.environ["JAX_PLATFORMS"] = "cpu"
    os.environ["TPU_SKIP_MDS_QUERY"] = "1"
    os.environ["TPU_ACCELERATOR_TYPE"] = "v5litepod-4"  # any does
    os.environ["TPU_WORKER_HOSTNAMES"] = "localhost"
    os.environ["ALLOW_MULTIPLE_LIBTPU_LOAD"] = "1"
  from tier_jax import compilation, durations, metric_writer
  from tier_jax import config as config_lib

  metric_writer.log_plainly()
  try:
    config = durations.stand_in(config_lib.build(_CONFIG.value))
    summary = compilation.estimate(
      config, _TOPOLOGY.value, _PAIRS.value, search=_SEARCH.value
    )
  except ValueError as error:
    if _JSON.value and isinstance(error, compilation.DoesNotFitError):
      with open(_JSON.value, "w", encoding="utf-8") as file:
        json.dump({"fits": False, "error": str(error)}, file, indent=2)
    sys.exit(f"error: {error}")
  print(summary.table())
  if _JSON.value:
    compilation.write(summary, _JSON.value)
  if summary.fits is False:
    sys.exit(1)


if __name__ == "__main__":
  flags.mark_flags_as_required(["config"])
  app.run(main, flags_parser=overrides.parse_flags)
