"""What a run was: `run.json` in its workdir, one entry a start.

No environment variables, names of machines, or paths but those of the command.
"""

import datetime
import hashlib
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import jax

from tier_jax import config as config_lib

_PROJECT = Path(__file__).parents[1]
_PACKAGES = (
  *("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy"),
  "tier-jax",
)


def describe(
  config: config_lib.Config,
  *,
  mesh: jax.sharding.Mesh,
  tokenizer: str,
  data_digest: str,
  params_digest: str,
  first_step: int,
) -> dict[str, Any]:
  """Returns the JSON-like record of a start.

  Args:
    config: as resolved.
    mesh: of the training.
    tokenizer: its JSON form, of which the SHA-256 is kept.
    data_digest: of the prepared data, see `pair_source.PairSource`.
    params_digest: of the parameters that the run starts from.
    first_step: steps that were done before; 0 unless the run resumes.
  """
  return {
    "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    "command": list(sys.argv),
    "first_step": first_step,
    "config": config_lib.to_dict(config),
    "data_digest": data_digest,
    "tokenizer_digest": hashlib.sha256(tokenizer.encode("utf-8")).hexdigest(),
    "params_digest": params_digest,
    "devices": {
      "kind": jax.devices()[0].device_kind,
      "count": jax.device_count(),
      "processes": jax.process_count(),
    },
    "mesh": dict(mesh.shape),
    "versions": _versions(),
    "git": _git(_PROJECT),
  }


def append(workdir: str | Path, record: dict[str, Any]) -> None:
  """Adds a start to `workdir/run.json`; of all processes, 0 does.

  Raises:
    ValueError: if the file is damaged or something else's; it is left as it is.
  """
  if jax.process_index():
    return
  path = Path(workdir) / "run.json"
  starts = _read(path) if path.exists() else []
  text = json.dumps({"starts": [*starts, record]}, indent=2) + "\n"
  new = path.with_suffix(".json.new")
  with new.open("w", encoding="utf-8") as file:
    file.write(text)
    file.flush()
    os.fsync(file.fileno())
  new.replace(path)


def _read(path):
  try:
    starts = json.loads(path.read_text("utf-8"))["starts"]
    if isinstance(starts, list):
      return starts
  except (ValueError, TypeError, KeyError):
    pass
  raise ValueError(
    f'{path} is damaged or no record of a run, expected {{"starts": [...]}}; '
    "move it away"
  )


def _versions() -> dict[str, str | None]:
  versions: dict[str, str | None] = {"python": platform.python_version()}
  for name in _PACKAGES:
    try:
      versions[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
      versions[name] = None
  return versions


def _git(directory: Path) -> dict[str, Any] | None:
  """Returns commit and dirtiness of a checkout, None where there is none."""
  if not (directory / ".git").exists():  # git would look further up
    return None

  def git(*command):
    # --no-optional-locks: reading must not get in the way of a commit.
    return subprocess.run(  # noqa: S603
      ["git", "--no-optional-locks", *command],  # noqa: S607
      cwd=directory,
      capture_output=True,
      check=True,
      text=True,
      timeout=10,
    ).stdout.strip()

  try:
    return {
      "commit": git("rev-parse", "HEAD"),
      "dirty": bool(git("status", "--porcelain")),
    }
  except (OSError, subprocess.SubprocessError):
    return None
