"""Whether a prepared dataset is still what its manifest says."""

import json
import sys
from pathlib import Path

from data_prep import progress, store


def verify(directory: str | Path) -> list[str]:
  """Reads every shard; returns what is wrong, a line each, sorted by name.

  Args:
    directory: a path or URL of a prepared dataset.

  Raises:
    ValueError: if it holds no manifest.
  """
  place = store.Store(directory)
  try:
    manifest = json.loads(place.read_text("manifest.json"))
    shards = {
      name: shard
      for split in manifest["splits"].values()
      for name, shard in split["shards"].items()
    }
  except (FileNotFoundError, NotADirectoryError):
    raise ValueError(f"{place.name!r} holds no manifest.json") from None
  except (ValueError, KeyError, TypeError, AttributeError):
    raise ValueError(
      f"the manifest.json of {place.name!r} is not one of data_prep's"
    ) from None
  wrong = []
  names = set(place.names())
  size = sum(shard["bytes"] for shard in shards.values())
  with progress.Counter(size >> 20, "MiB") as counter:
    for name, shard in sorted(shards.items()):
      if name not in names:
        wrong.append(f"{name}: missing")
      elif place.size(name) != shard["bytes"]:
        wrong.append(
          f"{name}: {place.size(name)} bytes, expected {shard['bytes']}"
        )
      elif place.sha256(name) != shard["sha256"]:
        wrong.append(f"{name}: its bytes have changed")
      counter.add(shard["bytes"] >> 20)
  strangers = {name for name in names if ".array_record-" in name}
  wrong += [
    f"{name}: not in the manifest" for name in sorted(strangers - shards.keys())
  ]
  for name in ("dataset_info.json", "features.json"):
    if name not in names:
      wrong.append(f"{name}: missing")
  rejected = sum(manifest["rejects"].values())
  if "rejects.jsonl" not in names:
    wrong.append("rejects.jsonl: missing")
  elif (lines := place.read_text("rejects.jsonl").count("\n")) != rejected:
    wrong.append(f"rejects.jsonl: {lines} lines, expected {rejected}")
  print(
    f"{len(shards)} shards, {size / 1e6:.0f} MB: "
    f"{f'{len(wrong)} wrong' if wrong else 'as the manifest says'}",
    file=sys.stderr,
  )
  return sorted(wrong)
