"""Which patient is in which split, that none is in two, and who is denied."""

import dataclasses
import hashlib
import re
import sys
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from data_prep import ids, items, labels

SPLITS = ("train", "validate", "test")

DENIED = "denied:deny_list"

_HASHED_ID = re.compile(r"[0-9a-f]{64}")
_SUFFIX = re.compile(
  r"(?:\.(?:png|jpe?g|dcm|dicom|txt|xml)){1,2}$", re.IGNORECASE
)
# What stands before an id in one of a source's files and not in another:
# CheXpert's paths, MIMIC's folders, Open-i's letters, zeros of NIH's numbers.
_PREFIX = re.compile(
  r"^(?:(?:CheXpert-v1\.0(?:-small)?/)?(?:(?:train|valid|val|test)/)?"
  r"(?=patient[0-9])"
  r"|(?:files/)?(?:p[0-9]{2}/)?(?:p[0-9]{8}/)?"
  r"(?:[ps](?=[0-9]{8}$)|s[0-9]{8}/(?=[0-9a-f]{8}-))"
  r"|CXR(?=[0-9])"
  r"|0+(?=[1-9][0-9]*$))"
)
_SPELLINGS = {
  "train": "train",
  "training": "train",
  "val": "validate",
  "valid": "validate",
  "validate": "validate",
  "validation": "validate",
  "test": "test",
}


def parse_split(text: str) -> str | None:
  """Returns the split that a table's cell names, or None."""
  return _SPELLINGS.get(text.strip().lower())


def assign_split(patient_id: str, fractions: Sequence[float], seed: int) -> str:
  """Returns the patient's split, the same on every machine.

  Args:
    patient_id: the source's own id.
    fractions: of train, validate and test; they sum to 1.
    seed: another seed gives another division.
  """
  digest = hashlib.sha256(f"{seed}/{patient_id}".encode()).digest()
  position = int.from_bytes(digest[:8], "big") / 2**64
  if position < fractions[0]:
    return "train"
  return "validate" if position < fractions[0] + fractions[1] else "test"


def check_fractions(fractions: Sequence[float]) -> None:
  """Raises ValueError unless there are three, none negative, that sum to 1."""
  if (
    len(fractions) != 3
    or any(not 0 <= fraction <= 1 for fraction in fractions)
    or abs(sum(fractions) - 1) > 1e-6
  ):
    raise ValueError(
      f"split_fractions {list(fractions)} are not three numbers in [0, 1] "
      "that sum to 1"
    )


def check_disjoint(kind: str, pairs: Iterable[tuple[str, str]]) -> None:
  """Raises ValueError, with a count and no id, if an id is in two splits.

  Args:
    kind: "patient", "study" or "image", for the message.
    pairs: (id, split).
  """
  first: dict[str, str] = {}
  shared = {
    raw_id
    for raw_id, split in pairs
    if first.setdefault(raw_id, split) != split
  }
  if shared:
    raise ValueError(
      f"{len(shared)} {kind} id(s) stand in more than one split, expected none"
    )


def read_deny_list(path: Path) -> frozenset[str]:
  """Returns the ids that are to stay out of `train` and `validate`.

  Args:
    path: a text file with one id a line: of a patient, a study or an image, as
      any of the source's files writes it (a study that is numbered within its
      patient, as in CheXpert and tables, is PATIENT/STUDY) or as rejects and
      reports show it hashed. Blank lines and those that start with `#` are
      passed over.

  Raises:
    ValueError: if the file cannot be read or holds no id.
  """
  denied = frozenset(labels.read_names(path))
  if not denied:
    raise ValueError(f"deny list {path.name} holds no id")
  return denied


def apply_deny_list(
  plan: items.Plan, denied: Collection[str], key: bytes
) -> items.Plan:
  """Returns the plan with all items marked that a list denies.

  An id denies all that it stands for: that of a patient, each of the patient's
  images, and that of an image, its study, whose other images share the report.
  Only an image's hashed id, as the list of equal pixels has it, denies that
  image alone. Ids are compared without what one of a source's files writes
  around them and another does not: folders, suffixes, leading zeros. Where two
  become equal by that, both are denied. Items of `test` stay as they are. Ids
  that occur nowhere in the plan are counted under `filtered`, as
  "deny_list:unmatched", and in a warning on stderr.

  Args:
    plan: with the source's own ids.
    denied: from `read_deny_list`.
    key: of the hashed ids, from `ids.load_key`.
  """
  kinds = ("patient", "study", "image")
  denied = set(denied)
  forms = {_normalise(entry) for entry in denied}
  hashes = {entry for entry in denied if _HASHED_ID.fullmatch(entry)}
  matched: set[str] = set()
  plain, hashed = ({kind: set() for kind in kinds} for _ in range(2))
  for kind in kinds:
    for raw_id in {getattr(item, f"{kind}_id") for item in plan.items}:
      if (form := _normalise(raw_id)) in forms:
        plain[kind].add(raw_id)
        matched.add(form)
      if hashes:
        digest = ids.hash_id(key, plan.name, kind, raw_id)
        if digest in hashes:
          hashed[kind].add(raw_id)
          matched.add(digest)
  hits = {kind: plain[kind] | hashed[kind] for kind in kinds}
  hits["study"] |= {
    item.study_id for item in plan.items if item.image_id in plain["image"]
  }
  marked = [
    dataclasses.replace(item, denied=DENIED)
    if item.split != "test"
    and any(getattr(item, f"{kind}_id") in hits[kind] for kind in kinds)
    else item
    for item in plan.items
  ]
  filtered = dict(plan.filtered)
  unmatched = sum(not {entry, _normalise(entry)} & matched for entry in denied)
  if unmatched:
    filtered["deny_list:unmatched"] = unmatched
    print(
      f"warning: {unmatched} of {len(denied)} ids of the deny list occur "
      f"nowhere in {plan.name}: expected ids as the source writes them",
      file=sys.stderr,
    )
  return dataclasses.replace(
    plan,
    items=marked,
    filtered=filtered,
    settings={**plan.settings, "deny_list_ids": len(denied)},
  )


def _normalise(raw_id: str) -> str:
  """Returns what all spellings of an id in a source's files have in common."""
  return _PREFIX.sub("", _SUFFIX.sub("", raw_id.rstrip("/")))
