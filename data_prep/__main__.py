"""Prepares a dataset: `python -m data_prep DATASET --help`."""

import argparse
import collections
import csv
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from data_prep import (
  build,
  dicom,
  duplicates,
  ids,
  inspection,
  items,
  labels,
  splits,
  verify,
)
from data_prep.datasets import (
  chexpert,
  mimic_cxr,
  nih_cxr14,
  open_i,
  padchest,
  rsna,
  table,
  vindr_cxr,
)

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

_IDS_EXAMPLE = """example:
  python -m data_prep ids chexpert --id_key_file=prepared/id_key \\
      --list=images.txt > private/image_ids.csv"""

_IDS_TEXT = """Hashed ids.

Prints raw and hashed ids, a pair a row, so that scores which another program
made from the source's files can name images as records do. What it prints
links them to the source: keep it as private as the key. One raw id a line:

  chexpert    test/patient64741/study1/view1_frontal.jpg, study patient1/study1
  mimic_cxr   the dicom_id
  padchest    ImageID
  nih_cxr14   Image Index
  open_i      1_1_IM-0001-3001
  rsna        patientId
  vindr_cxr   image_id
  a table's   the cell of image_column"""

_PHANTOM_EXAMPLE = """example:
  python -m data_prep phantom --output_dir=runs/raw --num_patients=200 --seed=0
  python -m data_prep mimic_cxr --source_dir=runs/raw/mimic_cxr \\
      --output_dir=runs/data/mimic_cxr"""

_SOURCES = {
  "mimic_cxr": (mimic_cxr.plan, "MIMIC-CXR 2.0.0, DICOM images"),
  "mimic_cxr_jpg": (mimic_cxr.plan_jpg, "MIMIC-CXR-JPG 2.0.0"),
  "chexpert": (chexpert.plan, "CheXpert, full or small"),
  "padchest": (padchest.plan, "PadChest"),
  "open_i": (open_i.plan, "the Indiana University collection"),
  "nih_cxr14": (nih_cxr14.plan, "NIH ChestX-ray14"),
  "rsna": (rsna.plan, "the RSNA Pneumonia Detection Challenge"),
  "vindr_cxr": (vindr_cxr.plan, "VinDr-CXR"),
}


def main(argv: Sequence[str] | None = None) -> int:
  """Runs the command line and returns the exit status.

  A mistake in the flags or the source ends with status 2 and one line; a
  dataset that `verify` finds wrong with status 1.
  """
  arguments = _make_parser().parse_args(argv)
  try:
    return arguments.run(arguments) or 0
  except (ImportError, ValueError, OSError) as error:
    message = str(error)
    if isinstance(error, OSError):
      # Its own text would name a file of the source.
      message = f"{type(error).__name__}: {error.strerror}"
    print(f"data_prep {arguments.command}: error: {message}", file=sys.stderr)
    return 2


def _prepare(arguments: argparse.Namespace) -> None:
  if not arguments.source_dir.is_dir():
    raise ValueError(
      f"source_dir {str(arguments.source_dir)!r} is no directory"
    )
  if arguments.command == "table":
    plan = table.plan(
      arguments.source_dir,
      arguments.table,
      arguments.name,
      _table_options(arguments),
      arguments.boxes,
    )
  else:
    plan = _SOURCES[arguments.command][0](arguments.source_dir)
  key = ids.load_key(
    arguments.id_key_file, arguments.output_dir, make=not arguments.dry_run
  )
  if arguments.deny_list:
    denied = frozenset().union(
      *(splits.read_deny_list(path) for path in arguments.deny_list)
    )
    plan = splits.apply_deny_list(plan, denied, key)
  if arguments.dry_run:
    build.check_plan(plan)
    print(describe(plan))
    return
  manifest = build.build(
    plan,
    arguments.output_dir,
    key=key,
    short_side=arguments.short_side,
    recipe=arguments.recipe,
    shard_records=arguments.shard_records,
    num_workers=arguments.num_workers,
    limit=arguments.limit,
    runner=arguments.runner,
    beam_flags=arguments.beam_flags,
  )
  print(summarise(manifest))
  if "://" not in arguments.output_dir:
    print(f"look at it: python -m data_prep inspect {arguments.output_dir}")


def _verify(arguments: argparse.Namespace) -> int:
  wrong = verify.verify(arguments.directory)
  print("\n".join(wrong), end="\n" if wrong else "")
  return 1 if wrong else 0


def _inspect(arguments: argparse.Namespace) -> None:
  print(inspection.write(arguments.directory, arguments.output))


def _hash_ids(arguments: argparse.Namespace) -> None:
  # Nothing is written but to stdout.
  key = ids.load_key(arguments.id_key_file, Path(os.devnull))
  writer = csv.writer(sys.stdout, lineterminator="\n")
  writer.writerow([arguments.kind, f"{arguments.kind}_id"])
  for raw_id in labels.read_names(arguments.list):
    hashed = ids.hash_id(key, arguments.dataset, arguments.kind, raw_id)
    writer.writerow([raw_id, hashed])


def _draw_phantom(arguments: argparse.Namespace) -> None:
  # Only this command needs the drawing code.
  from data_prep.phantom import generate

  generate.generate(
    arguments.output_dir,
    arguments.num_patients,
    arguments.seed,
    arguments.num_workers,
  )


def describe(plan: items.Plan) -> str:
  """Returns the table of what a plan would convert, before any file is read."""
  counts = {}
  kept = [item for item in plan.items if not item.denied]
  for split in splits.SPLITS:
    of_split = [item for item in kept if item.split == split]
    counts[split] = {
      "records": len(of_split),
      "studies": len({item.study_id for item in of_split}),
      "patients": len({item.patient_id for item in of_split}),
    }
  views = collections.Counter(item.view for item in kept)
  labels = collections.Counter(name for item in kept for name in item.labels)
  lines = _table(counts)
  lines += _tally("views", views)
  lines += _tally("labels stated", labels)
  lines += _tally(
    "images with boxes",
    {
      "boxes": sum(bool(item.boxes) for item in kept),
      "masks": sum(bool(item.masks) for item in kept),
    },
  )
  lines += _tally(
    "rejected files", collections.Counter(reason for _, reason in plan.rejected)
  )
  filtered = collections.Counter(plan.filtered)
  filtered.update(item.denied for item in plan.items if item.denied)
  lines += _tally("left out", filtered)
  return "\n".join(lines)


def summarise(manifest: dict) -> str:
  """Returns the table of what was written and what was not."""
  lines = _table(manifest["splits"])
  lines += _tally("rejected files", manifest["rejects"])
  lines += _tally("left out", manifest["filtered"])
  lines += _tally("notes", manifest["notes"])
  if near := manifest["near_duplicates"]:
    lines.append(
      f"pairs across splits that look alike: {near}, in near_duplicates.jsonl"
      + (" (more were not looked for)" if near == duplicates.MAX_PAIRS else "")
    )
  return "\n".join(lines)


def _table(splits_: Mapping[str, Mapping[str, int]]) -> list[str]:
  columns = ("records", "studies", "patients")
  return [
    f"{'split':<10}" + "".join(f"{column:>9}" for column in columns),
    *(
      f"{split:<10}" + "".join(f"{counts[column]:>9}" for column in columns)
      for split, counts in splits_.items()
    ),
  ]


def _tally(title: str, counts: Mapping[str, int]) -> list[str]:
  counts = {name: number for name, number in counts.items() if number}
  total = sum(counts.values()) if counts else "none"
  return [
    f"{title}: {total}",
    *(f"{number:>9}  {name}" for name, number in sorted(counts.items())),
  ]


def _table_options(arguments: argparse.Namespace) -> table.TableOptions:
  fields = table.TableOptions.__dataclass_fields__
  return table.TableOptions(
    **{name: getattr(arguments, name) for name in fields}
  )


def _make_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog="python -m data_prep",
    description="Turns a chest x-ray dataset, as distributed, into shards.",
    epilog="`python -m data_prep COMMAND --help` shows an example of each.",
  )
  commands = parser.add_subparsers(
    dest="command", required=True, metavar="COMMAND"
  )
  for name, (plan, text) in _SOURCES.items():
    example = _EXAMPLE.format(dataset=name)
    command = _add_command(commands, name, text, example, plan.__doc__)
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
    run=_draw_phantom,
  )
  command.add_argument("--output_dir", type=Path, required=True)
  command.add_argument("--num_patients", type=int, required=True)
  command.add_argument("--seed", type=int, default=0)
  _add_workers_flag(command)
  command = _add_command(
    commands,
    "verify",
    "says whether a prepared dataset is still what its manifest says",
    "example:\n  python -m data_prep verify prepared/padchest",
    run=_verify,
  )
  command.add_argument("directory", help="a path or a URL")
  command = _add_command(
    commands,
    "ids",
    "prints the hashed ids of raw ones",
    _IDS_EXAMPLE,
    _IDS_TEXT,
    run=_hash_ids,
  )
  command.add_argument("dataset", help="the name under which it was prepared")
  command.add_argument("--id_key_file", type=Path, required=True)
  command.add_argument("--list", type=Path, required=True, help="a text file")
  command.add_argument(
    "--kind", choices=("image", "study", "patient"), default="image"
  )
  command = _add_command(
    commands,
    "inspect",
    "writes one page to look at a prepared dataset",
    "example:\n  python -m data_prep inspect prepared/padchest",
    run=_inspect,
  )
  command.add_argument("directory", type=Path)
  command.add_argument(
    "--output", type=Path, help="default: inspect.html in the directory"
  )
  return parser


def _add_command(
  commands,
  name: str,
  text: str,
  example: str,
  doc: str | None = None,
  run: Callable[[argparse.Namespace], int | None] = _prepare,
) -> argparse.ArgumentParser:
  # The module's own words on what source_dir must hold and what is done.
  body = inspect.cleandoc(doc or "").partition("\n")[2].partition("Raises:")[0]
  command = commands.add_parser(
    name,
    help=text,
    description=f"{text[0].upper()}{text[1:]}.\n{body}".rstrip(),
    usage=f"python -m data_prep {name} FLAGS",
    epilog=example,
    formatter_class=argparse.RawDescriptionHelpFormatter,
  )
  command.set_defaults(run=run)
  return command


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
    required=True,
    help="a path, or a URL such as gs://bucket/dir (needs gcsfs) or s3:// "
    "(needs s3fs); a dataset that is already there is replaced at the end, at "
    "a URL it is an error. A run that was stopped goes on where it was",
  )
  command.add_argument(
    "--dry_run",
    action="store_true",
    help="prints what the tables promise, whatever --limit; reads no image or "
    "report and writes nothing",
  )
  command.add_argument(
    "--limit", type=int, help="images a split, at most: for a first try"
  )
  command.add_argument(
    "--recipe",
    choices=dicom.RECIPES,
    default="voi",
    help="how more than 8 bits become grey (default: %(default)s)",
  )
  command.add_argument(
    "--deny_list",
    type=Path,
    action="append",
    help="a file of patient, study or image ids, one a line, the source's or "
    "hashed, to leave out of train and validate; may be given again",
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
    default=1024,
    help="images a shard, at most (default: %(default)s)",
  )
  command.add_argument(
    "--id_key_file",
    type=Path,
    help="64 hexadecimal digits that key the hashed ids (default: id_key "
    "beside output_dir, made once; at a URL it must be given)",
  )
  _add_workers_flag(command)
  command.add_argument(
    "--runner",
    default="local",
    help="local, or one of Apache Beam's (extra `beam`) such as DirectRunner, "
    "for which --num_workers does not count (default: %(default)s)",
  )
  command.add_argument(
    "--beam_flags",
    type=str.split,
    default=(),
    metavar="'FLAGS'",
    help="of Beam, such as --beam_flags='--temp_location=gs://ours/tmp'",
  )


def _add_table_flags(command: argparse.ArgumentParser) -> None:
  command.add_argument("--table", type=Path, required=True, help="the CSV file")
  command.add_argument("--name", required=True, help="of the dataset")
  command.add_argument(
    "--boxes",
    type=Path,
    help="another CSV file, a row a box: image (as in image_column), name, x0, "
    "y0, x1, y1 in pixels of the image",
  )
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
