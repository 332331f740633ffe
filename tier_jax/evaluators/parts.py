"""What an evaluation measures beside classification, over prepared datasets."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from absl import logging

from tier_jax.data import shards
from tier_jax.evaluators import (
  bootstrap,
  digests,
  grounding,
  metrics,
  pairs,
  probe,
  retrieval,
  similarity,
  zero_shot,
)
from tier_jax.evaluators.benchmarks import benchmark as benchmarks

DEFAULT = ("retrieval", "grounding", "similarity")
NAMES = (*DEFAULT, "probe")


@dataclasses.dataclass(frozen=True)
class Source:
  """Where the parts find what they need.

  Attributes:
    data_dir: the data root: every dataset in it with outlines is grounded.
    pairs: the dataset whose held-out images and reports are matched.
    temperature: of the penalties in the model's loss.
    benchmarks: what is probed.
    kept: image embeddings of the encoder that is to be scored, as
      `zero_shot.ZeroShot.embed` takes them.
  """

  data_dir: Path
  pairs: str
  temperature: float
  benchmarks: Sequence[zero_shot.ZeroShot]
  kept: zero_shot.Kept = dataclasses.field(default_factory=dict)


def check(names: Sequence[str], asked: Sequence[benchmarks.Benchmark]) -> None:
  """Raises ValueError if a name is none of `NAMES`, or cannot be measured.

  Args:
    names: to measure.
    asked: the benchmarks to probe.
  """
  unknown = [name for name in names if name not in NAMES]
  if unknown:
    raise ValueError(f"part {unknown[0]!r} is none of {', '.join(NAMES)}")
  if "probe" in names:
    for benchmark in asked:
      probe.check(benchmark)


def evaluate(
  encoder: zero_shot.Encoder,
  source: Source,
  names: Sequence[str],
  output_dir: Path,
  *,
  num_resamples: int = bootstrap.NUM_RESAMPLES,
  seed: int = metrics.SEED,
) -> dict[str, Any]:
  """Returns the parts by name; None for one that the data do not allow.

  Args:
    encoder: to score.
    source: where the data lie.
    names: some of `NAMES`.
    output_dir: where grounding_NAME.csv is written, made when absent.
    num_resamples, seed: of the bootstrap over patients.

  Raises:
    ValueError: as `check`, or if a dataset is damaged.
  """
  check(names, [item.benchmark for item in source.benchmarks])
  output_dir.mkdir(parents=True, exist_ok=True)
  settings = {"num_resamples": num_resamples, "seed": seed}
  directory = source.data_dir / source.pairs

  def of_retrieval() -> Any:
    split = pairs.held_out(directory)
    if split is None:
      return None
    found = retrieval.evaluate(encoder, directory, split, **settings)
    return found and found | _about(directory)

  def of_grounding() -> Any:
    found = {
      path.parent.name: _ground(encoder, path.parent, output_dir, settings)
      for path in sorted(source.data_dir.glob("*/manifest.json"))
    }
    return {name: item for name, item in found.items() if item} or None

  def of_similarity() -> Any:
    found = similarity.evaluate(
      encoder, directory, source.temperature, **settings
    )
    return found and found | _about(directory)

  def of_probe() -> Any:
    found = {
      item.benchmark.name: probe.evaluate(
        encoder, item, kept=source.kept, **settings
      )
      for item in source.benchmarks
    }
    return {name: item for name, item in found.items() if item} or None

  make: dict[str, Callable[[], Any]] = {
    "retrieval": of_retrieval,
    "grounding": of_grounding,
    "similarity": of_similarity,
    "probe": of_probe,
  }
  made = {}
  for name in names:
    logging.info("%s: measuring", name)
    made[name] = make[name]()
  return made


def _ground(encoder, directory, output_dir, settings) -> dict[str, Any] | None:
  """Returns the grounding of `test` or, without outlines there, `validate`."""
  path = output_dir / f"grounding_{directory.name}.csv"
  for split in ("test", "validate"):
    if split in shards.splits(directory):
      found = grounding.evaluate(encoder, directory, split, path, **settings)
      if found is not None:
        return found | _about(directory) | {"scores": path.name}
  return None


def _about(directory: Path) -> dict[str, str]:
  manifest = digests.of_file(directory / "manifest.json")
  return {"dataset": directory.name, "data_manifest_sha256": manifest}
