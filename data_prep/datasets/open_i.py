"""Open-i (Indiana University): XML reports, DICOM or PNG images."""

import collections
import dataclasses
import os
import re
from pathlib import Path

from data_prep import images, items, labels, rejects, reports, splits

FRACTIONS = (0.8, 0.1, 0.1)
SEED = 0

# "CXR1_1_IM-0001-3001.png", and "1_IM-0001-3001.dcm.png" of a re-release.
_IMAGE_ID = re.compile(r"(?:CXR)?(\d+(?:_\d+)?_IM-\d+-[\w-]+)")
_SUFFIX = re.compile(
  rf"(?:{'|'.join(map(re.escape, images.SUFFIXES))}){{1,2}}$", re.IGNORECASE
)
_HEADERS = "nlmcxr_dicom_metadata.csv"

# Label -> what one of a report's automatic index terms holds, in lower case:
# the rule of TorchXRayVision (Cohen et al., MIDL 2022; Apache-2.0).
LABELS = {
  "Atelectasis": ("atelectasis", "atelectases"),
  "Calcified Granuloma": ("calcified granuloma",),
  "Cardiomegaly": ("cardiomegaly",),
  "Edema": ("edema",),
  "Effusion": ("effusion",),
  "Emphysema": ("emphysema",),
  "Fibrosis": ("fibrosis",),
  "Fracture": ("fracture",),
  "Granuloma": ("granuloma",),
  "Hernia": ("hernia",),
  "Infiltration": ("infiltration", "infiltrate"),
  "Lung Lesion": ("lesion",),
  "Lung Opacity": ("opacity",),
  "Mass": ("mass",),
  "Nodule": ("nodule",),
  "Pleural_Thickening": ("pleural_thickening", "pleural thickening"),
  "Pneumonia": ("pneumonia",),
  "Pneumothorax": ("pneumothorax",),
}


@dataclasses.dataclass(frozen=True)
class Report:
  """One report.

  Attributes:
    report_id: its id.
    sections: text by name, in lower case. Records hold findings and
      impression; comparison and indication are what was known before.
    image_ids: of its images.
    labels: each of `LABELS` -> 1 or 0; none where it was not indexed.
  """

  report_id: str
  sections: dict[str, str]
  image_ids: list[str]
  labels: dict[str, int]


def plan(source_dir: Path) -> items.Plan:
  """Returns what to convert.

  Patients are not named: each report counts as one, and its hash decides the
  split, 80:10:10; there is no official one. What the de-identification took
  out reads "XXXX". A third of the images has no view in the table of headers,
  and some of the others have a wrong one. A program has indexed each report:
  of its terms come eighteen labels, each 1 or 0.

  Args:
    source_dir: holds the XML reports (`ecgen-radiology/*.xml`, as the archive
      unpacks) and the images, named by their ids, at any depth, in folders
      that may be links at the first level alone; perhaps
      `nlmcxr_dicom_metadata.csv(.gz)` for the views, which are "unknown"
      without it.

  Raises:
    ValueError: if there is no report, or the table of views is malformed.
  """
  files = _find_files(source_dir)
  xmls = sorted(path for path in files if path.suffix.lower() == ".xml")
  if not xmls:
    raise ValueError(
      "source_dir holds no XML reports, expected ecgen-radiology/*.xml"
    )
  image_of = {
    _image_id(path.name): path.relative_to(source_dir).as_posix()
    for path in reversed(files)
    if path.suffix.lower() in images.SUFFIXES
  }
  views = _read_views(source_dir)
  found, rejected = [], []
  used: set[str] = set()
  filtered: collections.Counter[str] = collections.Counter()
  for path in xmls:
    try:
      report = read_report(path)
    except rejects.RejectError as rejection:
      # A name that is not UTF-8 could not be hashed.
      stem = path.stem.encode("utf-8", "replace").decode()
      rejected.append((stem, rejection.reason))
      continue
    if not report.image_ids:
      filtered["report:names_no_image"] += 1
    for image_id in report.image_ids:
      # "1_1_IM-0001-3001" of two reports is "1_IM-0001-3001" as a file's name.
      short = re.sub(r"^(\d+)_\d+_", r"\1_", image_id)
      name = image_id if image_id in image_of else short
      used.add(name)
      found.append(
        items.Item(
          image_paths=(image_of.get(name, f"{image_id}.png"),),
          split=splits.assign_split(report.report_id, FRACTIONS, SEED),
          image_id=image_id,
          study_id=report.report_id,
          patient_id=report.report_id,
          view=labels.parse_view(views.get(image_id, "")),
          findings=report.sections.get("findings", ""),
          impression=report.sections.get("impression", ""),
          labels=report.labels,
          notes=labels.note_view(views.get(image_id, "")),
        )
      )
  unnamed = image_of.keys() - used
  if unnamed:
    filtered["image:named_by_no_report"] = len(unnamed)
  return items.Plan(
    "open_i",
    source_dir,
    found,
    filtered,
    tuple(rejected),
    {"split_fractions": list(FRACTIONS), "split_seed": SEED},
  )


def read_report(path: Path) -> Report:
  """Returns what a report says.

  Raises:
    rejects.RejectError: if the file is no such report.
  """
  root = reports.read_xml(path)
  uid = root.find("uId")
  report_id = "" if uid is None else uid.get("id", "")
  if not report_id:
    raise rejects.RejectError("report:no_id")
  sections: dict[str, str] = {}
  for element in root.iter("AbstractText"):
    name = reports.clean(element.get("Label", "")).lower()
    text = reports.clean("".join(element.itertext()))
    if text:
      sections[name] = f"{sections.get(name, '')} {text}".strip()
  image_ids = [
    _image_id(element.get("id", "")) for element in root.iter("parentImage")
  ]
  # Joined by what no term holds, so that none runs over into the next.
  terms = "|".join(
    "".join(element.itertext()).lower()
    for mesh in root.iter("MeSH")
    for element in mesh.iter("automatic")
  )
  indexed = next(root.iter("MeSH"), None) is not None
  return Report(
    report_id,
    sections,
    sorted({name for name in image_ids if name}),
    {
      label: int(any(word in terms for word in words))
      for label, words in LABELS.items()
    }
    if indexed
    else {},
  )


def _image_id(name: str) -> str:
  """Returns what ids in reports and names of files have in common."""
  name = _SUFFIX.sub("", name)
  match = _IMAGE_ID.fullmatch(name)
  return match[1] if match else name


def _find_files(source_dir: Path) -> list[Path]:
  # A link to a folder is followed at the first level alone, where it is the
  # owner's own arrangement, as in `paths.locate`.
  links = [path for path in source_dir.glob("*") if path.is_symlink()]
  return sorted(
    Path(directory, name)
    for top in (source_dir, *filter(Path.is_dir, links))
    for directory, _, names in os.walk(top)
    for name in names
  )


def _read_views(source_dir: Path) -> dict[str, str]:
  """Returns image id -> what the table of headers says, perhaps nothing."""
  path = labels.find_table([source_dir], _HEADERS)
  if path is None:
    return {}
  views = {}
  rows = labels.read_table(path, ("imageid", "View Position"))
  for number, row in enumerate(rows, 1):
    image_id = _image_id(row["imageid"].strip())
    if image_id in views:
      raise ValueError(f"table {path.name} row {number} repeats an image")
    views[image_id] = row["View Position"]
  return views
