"""The finished runs of a study, and that they may be compared at all."""

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import digests
from tier_jax.evaluators import runs as runs_lib

# SETTING.ARM.SEED, of which only the arm may hold dots.
_NAME = re.compile(r"([^.]+)\.(.+)\.(0|[1-9]\d*)")


@dataclasses.dataclass(frozen=True)
class Member:
  """A finished run.

  Attributes:
    setting, arm, seed: what its directory's name says.
    run: what it left.
    metrics_sha256: digest of its metrics.json.
  """

  setting: str
  arm: str
  seed: int
  run: runs_lib.Run
  metrics_sha256: str


def read(directory: Path) -> tuple[list[Member], list[str]]:
  """Returns the finished runs in order, and the names of those unfinished.

  Raises:
    ValueError: if none is finished, a finished one's name is not
      SETTING.ARM.SEED, or a file of one is damaged.
  """
  found, unfinished = [], []
  paths = sorted(directory.iterdir()) if directory.is_dir() else []
  for path in paths:
    match = _NAME.fullmatch(path.name)
    if not (path / "metrics.json").is_file():
      unfinished += [path.name] if match and path.is_dir() else []
      continue
    if not match:
      raise ValueError(
        f"run {path.name!r} of {directory}, expected the name SETTING.ARM.SEED"
      )
    setting, arm, seed = match.groups()
    run = runs_lib.read(path.name, path, path)
    sha256 = digests.of_file(path / "metrics.json")
    found.append(Member(setting, arm, int(seed), run, sha256))
  if not found:
    raise ValueError(f"{directory} holds no finished run (with metrics.json)")
  order = sorted(
    found, key=lambda one: (one.setting, _natural(one.arm), one.seed)
  )
  return order, unfinished


def check_alike(members: Sequence[Member]) -> None:
  """Checks that runs differ in nothing but seed, loss and what follows of them.

  Raises:
    ValueError: if data, prompts or code of the evaluation, the step, or any
      field of the configuration but `seed` and `loss` differ between two.
  """
  first, *others = members
  expected = _facts(first)
  for member in others:
    facts = _facts(member)
    keys = [
      key
      for key in sorted({*expected, *facts})
      if expected.get(key) != facts.get(key)
    ]
    if keys:
      raise ValueError(
        f"runs {first.run.name} and {member.run.name} differ in "
        f"{', '.join(keys)}; expected the same of all runs of a setting"
      )


def record(member: Member) -> dict[str, Any]:
  """Returns what a study tells of a run beside its figures.

  step; minutes: of training, as many steps as the run made of the median
  length, without evaluation; device, its kind and count. None if not known.
  """
  directory, metrics = member.run.directory, member.run.metrics
  lengths = [
    row["train/step_seconds"]
    for row in member.run.curves
    if "train/step_seconds" in row
  ]
  step, minutes = metrics.get("step"), None
  if lengths and step is not None:
    minutes = float(np.median(lengths)) * step / 60
  return {
    "setting": member.setting,
    "arm": member.arm,
    "seed": member.seed,
    "metrics_sha256": member.metrics_sha256,
    "digests": metrics.get("digests"),
    "step": step,
    "minutes": minutes,
    "device": _device(directory / "run.json"),
    "report": (directory / "report.html").is_file(),
  }


def _device(path: Path) -> str | None:
  if not path.is_file():
    return None
  try:
    devices = json.loads(path.read_text("utf-8"))["starts"][-1]["devices"]
    return f"{devices['count']} x {devices['kind']}"
  except (ValueError, LookupError, TypeError) as error:
    raise ValueError(
      f"run {path.parent.name}: run.json is not what a training writes"
    ) from error


def _facts(member: Member) -> dict[str, Any]:
  """Returns what must be the same, by the words for it."""
  metrics = member.run.metrics
  kinds = metrics.get("digests") or {}
  facts = {f"the digest of {k}": kinds.get(k) for k in ("prompts", "code")}
  for name, digest in (kinds.get("data") or {}).items():
    facts[f"the digest of data {name}"] = digest
  facts |= {key: metrics.get(key) for key in ("step", "params")}
  config = dict(member.run.config)
  config.pop("seed", None)
  config.pop("loss", None)
  return facts | _flat(config, "config.")


def _flat(fields: Mapping[str, Any], above: str) -> dict[str, Any]:
  flat = {}
  for name, value in fields.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f"{above}{name}.")
    else:
      flat[above + name] = value
  return flat


def _natural(name: str) -> list[Any]:
  """Returns a key that sorts t0.3 before t1.0 and both before t10."""
  parts = re.split(r"(\d+(?:\.\d+)?)", name)
  return [float(part) if i % 2 else part for i, part in enumerate(parts)]
