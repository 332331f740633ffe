"""What the finished runs of a study say, as a table and a page.

  python launch/study.py --runs=runs/study

Each run lies in DIR/SETTING.ARM.SEED, trained and evaluated by launch/train.py
and launch/eval.py there. Arms are compared with the baseline of the same
setting and seed. Writes study.json, study.md and study.html into DIR; run it
again when more runs are finished.
"""

import json
import sys
from pathlib import Path

from absl import app, flags

from tier_jax.study import comparison, page, words

_RUNS = flags.DEFINE_string(
  "runs", None, "The directory of the runs.", required=True
)
_BASELINE = flags.DEFINE_string(
  "baseline", "plain", "The arm that the others are compared with."
)


def main(argv: list[str]) -> None:
  """Compares the runs, writes the files, prints the table."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  directory = Path(_RUNS.value or "")
  try:
    study = comparison.summarise(directory, _BASELINE.value or "")
  except ValueError as error:
    sys.exit(f"error: {error}")
  text = json.dumps(study, indent=2, allow_nan=False) + "\n"
  (directory / "study.json").write_text(text, "utf-8")
  table = words.markdown(study)
  (directory / "study.md").write_text(table, "utf-8")
  page.write(directory / "study.html", study)
  print(table)
  print(f"page: {directory / 'study.html'}")


if __name__ == "__main__":
  app.run(main)
