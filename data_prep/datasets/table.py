"""Any CSV file that names an image and a text, labels, or both."""

import collections
import dataclasses
import re
from pathlib import Path

from data_prep import items, labels, reports, splits

NO_FINDING = "no finding"

_CORNERS = ("x0", "y0", "x1", "y1")
_Boxes = dict[str, list[tuple[str, tuple[float, float, float, float]]]]


@dataclasses.dataclass(frozen=True)
class TableOptions:
  """Which column means what; None or () means that there is none.

  Attributes:
    image_column: path of the image below the source directory.
    text_column: a report or a caption.
    label_columns: one column a label, with values 1, 0, -1 or blank.
    labels_column: all present labels in one cell; the rest are absent.
    labels_separator: between them.
    label_names: all labels that there are; by default those that occur.
    patient_column, study_column: ids; a study without one is its patient's
      image, a patient without one is the image.
    view_column, sex_column, age_column: as their names say.
    split_column: with train, validate (val, valid) and test.
    split: puts all images in this one.
    split_fractions: of train, validate and test, by hashed patient.
    split_seed: for another division into the same fractions.
  """

  image_column: str
  text_column: str | None = None
  label_columns: tuple[str, ...] = ()
  labels_column: str | None = None
  labels_separator: str = "|"
  label_names: tuple[str, ...] = ()
  patient_column: str | None = None
  study_column: str | None = None
  view_column: str | None = None
  sex_column: str | None = None
  age_column: str | None = None
  split_column: str | None = None
  split: str | None = None
  split_fractions: tuple[float, ...] = ()
  split_seed: int = 0

  def __post_init__(self):
    if not (self.text_column or self.label_columns or self.labels_column):
      raise ValueError(
        "none of text_column, label_columns, labels_column is given, expected "
        "one at least"
      )
    if self.label_columns and self.labels_column:
      raise ValueError(
        "label_columns and labels_column are both given, expected one"
      )
    if self.label_names and not self.labels_column:
      raise ValueError("label_names needs labels_column")
    if not self.labels_separator:
      raise ValueError("labels_separator is empty, expected such as '|'")
    ways = (self.split_column, self.split, self.split_fractions)
    if sum(map(bool, ways)) != 1:
      raise ValueError(
        "expected exactly one of split_column, split and split_fractions"
      )
    if self.split is not None and self.split not in splits.SPLITS:
      raise ValueError(
        f"split {self.split!r} is not one of {', '.join(splits.SPLITS)}"
      )
    if self.split_fractions:
      splits.check_fractions(self.split_fractions)
      if not self.patient_column:
        raise ValueError(
          "split_fractions needs patient_column: images of one patient must "
          "not come apart"
        )


def plan(
  source_dir: Path,
  table: Path,
  name: str,
  options: TableOptions,
  boxes: Path | None = None,
) -> items.Plan:
  """Returns what to convert.

  A text with findings or impression gives these. Of any other, such as a
  caption, all but signatures and the sections known as something else, such as
  "HISTORY:", is filed as impression, which is what training reads first. Where
  nothing is left of a text, a note of the item says so.

  Args:
    source_dir: the images' paths start here.
    table: the CSV file, `.gz` or not; not looked for below `source_dir`.
    name: of the dataset, such as "our_hospital".
    options: which column means what.
    boxes: another CSV file, a row a box: the image as in image_column, name,
      and x0, y0, x1, y1 in pixels of the image.

  Raises:
    ValueError: if the name, a table or one of its cells is not as expected.
  """
  if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
    raise ValueError(
      f"name {name!r} is not lower-case letters, digits and underscores"
    )
  if not source_dir.is_dir():
    raise ValueError(f"source_dir {source_dir.name!r} is not a directory")
  single = [
    value
    for field, value in dataclasses.asdict(options).items()
    if field.endswith("_column") and value
  ]
  columns = [*dict.fromkeys([*single, *options.label_columns])]
  rows = labels.read_table(table, columns)
  all_labels = _read_labels(rows, table.name, options)
  drawn = _read_boxes(boxes) if boxes else {}
  found = []
  filtered: collections.Counter[str] = collections.Counter()
  for number, (row, values) in enumerate(zip(rows, all_labels, strict=True), 1):

    def cell(column: str | None, row: dict[str, str] = row) -> str:
      return row[column].strip() if column else ""

    image, patient, study = (
      labels.parse_id(row, column, table.name, number) if column else ""
      for column in (
        options.image_column,
        options.patient_column,
        options.study_column,
      )
    )
    if not image:
      filtered["image:blank"] += 1
      continue
    if options.patient_column and not patient:
      filtered["patient:blank"] += 1
      continue
    patient = patient or image
    text = cell(options.text_column)
    findings, impression = _parse_text(text)
    view, sex, age = (
      cell(column)
      for column in (
        options.view_column,
        options.sex_column,
        options.age_column,
      )
    )
    notes = labels.note_view(view)
    notes += labels.note_sex(sex) + labels.note_age(age)
    if text and not (findings or impression):
      notes += ("report:no_findings_or_impression",)
    found.append(
      items.Item(
        image_paths=(image,),
        split=_split(
          cell(options.split_column), patient, options, table.name, number
        ),
        image_id=image,
        study_id=f"{patient}/{study}" if study else image,
        patient_id=patient,
        view=labels.parse_view(view),
        findings=findings,
        impression=impression,
        labels=values,
        sex=labels.parse_sex(sex),
        age_band=labels.age_band(age),
        boxes=tuple(drawn.pop(image, ())),
        notes=notes,
      )
    )
  if drawn:
    filtered["boxes:of_no_planned_image"] = sum(map(len, drawn.values()))
  settings = dataclasses.asdict(options)
  if not options.labels_column:
    del settings["labels_separator"]
  if not options.split_fractions:
    del settings["split_seed"]
  settings = {
    field: value
    for field, value in settings.items()
    if value is not None and value != ()
  }
  return items.Plan(name, source_dir, found, filtered, settings=settings)


def _read_boxes(path: Path) -> _Boxes:
  boxes: _Boxes = {}
  rows = labels.read_table(path, ("image", "name", *_CORNERS))
  for number, row in enumerate(rows, 1):
    image = labels.parse_id(row, "image", path.name, number)
    name = reports.clean(row["name"])
    x0, y0, x1, y1 = labels.parse_numbers(row, _CORNERS, path.name, number)
    if not (image and name and x0 < x1 and y0 < y1):
      raise ValueError(
        f"table {path.name} row {number}: expected an image, a name, x0 < x1 "
        "and y0 < y1"
      )
    boxes.setdefault(image, []).append((name, (x0, y0, x1, y1)))
  return boxes


def _parse_text(text: str) -> tuple[str, str]:
  sections = reports.parse_report(text)
  findings = sections.get("findings", "")
  impression = sections.get("impression", "")
  if findings or impression:
    return findings, impression
  return "", reports.join_parts(sections)


def _split(
  cell: str, patient: str, options: TableOptions, table: str, number: int
) -> str:
  if options.split:
    return options.split
  if options.split_fractions:
    return splits.assign_split(
      patient, options.split_fractions, options.split_seed
    )
  split = splits.parse_split(cell)
  if split is None:
    raise ValueError(
      f"table {table} row {number} column {options.split_column!r} is none of "
      "train, validate, test"
    )
  return split


def _read_labels(
  rows: list[dict[str, str]], table: str, options: TableOptions
) -> list[dict[str, int]]:
  if not options.labels_column:
    return [
      labels.parse_values(row, options.label_columns, table, number)
      for number, row in enumerate(rows, 1)
    ]
  named = [
    {
      label
      for part in row[options.labels_column].split(options.labels_separator)
      if (label := reports.clean(part))
    }
    for row in rows
  ]
  known = set(options.label_names) or set().union(*named)
  for number, present in enumerate(named, 1):
    # "No Finding" may go without being listed: it says that none is there.
    strange = {
      label for label in present - known if label.lower() != NO_FINDING
    }
    if strange:
      raise ValueError(
        f"table {table} row {number} column {options.labels_column!r} holds "
        f"{len(strange)} label(s) that are not in label_names"
      )
  # A blank cell says nothing about any label.
  return [
    {label: int(label in present) for label in sorted(known)} if present else {}
    for present in named
  ]
