"""Whether a prepared dataset is still what its manifest says."""

import json
import sys
from pathlib import Path

from data_prep import manifest as manifest_lib
from data_prep import progress, store

_BESIDE = (
  *manifest_lib.TFDS_FILES,
  manifest_lib.NAME,
  manifest_lib.NEAR_DUPLICATES,
  manifest_lib.REJECTS,
)
_MAYBE = ("inspect.html",)


def verify(directory: str | Path) -> list[str]:
  """Reads every shard; returns what is wrong, a line each, sorted by name.

  Args:
    directory: a path or URL of a prepared dataset.

  Raises:
    ValueError: if it holds no manifest.
  """
  place = store.Store(directory)
  try:
    manifest = json.loads(place.read_text(manifest_lib.NAME))
    shards = {
      name: shard
      for split in manifest["splits"].values()
      for name, shard in split["shards"].items()
    }
    size = sum(shard["bytes"] for shard in shards.values())
    lines = {
      manifest_lib.REJECTS: sum(manifest["rejects"].values()),
      manifest_lib.NEAR_DUPLICATES: manifest["near_duplicates"],
    }
  except (FileNotFoundError, NotADirectoryError):
    raise ValueError(f"{place.name!r} holds no manifest.json") from None
  except (ValueError, KeyError, TypeError, AttributeError):
    raise ValueError(
      f"the manifest.json of {place.name!r} is not one of data_prep's"
    ) from None
  wrong = []
  names = set(place.names())
  with progress.Counter(len(shards), "shards") as counter:
    for name, shard in sorted(shards.items()):
      if name not in names:
        wrong.append(f"{name}: missing")
      elif place.size(name) != shard["bytes"]:
        wrong.append(
          f"{name}: {place.size(name)} bytes, expected {shard['bytes']}"
        )
      elif place.sha256(name) != shard["sha256"]:
        wrong.append(f"{name}: its bytes have changed")
      counter.add(1)
  strangers = names - shards.keys() - {*_BESIDE, *_MAYBE}
  wrong += [f"{name}: not in the manifest" for name in strangers]
  wrong += [f"{name}: missing" for name in _BESIDE if name not in names]
  for name, expected in lines.items():
    if name in names:
      found = place.read_text(name).count("\n")
      if found != expected:
        wrong.append(f"{name}: {found} lines, expected {expected}")
  print(
    f"{len(shards)} shards, {size / 1e6:.0f} MB: "
    f"{f'{len(wrong)} wrong' if wrong else 'as the manifest says'}",
    file=sys.stderr,
  )
  return sorted(wrong)
