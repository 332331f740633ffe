"""Trains a dual encoder, or resumes the training that the workdir holds.

  python launch/train.py --config=configs/vit_b16.py --workdir=runs/vit_b16 \
    --config.data.data_dir=data
"""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from tier_jax import config as config_lib
from tier_jax import distributed, metric_writer, train

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Python file with get_config, as FILE or FILE:ARGUMENT."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory for checkpoints and logs; resumed if it has any."
)
_DRY_RUN = flags.DEFINE_boolean(
  "dry_run", False, "Stop before step one, having said what a step needs."
)


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  metric_writer.log_plainly()
  try:
    distributed.initialize()
    config = config_lib.build(_CONFIG.value)
    train.train_and_evaluate(
      config, _WORKDIR.value or "", dry_run=_DRY_RUN.value
    )
  except ValueError as error:
    # Bad input: the message says it all, a stack would bury it; --verbosity=1
    # shows it.
    logging.debug("", exc_info=True)
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main)
