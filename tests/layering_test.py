"""Who may import whom: left imports right, never back."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# Room -> what of ours it may import. The longest matching room counts.
RULES = {
  "configs": (),
  "data_prep": ("data_prep", "tier_jax.data.png", "tier_jax.data.records"),
  "data_prep/phantom": ("data_prep.phantom",),
  "tier_jax/data": ("tier_jax.data",),
  "tier_jax/losses": ("tier_jax.losses",),
  "tier_jax/models": ("tier_jax.models",),
  "tier_jax/evaluators": (
    "tier_jax.evaluators",
    "tier_jax.data",
    "tier_jax.models",
  ),
  "tier_jax/study": ("tier_jax.study", "tier_jax.evaluators"),
  "tier_jax/sweep": (
    "tier_jax.sweep",
    "tier_jax.evaluators.figures",
    "tier_jax.evaluators.sections.markup",
  ),
  "tier_jax/distributed.py": (),
  "tier_jax/durations.py": ("tier_jax.config",),  # the type alone
  "tier_jax/overrides.py": (),
  "tier_jax/optim.py": ("tier_jax.durations",),
  "tier_jax/sharding.py": (),
  "tier_jax/prefetch.py": ("tier_jax.sharding",),
  "tier_jax/faults.py": ("tier_jax.data",),
  "tier_jax/preemption.py": (),
  "tier_jax/watchdog.py": (),
  "tier_jax/train_state.py": (),
  "tier_jax/metric_writer.py": (),
  "tier_jax/run_record.py": ("tier_jax.config",),
  "tier_jax/telemetry.py": ("tier_jax.flops",),
  "tier_jax/checksums.py": (),
  "tier_jax/checkpointing.py": ("tier_jax.checksums", "tier_jax.train_state"),
  "tier_jax/config.py": ("tier_jax",),
  "tier_jax/train_step.py": (
    "tier_jax.losses",
    "tier_jax.models",
    "tier_jax.optim",
    "tier_jax.train_state",
  ),
  "tier_jax/program.py": (
    "tier_jax.config",
    "tier_jax.models",
    "tier_jax.optim",
    "tier_jax.sharding",
    "tier_jax.train_state",
    "tier_jax.train_step",
  ),
  "tier_jax/features.py": (
    "tier_jax.config",
    "tier_jax.data",
    "tier_jax.evaluators.digests",
    "tier_jax.models",
    "tier_jax.program",
    "tier_jax.train_state",
  ),
  "tier_jax/hlo.py": (),
  "tier_jax/flops.py": (),
  "tier_jax/compilation.py": (
    "tier_jax.config",
    "tier_jax.data.tokenizer",
    "tier_jax.flops",
    "tier_jax.hlo",
    "tier_jax.models",
    "tier_jax.program",
    "tier_jax.sharding",
  ),
  "tier_jax/experiment.py": (
    "tier_jax.config",
    "tier_jax.data",
    "tier_jax.models",
    "tier_jax.train_state",
  ),
  "tier_jax/validation.py": (
    "tier_jax.config",
    "tier_jax.data",
    "tier_jax.evaluators",
    "tier_jax.models",
    "tier_jax.sharding",
    "tier_jax.train_state",
    "tier_jax.train_step",
  ),
  "tier_jax/train.py": ("tier_jax",),
  "tier_jax/inference.py": ("tier_jax",),
  # How files become pictures: the rest of data_prep is about data sets.
  "tier_jax/image_files.py": (
    "data_prep.convert",
    "data_prep.images",
    "data_prep.labels",
    "data_prep.rejects",
    "data_prep.sandbox",
    "tier_jax.data.transforms",
  ),
  "tier_jax/predict.py": ("data_prep.progress", "tier_jax"),
  "tier_jax/explore": ("data_prep.images", "data_prep.progress", "tier_jax"),
  "tier_jax/export.py": ("tier_jax",),
  "tier_jax/model_card.py": ("tier_jax.evaluators", "tier_jax.inference"),
  "tier_jax/stablehlo.py": ("tier_jax",),
  # Goes out with a model, and runs where nothing of ours is.
  "tier_jax/stablehlo_loader.py": (),
  "tier_jax/benchmarks": ("tier_jax",),
  "tier_jax/benchmarks/data_prep.py": ("data_prep", "tier_jax.benchmarks"),
  "launch": ("tier_jax",),
}
# What a room must not pull in, even through others.
FOREIGN = {
  "data_prep": ("jax", "flax", "grain", "optax"),
  "tier_jax/data": ("jax", "flax"),
  "tier_jax/image_files.py": ("jax", "flax"),
  "tier_jax/evaluators/bootstrap.py": ("jax",),
  "tier_jax/evaluators/calibration.py": ("jax",),
  "tier_jax/evaluators/comparisons.py": ("jax",),
  "tier_jax/evaluators/grounding_metrics.py": ("jax",),
  "tier_jax/evaluators/grounding_scores.py": ("jax",),
  "tier_jax/evaluators/readers.py": ("jax",),
  "tier_jax/evaluators/statistics.py": ("jax",),
  "tier_jax/evaluators/thresholds.py": ("jax",),
  "tier_jax/sweep": ("jax",),
}
FILES = sorted(
  path.relative_to(ROOT)
  for room in ("configs", "data_prep", "tier_jax", "launch")
  for path in (ROOT / room).rglob("*.py")
)


def imports(path):
  """Yields the full names of all modules that a file imports."""
  for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
    if isinstance(node, ast.Import):
      yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
      assert not node.level, f"{path} has a relative import"
      yield from (f"{node.module}.{alias.name}" for alias in node.names)


def longest(rules, path):
  rooms = [room for room in rules if path.is_relative_to(room)]
  return rules[max(rooms, key=len)] if rooms else None


@pytest.mark.parametrize("path", FILES, ids=str)
def test_imports_point_right(path):
  if path.name == "__init__.py":
    assert not (ROOT / path).read_text("utf-8").strip()
    return
  allowed = longest(RULES, path)
  assert allowed is not None, f"{path} lies in no known room"
  foreign = longest(FOREIGN, path) or ()
  for name in imports(path):
    if name.split(".")[0] in ("tier_jax", "data_prep", "configs", "launch"):
      assert name.startswith(tuple(allowed)), f"{path} imports {name}"
    assert name.split(".")[0] not in foreign, f"{path} imports {name}"
    assert not name.startswith("tests")
