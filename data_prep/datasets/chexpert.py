"""CheXpert: JPEG images, labels an image; the test set labelled a study."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from data_prep import items, labels, masks

_SPLIT_OF = {
  "train": "train",
  "valid": "validate",
  "val": "validate",
  "test": "test",
}

# As they unpack: the release in four archives, of which the first holds the
# tables, in one, small, and as a part of CheXlocalize.
_BATCHES = (
  "CheXpert-v1.0 batch 1 (validate & csv)",
  "CheXpert-v1.0 batch 2 (train 1)",
  "CheXpert-v1.0 batch 3 (train 2)",
  "CheXpert-v1.0 batch 4 (train 3)",
)
_FOLDERS = ("CheXpert-v1.0", "CheXpert-v1.0-small", "CheXpert")

_PREFIX = r"(?:CheXpert-v1\.0(-small)?/)?"
_IMAGE = re.compile(
  _PREFIX + r"((train|valid|val|test)/(patient[0-9]+)/(study[0-9]+)/"
  r"(view[0-9]+_(frontal|lateral))\.(?:jpg|jpeg|png))"
)
_STUDY = re.compile(_PREFIX + r"(test/(patient[0-9]+)/(study[0-9]+))")

MAX_MASK_BYTES = 2**26
_MASKS_LEFT_OUT = "masks:drawn_on_the_full_size_image"
# CheXlocalize's word for what CheXpert calls by another.
_MASK_NAMES = {"Airspace Opacity": "Lung Opacity"}

# "patient1_study1_view1_frontal" -> (name, counts, (height, width)) of each.
_Masks = Mapping[str, tuple[tuple[str, str, tuple[int, int]], ...]]


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert; `valid` becomes the split `validate`.

  The outlines of CheXlocalize, if its files are there, come with the images
  they were drawn on, which are the full-size ones; those that are empty are
  left out. Its "Airspace Opacity" is called "Lung Opacity", as the label is.

  Args:
    source_dir: is, or holds, `CheXpert-v1.0` or `CheXpert-v1.0-small`, or
      holds the four folders `CheXpert-v1.0 batch ...`, with any of `train.csv`,
      `valid.csv`, and for the test set `groundtruth.csv` (keyed by study; it
      may also lie beside the folder) or else `test_labels.csv` (by image). Or
      holds `CheXpert` and `CheXlocalize`, as the latter is distributed;
      `gt_segmentations_{val,test}.json` may also lie beside the tables.

  Raises:
    ValueError: if none of the tables is there, or one of them is malformed.
  """
  in_batches = (source_dir / _BATCHES[0]).is_dir()
  folders = [name for name in _FOLDERS if (source_dir / name).is_dir()]
  if len(folders) + in_batches > 1:
    raise ValueError(
      f"source_dir holds several of {', '.join((*_FOLDERS, _BATCHES[0]))}; "
      "name one of them"
    )
  root = source_dir / folders[0] if folders else source_dir
  directories = [source_dir / _BATCHES[0] if in_batches else root, source_dir]
  places = [*directories, source_dir / "CheXlocalize"]
  outlines = {**_read_masks(places, "val"), **_read_masks(places, "test")}
  spread = _locate_in_batches if in_batches else _locate
  found: list[items.Item] = []
  for names, split in (
    (("train.csv",), "train"),
    (("valid.csv", "val_labels.csv"), "validate"),
    (("groundtruth.csv", "test_labels.csv"), "test"),
  ):
    tables = [labels.find_table(directories, name) for name in names]
    table = next((path for path in tables if path), None)
    if table is None:
      continue
    if table.name.startswith("groundtruth"):
      found += _plan_studies(table, root, outlines)
    else:
      found += _plan_images(table, split, spread, outlines)
  if not found:
    raise ValueError(
      "source_dir holds no CheXpert: expected train.csv, valid.csv, "
      f"groundtruth.csv or test_labels.csv in it or in {_FOLDERS[0]}"
    )
  planned = {_mask_key(item.image_id) for item in found}
  unused = len(outlines.keys() - planned)
  return items.Plan(
    "chexpert",
    root,
    found,
    {"masks:of_no_image_in_the_tables": unused} if unused else {},
    settings={"split": "official", "chexlocalize_masks": bool(outlines)},
  )


def _locate(path: str) -> tuple[str, ...]:
  # CheXlocalize keeps `valid` in a folder `val`, under the same paths.
  return (path, re.sub("^valid/", "val/", path))


def _locate_in_batches(path: str) -> tuple[str, ...]:
  first, *others = _BATCHES
  folder, _, rest = path.partition("/")
  if folder == "train":
    return tuple(
      f"{batch}/{place}" for batch in others for place in (rest, path)
    )
  return (f"{first}/{path}", path)


def _plan_images(
  table: Path,
  split: str,
  spread: Callable[[str], tuple[str, ...]],
  outlines: _Masks,
) -> list[items.Item]:
  found = []
  rows = labels.read_table(
    table, ("Path", *labels.CHEXPERT_LABELS), ("Sex", "Age")
  )
  for number, row in enumerate(rows, 1):
    match = _IMAGE.fullmatch(row["Path"].strip())
    if match is None:
      raise ValueError(
        f"table {table.name} row {number} column 'Path' is not "
        "[CheXpert-v1.0/]SPLIT/patientN/studyN/viewN_VIEW.jpg"
      )
    small, path, folder, patient, study, _, view = match.groups()
    if _SPLIT_OF[folder] != split:
      raise ValueError(
        f"table {table.name} row {number} column 'Path' names an image of "
        "another split"
      )
    drawn = outlines.get(_mask_key(path), ())
    left_out = (_MASKS_LEFT_OUT,) if small and drawn else ()
    sex, age = row.get("Sex", ""), row.get("Age", "")
    found.append(
      items.Item(
        image_paths=tuple(dict.fromkeys(spread(path))),
        split=split,
        image_id=path,
        study_id=f"{patient}/{study}",
        patient_id=patient,
        view=view,
        labels=labels.parse_values(
          row, labels.CHEXPERT_LABELS, table.name, number
        ),
        sex=labels.parse_sex(sex),
        age_band=labels.age_band(age),
        masks=() if small else drawn,
        notes=(*left_out, *labels.note_sex(sex), *labels.note_age(age)),
      )
    )
  return found


def _plan_studies(
  table: Path, root: Path, outlines: _Masks
) -> list[items.Item]:
  """A study's labels hold for each of its images."""
  small = root.resolve().name.endswith("-small")
  found = []
  rows = labels.read_table(table, ("Study", *labels.CHEXPERT_LABELS))
  for number, row in enumerate(rows, 1):
    match = _STUDY.fullmatch(row["Study"].strip().rstrip("/"))
    if match is None:
      raise ValueError(
        f"table {table.name} row {number} column 'Study' is not "
        "[CheXpert-v1.0/]test/patientN/studyN"
      )
    _, folder, patient, study = match.groups()
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
      drawn = outlines.get(_mask_key(path), ())
      match = _IMAGE.fullmatch(path)
      found.append(
        items.Item(
          image_paths=(path,),
          split="test",
          image_id=path,
          study_id=f"{patient}/{study}",
          patient_id=patient,
          view=match[7] if match else "unknown",
          labels=values,
          masks=() if small else drawn,
          notes=(_MASKS_LEFT_OUT,) if small and drawn else (),
        )
      )
  return found


def _mask_key(path: str) -> str:
  """Returns CheXlocalize's name of an image."""
  match = _IMAGE.fullmatch(path)
  return "_".join(match.group(4, 5, 6)) if match else ""


def _read_masks(directories: list[Path], split: str) -> _Masks:
  """Returns what CheXlocalize outlined in one split, {} without its file.

  Raises:
    ValueError: if the file is not JSON of `{image: {label: {"size": [height,
      width], "counts": COCO's run lengths}}}`, or larger than MAX_MASK_BYTES.
  """
  name = f"gt_segmentations_{split}.json"
  path = next(
    (place / name for place in directories if (place / name).is_file()), None
  )
  if path is None:
    return {}
  with path.open("rb") as handle:
    data = handle.read(MAX_MASK_BYTES + 1)
  if len(data) > MAX_MASK_BYTES:
    raise ValueError(f"{name} is larger than {MAX_MASK_BYTES} bytes")
  try:
    images = json.loads(data, object_pairs_hook=_unique)
  except (RecursionError, ValueError):
    raise ValueError(f"{name} is not JSON, or repeats a key") from None
  if not isinstance(images, dict):
    raise ValueError(f"{name} is not one object of images")
  found = {}
  for number, (image, outlines) in enumerate(images.items(), 1):
    if not isinstance(outlines, dict):
      raise ValueError(f"{name} image {number} is not one object of labels")
    drawn = []
    for label, outline in outlines.items():
      label = _MASK_NAMES.get(label, label)
      if label not in labels.CHEXPERT_LABELS:
        raise ValueError(f"{name} image {number} names an unknown label")
      where = f"{name} image {number} label {label!r}"
      match outline:
        case {"size": [int(height), int(width)], "counts": str(counts)}:
          size = height, width
        case _:
          raise ValueError(f"{where} is not of the form size, counts")
      try:
        if masks.area(counts, size):
          drawn.append((label, counts, size))
      except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if drawn:
      found[image] = tuple(drawn)
  return found


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
  if len(dict(pairs)) < len(pairs):
    raise ValueError
  return dict(pairs)
