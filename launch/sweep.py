"""Searches the penalty weights: trains with many, scores each on validation.

  python launch/sweep.py --config=configs/vit_b16.py \\
    --config.data.data_dir=data --workdir=runs/sweep --num_trials=30

Needs the extra `.[sweep]`. The same command on several machines, or once a GPU
under CUDA_VISIBLE_DEVICES, shares the trials out; started again, it goes on
where it was. Every trial is a run of launch/train.py in WORKDIR/trial_NNN, and
train.log there has its words. Result: WORKDIR/sweep.csv and sweep.html.

Ends with 0 when all trials have a score or are others'; 1 on bad input or when
a trial failed; 75 when preempted, the training saved.
"""

import sys
from pathlib import Path

import optuna
from absl import app, flags, logging

from tier_jax.sweep import launcher, search

_WORKDIR = flags.DEFINE_string(
  "workdir", None, "Directory of the search; the same on all machines."
)
_NUM_TRIALS = flags.DEFINE_integer(
  "num_trials", None, "Trials in all, the one without penalties included."
)
_SEED = flags.DEFINE_integer("seed", 0, "Of the weights.")
_STORAGE = flags.DEFINE_string(
  "storage",
  None,
  "Database as Optuna's URL, such as postgresql://...; by default a file in "
  "--workdir, which may be shared by NFS.",
)


def main(argv: list[str]) -> None:
  """Takes part in the search until it is done."""
  logging.set_verbosity(logging.INFO)
  optuna.logging.set_verbosity(optuna.logging.WARNING)
  try:
    training = launcher.training_flags(argv[1:])
    workdir = Path(_WORKDIR.value or "")
    workdir.mkdir(parents=True, exist_ok=True)
    sweep = search.Sweep(
      search.open_storage(workdir, _STORAGE.value),
      workdir,
      num_trials=_NUM_TRIALS.value or 0,
      seed=_SEED.value,
      training=training,
    )
    script = Path(__file__).with_name("train.py")
    sweep.run(launcher.Launcher(script, training))
  except (ValueError, OSError, search.TrainingError) as error:
    sys.exit(f"error: {error}")
  print(f"result: {workdir / 'sweep.html'}")


if __name__ == "__main__":
  flags.mark_flags_as_required(["workdir", "num_trials"])
  app.run(main, flags_parser=lambda argv: flags.FLAGS(argv, known_only=True))
