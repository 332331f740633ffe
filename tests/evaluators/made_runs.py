"""Invented evaluated runs whose metrics.json holds every part of the page."""

import dataclasses
import types
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import runs as runs_lib

LABELS = ("Edema", "Cardiomegaly", "Pleural Effusion", "Mass", "No Finding")
METRICS = ("pointing_game", "cnr", "miou", "dice")


@dataclasses.dataclass(frozen=True)
class MadeRun(runs_lib.Run):
  """A run that keeps its scores at hand instead of in files."""

  kept: Any

  def scores(self, benchmark) -> Any:
    assert benchmark in self.metrics["benchmarks"]
    return self.kept


def make(name, seed=0, *, skill=1.0, beats_prior=True, directory="nowhere"):
  """Returns a run with all parts; `skill` parts positives from negatives."""
  rng = np.random.default_rng(seed)
  truth = (rng.random((90, len(LABELS))) < 0.4).astype(np.int8)
  truth[:, 3] = 0  # a label without positives
  scores = rng.normal(size=truth.shape) + skill * truth
  labels = {
    label: _label(rng, skill, truth[:, i], label)
    for i, label in enumerate(LABELS)
  }
  benchmark = {
    "unit": "image",
    "split": "test",
    "scoring": "difference",
    "scores": "scores_chexpert.csv",
    "data_manifest_sha256": "c0ffee" * 10,
    "rows": 90,
    "patients": 40,
    "macro_auroc": {**around(rng, 0.6 + 0.2 * skill), "num_labels": 3},
    "macro_average_precision": {**around(rng, 0.5), "num_labels": 3},
    "labels": labels,
    "thresholds_from": "validate",
    "calibration": {
      "method": "Platt, fitted on validate",
      "ece": around(rng, 0.04, 0.01),
      "bins": [
        {
          "low": i / 15,
          "high": (i + 1) / 15,
          "count": 0 if i == 7 else 40,
          "confidence": (i + 0.5) / 15,
          "frequency": float(np.clip((i + 0.5) / 15 + rng.normal() / 20, 0, 1)),
        }
        for i in range(15)
      ],
    },
    "subgroups": {
      "sex": {"F": _group(rng, skill), "M": _group(rng, skill)},
      "age_band": {
        band: _group(rng, skill) for band in ("<40", "40-59", "60-79", "80+")
      },
      "view": {
        "PA": _group(rng, skill),
        "AP": {"rows": 3, "patients": 2, "macro_auroc": None},
      },
    },
    "readers": {
      f"reader {letter}": {
        label: {
          key: around(rng, level)
          for key, level in (
            ("f1", 0.7),
            ("mcc", 0.6),
            ("sensitivity", 0.7),
            ("specificity", 0.8),
          )
        }
        | {"model_sensitivity": 0.75, "below": letter == "A"}
        for label in LABELS[:3]
      }
      for letter in "AB"
    }
    | {
      "mean reader": {
        label: {
          "sensitivity": {"value": 0.7, "low": None, "high": None},
          "specificity": {"value": 0.8, "low": None, "high": None},
          "model_sensitivity": 0.75,
          "below": True,
        }
        for label in LABELS[:3]
      }
    },
  }
  return MadeRun(
    name=name,
    directory=Path(directory),
    metrics={
      "step": 4000,
      "params": "ema",
      "digests": {
        "weights": f"{seed:02d}" + "abcd" * 15,
        "prompts": "12ab" * 16,
        "data": {"chexpert": "34cd" * 16},
        "code": "56ef" * 16,
      },
      "bootstrap": {"resampled": "patients", "num_resamples": 2000, "seed": 0},
      "benchmarks": {"chexpert": benchmark},
      "retrieval": _retrieval(rng),
      "grounding": {"mimic_cxr": _grounding(rng, beats_prior)},
      "similarity": _similarity(rng, skill),
      "probe": {
        "chexpert": {
          share: {**around(rng, level), "num_labels": 3}
          for share, level in (("1%", 0.62), ("10%", 0.7), ("100%", 0.78))
        }
      },
    },
    curves=[
      {
        "step": step,
        "train/loss": float(4 - step / 800 + rng.normal() / 9),
        "valid/contrastive_loss": 3.0,
        "train/token_entropy": 3.9 - step / 9000,
        "train/token_entropy_gap": 0.1 + step / 9000,
        "valid/chexpert/macro_auroc": 0.5 + step / 20000,
        "train/grad_norm": 1.0,
      }
      for step in range(0, 4001, 200)
    ],
    config={
      "seed": seed,
      "data": {"data_dir": "/home/someone/secret/data", "datasets": ["mimic"]},
    },
    kept=types.SimpleNamespace(labels=LABELS, truth=truth, scores=scores),
  )


def deltas(first, second):
  """Returns differences as `report.write` takes them, invented."""
  rng = np.random.default_rng(5)
  entry = first.metrics["benchmarks"]["chexpert"]
  assert second.metrics["benchmarks"]["chexpert"]["rows"] == entry["rows"]
  labels = {}
  for i, (label, item) in enumerate(entry["labels"].items()):
    tests = {"p": 0.0004 + 0.04 * i, "p_holm": 0.0016 + 0.06 * i}
    labels[label] = item["auroc"] and {**around(rng, 0.02, 0.02), **tests}
  macro = {**around(rng, 0.02, 0.01), "p": 0.03}
  grounding = {"rows": 60, "macro": {n: around(rng, 0.1) for n in METRICS}}
  return {
    "benchmarks": {"chexpert": {"macro": macro, "labels": labels}},
    "grounding": {
      "mimic_cxr": {"phrase": grounding, "token": None, "left_out": 3}
    },
    "refused": {"benchmarks": {}, "grounding": {}},
  }


def around(rng, value, width=0.05):
  """Returns an interval about a value near `value`."""
  value = value + rng.normal() * width / 3
  return {
    "value": float(value),
    "low": float(value - width * rng.uniform(0.7, 1.3)),
    "high": float(value + width * rng.uniform(0.7, 1.3)),
  }


def _label(rng, skill, truth, label):
  positives = int(truth.sum())
  missing = positives == 0
  operating = {
    "f1": around(rng, 0.6),
    "mcc": around(rng, 0.45),
    "f1_threshold": 0.1,
    "mcc_threshold": 0.12,
    "sensitivity": around(rng, 0.55),
    "specificity": around(rng, 0.89),
    "sensitivity_threshold": 0.2,
  }
  return {
    "auroc": None if missing else around(rng, 0.6 + 0.2 * skill),
    "average_precision": None if missing else around(rng, 0.6),
    "positives": positives,
    "negatives": len(truth) - positives,
    "redrawn": 0,
    "in_macro": label != "No Finding",
    "operating": None if missing else operating,
  }


def _group(rng, skill):
  return {
    "rows": 45,
    "patients": 20,
    "macro_auroc": {**around(rng, 0.6 + 0.2 * skill, 0.08), "num_labels": 3},
  }


def _retrieval(rng):
  def direction(level):
    recalls = {
      f"recall@{k}": around(rng, level * k**0.5, 0.03) for k in (1, 5, 10)
    }
    return {**recalls, "median_rank": 14.0}

  return {
    "split": "test",
    "images": 300,
    "studies": 250,
    "image_to_text": direction(0.12),
    "text_to_image": direction(0.1),
    "chance": {
      way: {"recall@1": 0.004, "recall@5": 0.02, "recall@10": 0.04}
      for way in ("image_to_text", "text_to_image")
    },
  }


def _grounding(rng, beats_prior):
  def grounds(level):
    def values():
      return {
        "pointing_game": around(rng, level),
        "cnr": around(rng, 2 * level - 0.5, 0.2),
        "miou": around(rng, level / 2),
        "dice": around(rng, level / 1.6),
      }

    ious = {f"iou@0.{i}": around(rng, level / i) for i in range(1, 6)}
    return {
      "rows": 60,
      "macro": {**values(), **ious},
      "findings": {
        name: {"rows": 20, **values()} for name in ("Edema", "Mass <b>")
      },
    }

  against = 0.2 if beats_prior else 0.0
  return {
    "split": "test",
    "prior_from": "validate",
    "maps": {
      "phrase": grounds(0.55),
      "token": grounds(0.5),
      "contrast": grounds(0.6),
    },
    "prior": grounds(0.4),
    "prior_of_phrase": grounds(0.45),
    "random": grounds(0.15),
    "against_prior": {name: around(rng, against) for name in METRICS},
    "token_against_prior": {name: around(rng, 0.0) for name in METRICS},
    "contrast_against_prior": {name: around(rng, against) for name in METRICS},
  }


def _similarity(rng, skill):
  centres = (np.arange(80) + 0.5) / 40 - 1
  spread = 0.12 + 0.1 * (1 - skill)
  counts = 2e5 * np.exp(-((centres - 0.05) ** 2) / 2 / spread**2)
  return {
    "split": "test",
    "pairs": 512,
    "temperature": 0.1,
    "histogram": counts.astype(int).tolist(),
    "near_zero": around(rng, 0.5),
    **{
      f"{name}{suffix}": around(rng, level)
      for suffix in ("", "_t1", "_t0.07")
      for name, level in (
        ("token_entropy", 3.2),
        ("patch_entropy", 2.2),
        ("effective_patches", 25.0),
      )
    },
    "mean_max": around(rng, 0.4),
    "row_cosine": around(rng, 0.3 if skill > 0.3 else 0.995, 0.003),
  }
