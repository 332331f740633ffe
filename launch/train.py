"""Trains a dual encoder, or resumes the training that the workdir holds.

  python launch/train.py --config=configs/vit_b16.py --workdir=runs/vit_b16 \\
    --config.data.data_dir=data

Ends with 0 when done; 1 on bad input, a full or unwritable disk, or a loss that
is not finite, all said in one line; 75 when preempted, the state saved: start
the same command again; 76 when the watchdog saw no step for too long.
"""

import re
import sys

import jax
from absl import app, flags, logging
from ml_collections import config_flags

from tier_jax import config as config_lib
from tier_jax import distributed, metric_writer, overrides, train

_CONFIG = config_flags.DEFINE_config_file(
  "config", None, "Python file with get_config, as FILE or FILE:ARGUMENT."
)
_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory for checkpoints and logs; resumed if it has any."
)
_DRY_RUN = flags.DEFINE_boolean(
  "dry_run", False, "Stop before step one, having said what a step needs."
)
_PROFILE_STEPS = flags.DEFINE_string(
  "profile_steps",
  None,
  "Steps to trace into workdir/profile, as FIRST:STOP; STOP is the first that "
  "is left out: 100:105 are five.",
)


def profile_steps(text: str | None) -> tuple[int, int] | None:
  """Returns the first step of a profile and the one after its last."""
  if text is None:
    return None
  match = re.fullmatch(r"(\d+):(\d+)", text)
  if not match or not 1 <= int(match[1]) < int(match[2]):
    raise ValueError(
      f"--profile_steps is {text!r}, expected FIRST:STOP such as 100:105, "
      "FIRST at least 1 and STOP above it"
    )
  return int(match[1]), int(match[2])


def main(argv):
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  metric_writer.log_plainly()
  try:
    distributed.initialize()
    config = config_lib.build(_CONFIG.value)
    profile = profile_steps(_PROFILE_STEPS.value)
    if jax.process_index() == 0:
      config_lib.log(config, overrides.replaced(_CONFIG))
    train.train_and_evaluate(
      config,
      _WORKDIR.value or "",
      dry_run=_DRY_RUN.value,
      profile_steps=profile,
    )
  except (ValueError, OSError, FloatingPointError) as error:
    # The message says it all, a stack would bury it; --verbosity=1 shows it.
    logging.debug("", exc_info=True)
    sys.exit(f"error: {error}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["config", "workdir"])
  app.run(main, flags_parser=overrides.parse_flags)
