"""Evaluated runs, read again from what an evaluation wrote."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tier_jax.evaluators import (
  digests,
  grounding_scores,
  heatmaps,
  score_files,
  zero_shot,
)

HEATMAPS = "heatmaps.npz"


@dataclasses.dataclass(frozen=True)
class Run:
  """An evaluated model.

  Attributes:
    name: shown to readers.
    directory: where the evaluation wrote.
    metrics: what metrics.json holds.
    curves: the lines of the training's metrics.jsonl; empty when it has none.
    config: the training's config.json; empty when it has none.
  """

  name: str
  directory: Path
  metrics: Mapping[str, Any]
  curves: Sequence[Mapping[str, Any]]
  config: Mapping[str, Any]
  _scores: dict[str, zero_shot.Scores] = dataclasses.field(
    default_factory=dict, init=False, repr=False, compare=False
  )

  def scores(self, benchmark: str) -> zero_shot.Scores:
    """Returns the rows that a benchmark of metrics.json was computed from.

    Raises:
      ValueError: if their file is not the one that metrics.json speaks of.
    """
    entry = self.metrics["benchmarks"][benchmark]
    name = entry["scores"]
    if name not in self._scores:  # a large one takes seconds
      self._scores[name] = score_files.read(self._file(name))
    scores = self._scores[name]
    return scores.by_study() if entry["unit"] == "study" else scores

  def grounding(self, dataset: str) -> grounding_scores.Scores:
    """Returns the items that the grounding of a dataset was computed from.

    Raises:
      ValueError: as `scores`.
    """
    entry = self.metrics["grounding"][dataset]
    return grounding_scores.read(self._file(entry["scores"]))

  def maps(self) -> heatmaps.Heatmaps | None:
    """Returns the heat-maps of this evaluation, None if there are none.

    Raises:
      ValueError: as `scores`.
    """
    listed = HEATMAPS in self.metrics.get("files", {})
    if not listed or not (self.directory / HEATMAPS).is_file():
      return None
    return heatmaps.load(self._file(HEATMAPS))

  def _file(self, name: str) -> Path:
    """Returns the path of a file, after comparing it with its digest."""
    path = self.directory / Path(name).name
    wanted = self.metrics.get("files", {}).get(path.name)
    if not path.is_file() or digests.of_file(path) != wanted:
      raise ValueError(
        f"run {self.name!r}: {path.name} is not the file that metrics.json was "
        "computed from, evaluate again"
      )
    return path


def read(name: str, workdir: Path, results_dir: Path) -> Run:
  """Returns a run from its work directory and where its evaluation wrote.

  Raises:
    ValueError: if there is no metrics.json, or it or config.json is no JSON.
  """
  path = results_dir / "metrics.json"
  if not path.is_file():
    raise ValueError(
      f"run {name!r}: {path} is missing, expected what launch/eval.py writes"
    )
  config = workdir / "config.json"
  return Run(
    name=name,
    directory=results_dir,
    metrics=_parse(path),
    curves=_read_curves(workdir / "metrics.jsonl"),
    config=_parse(config) if config.is_file() else {},
  )


def _read_curves(path: Path) -> list[dict[str, Any]]:
  if not path.is_file():
    return []
  rows = []
  for line in path.read_text("utf-8").splitlines():
    try:
      rows.append(json.loads(line))
    except ValueError:
      continue  # a kill in the middle of a line
  return rows


def _parse(path: Path) -> Any:
  try:
    return json.loads(path.read_text("utf-8"))
  except ValueError as error:
    raise ValueError(f"{path.name} is no JSON: {error}") from error
