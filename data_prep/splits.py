"""Which patient is in which split, and that none is in two."""

import hashlib
from collections.abc import Iterable, Sequence

SPLITS = ("train", "validate", "test")

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
