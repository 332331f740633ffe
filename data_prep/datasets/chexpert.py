"""CheXpert: JPEG images, labels an image; the test set labelled a study."""

import re
from pathlib import Path

from data_prep import items, labels

_FOLDERS = ("CheXpert-v1.0", "CheXpert-v1.0-small")
_IMAGE = re.compile(
  r"(?:CheXpert-v1\.0(?:-small)?/)?"
  r"((?:train|valid|test)/(patient\d+)/(study\d+)/"
  r"view\d+_(frontal|lateral)\.(?:jpg|jpeg|png))"
)
_STUDY = re.compile(
  r"(?:CheXpert-v1\.0(?:-small)?/)?(test/(patient\d+)/(study\d+))"
)


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert; `valid` becomes the split `validate`.

  Args:
    source_dir: is, or holds, `CheXpert-v1.0` or `CheXpert-v1.0-small`, with
      any of `train.csv`, `valid.csv`, and for the test set `groundtruth.csv`
      (keyed by study; it may also lie beside the folder).

  Raises:
    ValueError: if none of the tables is there, or one of them is malformed.
  """
  root = next(
    (source_dir / name for name in _FOLDERS if (source_dir / name).is_dir()),
    source_dir,
  )
  found = []
  for folder, split in (("train", "train"), ("valid", "validate")):
    if table := labels.find_table([root], f"{folder}.csv"):
      found += _plan_images(table, split)
  if table := labels.find_table([source_dir, root], "groundtruth.csv"):
    found += _plan_test(table, root)
  if not found:
    raise ValueError(
      "source_dir holds no CheXpert: expected train.csv, valid.csv or "
      f"groundtruth.csv in it or in {' or '.join(_FOLDERS)}"
    )
  return items.Plan("chexpert", root, found, settings={"split": "official"})


def _plan_images(table: Path, split: str) -> list[items.Item]:
  columns = ("Path", "Sex", "Age", *labels.CHEXPERT_LABELS)
  found = []
  for number, row in enumerate(labels.read_table(table, columns), 1):
    match = _IMAGE.fullmatch(row["Path"].strip())
    if match is None:
      raise ValueError(
        f"table {table.name} row {number} column 'Path' is not "
        "[CheXpert-v1.0/]SPLIT/patientN/studyN/viewN_VIEW.jpg"
      )
    path, patient, study, view = match.groups()
    found.append(
      items.Item(
        image_paths=(path,),
        split=split,
        image_id=path,
        study_id=f"{patient}/{study}",
        patient_id=patient,
        view=view,
        labels=labels.parse_values(
          row, labels.CHEXPERT_LABELS, table.name, number
        ),
        sex=labels.parse_sex(row["Sex"]),
        age_band=labels.age_band(row["Age"]),
      )
    )
  return found


def _plan_test(table: Path, root: Path) -> list[items.Item]:
  """A study's labels hold for each of its images."""
  found = []
  rows = labels.read_table(table, ("Study", *labels.CHEXPERT_LABELS))
  for number, row in enumerate(rows, 1):
    match = _STUDY.fullmatch(row["Study"].strip().rstrip("/"))
    if match is None:
      raise ValueError(
        f"table {table.name} row {number} column 'Study' is not "
        "[CheXpert-v1.0/]test/patientN/studyN"
      )
    folder, patient, study = match.groups()
    values = labels.parse_values(
      row, labels.CHEXPERT_LABELS, table.name, number
    )
    paths = sorted(
      image
      for path in (root / folder).glob("view*")
      if _IMAGE.fullmatch(image := path.relative_to(root).as_posix())
    )
    # A study whose images are not there is one reject, not nothing.
    for path in paths or [f"{folder}/view1_frontal.jpg"]:
      match = _IMAGE.fullmatch(path)
      found.append(
        items.Item(
          image_paths=(path,),
          split="test",
          image_id=path,
          study_id=f"{patient}/{study}",
          patient_id=patient,
          view=match[4] if match else "unknown",
          labels=values,
        )
      )
  return found
