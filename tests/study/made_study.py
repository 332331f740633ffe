"""Invented finished runs of a study, as training and evaluation leave them."""

import json
from pathlib import Path

import numpy as np

from tests.evaluators import made_runs
from tier_jax.evaluators import (
  digests,
  grounding_metrics,
  grounding_scores,
  metrics,
  score_files,
  zero_shot,
)

CONFIG = {"data": {"data_dir": "data"}, "train": {"num_steps": 900}}


def write(
  root: Path,
  name: str,
  *,
  auroc: float = 0.7,
  pointing: float = 0.6,
  above_prior: float | None = 0.2,
  change=lambda found: None,
  config=None,
) -> Path:
  """Writes a finished run and returns its directory.

  Args:
    root: of the study.
    name: SETTING.ARM.SEED.
    auroc, pointing: its primary figures.
    above_prior: pointing less the prior's; None for no prior.
    change: of metrics.json, in place.
    config: instead of CONFIG.
  """
  seed = int(name.rpartition(".")[2])
  found = json.loads(json.dumps(made_runs.make(name, seed).metrics))
  found["digests"]["weights"] = name
  found["benchmarks"]["chexpert"]["macro_auroc"]["value"] = auroc
  grounding = found["grounding"]["mimic_cxr"]
  grounding["scores"] = "grounding_mimic_cxr.csv"
  contrast = grounding["maps"]["contrast"]["macro"]
  contrast["pointing_game"]["value"] = pointing
  if above_prior is None:
    grounding["contrast_against_prior"] = None
  else:
    against = grounding["contrast_against_prior"]
    against["pointing_game"]["value"] = above_prior
    by_phrase = {"pointing_game": {"value": above_prior - 0.1}}
    grounding["contrast_against_prior_of_phrase"] = by_phrase
  change(found)
  directory = root / name
  directory.mkdir(parents=True)
  own = {"seed": seed, "loss": {"token_entropy_weight": len(name)}}
  (directory / "config.json").write_text(json.dumps((config or CONFIG) | own))
  (directory / "metrics.json").write_text(json.dumps(found))
  (directory / "metrics.jsonl").write_text(
    '{"step": 25}\n{"step": 50, "train/step_seconds": 0.03}\n'
    '{"step": 75, "train/step_seconds": 0.06}\n'
  )
  devices = {"kind": "cpu", "count": 1}
  starts = {"starts": [{"devices": devices}]}
  (directory / "run.json").write_text(json.dumps(starts))
  (directory / "report.html").write_text("<p>a run</p>")
  return directory


def add_scores(
  directory: Path, skill: float, *, rows_seed: int = 0, without_prior: str = ""
) -> None:
  """Adds files of scores to a run, with the figures that follow of them.

  Args:
    directory: of the run.
    skill: parts positives from negatives; what chance adds is the same for all.
    rows_seed: of what was scored.
    without_prior: a finding that has no location prior.
  """
  rng = np.random.default_rng(rows_seed)
  num_rows, labels = 60, ("Edema", "Mass", "No Finding")
  truth = rng.integers(0, 2, (num_rows, len(labels))).astype(np.int8)
  noise = rng.normal(size=truth.shape)
  patients = tuple(f"p{i // 2}" for i in range(num_rows))
  images = tuple(f"i{i}" for i in range(num_rows))
  scores = zero_shot.Scores(
    labels=labels,
    image_ids=images,
    study_ids=images,
    patient_ids=patients,
    truth=truth,
    scores=(noise + skill * truth).astype(np.float32),
    groups=dict.fromkeys(zero_shot.GROUPS, ("",) * num_rows),
  )
  score_files.write(directory / "scores_chexpert.csv", scores)
  inside = (rng.random(num_rows) < np.clip(skill, 0.1, 0.9)).astype(float)
  values = np.tile(inside[:, None], (1, len(grounding_metrics.METRICS)))
  items = grounding_scores.Scores(
    image_ids=images,
    patient_ids=patients,
    findings=("Edema", "Mass", "Edema") * (num_rows // 3),
    values={name: values.copy() for name in grounding_scores.MAPS},
  )
  lacking = np.array([name == without_prior for name in items.findings])
  items.values["prior"][lacking] = np.nan
  grounding_scores.write(directory / "grounding_mimic_cxr.csv", items)
  path = directory / "metrics.json"
  found = json.loads(path.read_text())
  settings = {"num_resamples": 500, "seed": 0}
  found["bootstrap"] = settings
  found["benchmarks"]["chexpert"] |= metrics.summarise(
    scores, apart=("No Finding",), **settings
  )
  found["grounding"]["mimic_cxr"] |= grounding_scores.summarise(
    items, num_resamples=0
  )
  found["files"] = {
    one.name: digests.of_file(one) for one in directory.glob("*.csv")
  }
  path.write_text(json.dumps(found))
