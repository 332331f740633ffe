"""Whether runs were measured alike, so that their figures may be compared."""

from collections.abc import Mapping, Sequence
from typing import Any

from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators import wording

# What the entries of metrics.json say of what was measured and how.
_FACTS = {
  "dataset": "dataset",
  "split": "split",
  "scoring": "scoring",
  "rows": "rows",
  "patients": "patients",
  "images": "images",
  "studies": "studies",
  "pairs": "pairs",
}
_DIGEST = "data_manifest_sha256"

Entry = tuple[runs_lib.Run, Mapping[str, Any]]


def unlike(first: Entry, second: Entry, *, prompts: bool) -> str:
  """Returns in what two runs were measured differently, "" if in nothing.

  A table of scores that was made elsewhere has no scoring and no prompts of
  ours: it is held to neither.

  Args:
    first, second: a run with its entry for the same thing in metrics.json.
    prompts: whether that depends on our prompts.
  """
  (run, entry), (other_run, other) = first, second
  elsewhere = None in (entry.get("scoring", ""), other.get("scoring", ""))
  found = [
    f"{words} ({entry.get(key)}, {other.get(key)})"
    for key, words in _FACTS.items()
    if entry.get(key) != other.get(key) and not (key == "scoring" and elsewhere)
  ]
  if entry.get(_DIGEST) != other.get(_DIGEST):
    found.append("prepared data (by the digest of manifest.json)")
  if prompts and not elsewhere and _prompts(run) != _prompts(other_run):
    found.append("prompts (by their digest)")
  return wording.listing(found) if found else ""


def notes(
  entries: Sequence[Entry], *, prompts: bool, refused: str | None = None
) -> list[str]:
  """Returns a sentence for each run that was not measured as the first was.

  Args:
    entries: the runs that have an entry for the same thing, with it.
    prompts: whether that depends on our prompts.
    refused: why two runs have no difference, if they have none: it says all.
  """
  if refused:
    return [f"No difference is given: {refused}."]
  sentences = []
  for entry in entries[1:]:
    if found := unlike(entries[0], entry, prompts=prompts):
      sentences.append(
        f"{entries[0][0].name} and {entry[0].name} differ in {found}: their "
        "figures here cannot be compared."
      )
  return sentences


def same_code(runs: Sequence[runs_lib.Run]) -> bool:
  """Returns whether one version of the code evaluated all runs."""
  return len({_digests(run).get("code") for run in runs}) == 1


def _prompts(run: runs_lib.Run) -> Any:
  return _digests(run).get("prompts")


def _digests(run: runs_lib.Run) -> Mapping[str, Any]:
  return run.metrics.get("digests") or {}
