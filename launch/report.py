"""Sets evaluated runs side by side on one page.

  python launch/report.py --output=runs/demo/report.html \\
    --workdirs=tier=runs/demo/tier,plain=runs/demo/plain

Each work directory holds what launch/eval.py wrote there. Two runs are compared
patient by patient, and the differences are written beside the page, as .json
with the digests of both metrics.json; no model is needed. Runs that differ by
their seed alone are named GROUP/SEED, as in tier/0=DIR,tier/1=DIR: a group
shares one colour.
"""

import sys
from pathlib import Path

from absl import app, flags

from tier_jax.evaluators import differences, report, tables
from tier_jax.evaluators import runs as runs_lib

_WORKDIRS = flags.DEFINE_list(
  "workdirs", None, "NAME=DIR of each run, separated by commas.", required=True
)
_OUTPUT = flags.DEFINE_string(
  "output", None, "The page, an .html file.", required=True
)


def main(argv: list[str]) -> None:
  """Reads the runs, writes the page, prints the figures."""
  if len(argv) > 1:
    raise app.UsageError(f"unexpected argument {argv[1]!r}")
  try:
    runs = []
    for item in _WORKDIRS.value:
      name, equals, directory = item.partition("=")
      if not (name and equals and directory):
        raise ValueError(f"--workdirs has {item!r}, expected NAME=DIR")
      path = Path(directory)
      runs.append(runs_lib.read(name, path, path))
    names = [run.name for run in runs]
    if len(set(names)) != len(names):
      raise ValueError(f"--workdirs names a run twice: {', '.join(names)}")
    output = Path(_OUTPUT.value or "")
    if output.suffix != ".html":
      raise ValueError(f"--output {str(output)!r}, expected a .html file")
    deltas = differences.of_runs(runs)
    report.write(output, runs, deltas)
    if len(runs) == 2:
      text = differences.to_json(runs, deltas)
      output.with_suffix(".json").write_text(text, "utf-8")
  except ValueError as error:
    sys.exit(f"error: {error}")
  if len(runs) <= 2:  # more would not fit on a line
    print(tables.table(runs, deltas))
  print(tables.summary(runs))
  print(f"report: {_OUTPUT.value}")


if __name__ == "__main__":
  app.run(main)
