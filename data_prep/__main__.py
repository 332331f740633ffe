"""Prepares a dataset: `python -m data_prep DATASET --help`."""

import argparse
import inspect
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from data_prep import build, ids
from data_prep.datasets import chexpert, mimic_cxr, open_i, padchest, table

_EXAMPLE = """example:
  python -m data_prep {dataset} \\
      --source_dir=/data/{dataset} --output_dir=/data/prepared/{dataset}"""

_TABLE_EXAMPLES = """examples:
  captions, split by patient:
    python -m data_prep table --name=our_hospital --table=notes.csv \\
        --source_dir=images --output_dir=prepared/our_hospital \\
        --image_column=file --text_column=report \\
        --patient_column=patient --split_fractions=0.8,0.1,0.1
  labels in one column, for testing alone:
    python -m data_prep table --name=nih --table=Data_Entry_2017.csv \\
        --source_dir=images --output_dir=prepared/nih \\
        --image_column='Image Index' --labels_column='Finding Labels' \\
        --patient_column='Patient ID' --view_column='View Position' \\
        --sex_column='Patient Gender' --age_column='Patient Age' --split=test"""

_PHANTOM_EXAMPLE = """example:
  python -m data_prep phantom --output_dir=runs/raw --num_patients=200 --seed=0
  python -m data_prep mimic_cxr --source_dir=runs/raw/mimic_cxr \\
      --output_dir=runs/data/mimic_cxr"""

_SOURCES = {
  "mimic_cxr": (mimic_cxr.plan, "MIMIC-CXR 2.0.0, DICOM images"),
  "chexpert": (chexpert.plan, "CheXpert, full or small"),
  "padchest": (padchest.plan, "PadChest"),
  "open_i": (open_i.plan, "the Indiana University collection"),
}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit status.

  A mistake in the flags or the source ends with status 2 and one line.
  """
  arguments = _make_parser().parse_args(argv)
  try:
    if arguments.dataset == "phantom":
      _draw_phantom(arguments)
    else:
      _prepare(arguments)
  except (ValueError, FileNotFoundError) as error:
    print(f"data_prep {arguments.dataset}: error: {error}", file=sys.stderr)
    return 2
  return 0


def _prepare(arguments: argparse.Namespace) -> None:
  if not arguments.source_dir.is_dir():
    raise ValueError(
      f"source_dir {str(arguments.source_dir)!r} is no directory"
    )
  if arguments.dataset == "table":
    plan = table.plan(
      arguments.source_dir,
      arguments.table,
      arguments.name,
      _table_options(arguments),
    )
  else:
    plan = _SOURCES[arguments.dataset][0](arguments.source_dir)
  manifest = build.build(
    plan,
    arguments.output_dir,
    key=ids.load_key(arguments.id_key_file, arguments.output_dir),
    short_side=arguments.short_side,
    shard_records=arguments.shard_records,
    num_workers=arguments.num_workers,
  )
  print(summarise(manifest))


def _draw_phantom(arguments: argparse.Namespace) -> None:
  # Only this command needs the drawing code.
  from data_prep.phantom import generate

  generate.generate(
    arguments.output_dir,
    arguments.num_patients,
    arguments.seed,
    arguments.num_workers,
  )


def summarise(manifest: dict) -> str:
  """Returns the table of what was written and what was not."""
  lines = [f"{'split':<10}{'records':>9}{'studies':>9}{'patients':>9}"]
  for split, counts in manifest["splits"].items():
    lines.append(
      f"{split:<10}{counts['records']:>9}{counts['studies']:>9}"
      f"{counts['patients']:>9}"
    )
  for title, key in (
    ("rejected files", "rejects"),
    ("rows left out", "filtered"),
    ("notes", "notes"),
  ):
    counts = manifest[key]
    lines.append(f"{title}: {sum(counts.values()) if counts else 'none'}")
    lines += [f"{number:>9}  {reason}" for reason, number in counts.items()]
  return "\n".join(lines)


def _table_options(arguments: argparse.Namespace) -> table.TableOptions:
  fields = table.TableOptions.__dataclass_fields__
  return table.TableOptions(
    **{name: getattr(arguments, name) for name in fields}
  )


def _make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m data_prep",
    description="Turns a chest x-ray dataset, as distributed, into shards.",
    epilog="`python -m data_prep DATASET --help` shows an example of each.",
  )
  commands = parser.add_subparsers(
    dest="dataset", required=True, metavar="DATASET"
  )
  for name, (plan, text) in _SOURCES.items():
    command = _add_command(
      commands, name, text, _EXAMPLE.format(dataset=name), plan.__doc__
    )
    _add_build_flags(command)
  command = _add_command(
    commands,
    "table",
    "any CSV that names an image and a text or labels",
    _TABLE_EXAMPLES,
    table.plan.__doc__,
  )
  _add_build_flags(command)
  _add_table_flags(command)
  command = _add_command(
    commands,
    "phantom",
    "draws synthetic patients in the layouts of three datasets",
    _PHANTOM_EXAMPLE,
    None,
  )
  command.add_argument("--output_dir", type=Path, required=True)
  command.add_argument("--num_patients", type=int, required=True)
  command.add_argument("--seed", type=int, default=0)
  _add_workers_flag(command)
  return parser


def _add_command(
  commands, name: str, text: str, example: str, doc: str | None
) -> argparse.ArgumentParser:
  # The module's own words on what source_dir must hold and what is done.
  body = inspect.cleandoc(doc or "").partition("\n")[2].partition("Raises:")[0]
  return commands.add_parser(
    name,
    help=text,
    description=f"{text[0].upper()}{text[1:]}.\n{body}".rstrip(),
    usage=f"python -m data_prep {name} FLAGS",
    epilog=example,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )


def _add_workers_flag(command: argparse.ArgumentParser) -> None:
  command.add_argument(
    "--num_workers",
    type=int,
    default=len(os.sched_getaffinity(0))
    if hasattr(os, "sched_getaffinity")
    else os.cpu_count() or 1,
    help="processes (default: the cores; the result is the same)",
  )


def _add_build_flags(command: argparse.ArgumentParser) -> None:
  command.add_argument("--source_dir", type=Path, required=True)
  command.add_argument(
    "--output_dir",
    type=Path,
    required=True,
    help="a dataset that is already there is replaced at the end",
  )
  command.add_argument(
    "--short_side",
    type=int,
    default=256,
    help="pixels; smaller images stay as they are (default: %(default)s)",
  )
  command.add_argument(
    "--shard_records",
    type=int,
    default=4096,
    help="images a shard, at most (default: %(default)s)",
  )
  command.add_argument(
    "--id_key_file",
    type=Path,
    help="64 hexadecimal digits that key the hashed ids (default: id_key "
    "beside output_dir, made once)",
  )
  _add_workers_flag(command)


def _add_table_flags(command: argparse.ArgumentParser) -> None:
  command.add_argument("--table", type=Path, required=True, help="the CSV file")
  command.add_argument("--name", required=True, help="of the dataset")
  command.add_argument("--image_column", required=True)
  command.add_argument("--text_column", help="reports or captions")
  command.add_argument(
    "--label_columns",
    type=_names,
    default=(),
    metavar="A,B,...",
    help="one column a label: 1, 0, -1 (uncertain) or blank",
  )
  command.add_argument(
    "--labels_column", help="one column that lists the labels present"
  )
  command.add_argument("--labels_separator", default="|")
  command.add_argument(
    "--label_names",
    type=_names,
    default=(),
    metavar="A,B,...",
    help="all labels of labels_column (default: those that occur)",
  )
  for column in ("patient", "study", "view", "sex", "age", "split"):
    command.add_argument(f"--{column}_column")
  command.add_argument("--split", help="puts all images in this split")
  command.add_argument(
    "--split_fractions",
    type=_fractions,
    default=(),
    metavar="0.8,0.1,0.1",
    help="train, validate, test, by hashed patient",
  )
  command.add_argument("--split_seed", type=int, default=0)


def _names(text: str) -> tuple[str, ...]:
  return tuple(name.strip() for name in text.split(",") if name.strip())


def _fractions(text: str) -> tuple[float, ...]:
  return tuple(float(part) for part in text.split(","))


if __name__ == "__main__":
  sys.exit(main())
