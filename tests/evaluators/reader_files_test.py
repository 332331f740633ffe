import csv
from pathlib import Path

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import reader_files, readers, zero_shot
from tier_jax.evaluators.benchmarks import chexpert

LABELS = chexpert.TEST.labels or ()


def write(path, values):
  """Writes one row a study, two studies a patient."""
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow(["Study", *LABELS])
    for i, row in enumerate(values):
      study = f"CheXpert-v1.0/test/patient{i // 2}/study{i % 2}"
      writer.writerow([study, *row])
  return path


@pytest.fixture
def truth():
  return np.random.default_rng(0).integers(0, 2, (40, 5))


@pytest.fixture
def studies(tmp_path, truth):
  rows = [
    datasets.record(i, labels=dict(zip(LABELS, row.tolist(), strict=True)))
    for i, row in enumerate(truth)
  ]
  directory = datasets.write(tmp_path / "chexpert", {"test": rows})
  return zero_shot.ZeroShot(chexpert.TEST, directory).unscored.by_study()


def test_readers_are_named_by_their_files_and_patients_by_the_studies(
  tmp_path, truth, studies
):
  calls = np.random.default_rng(1).integers(0, 2, (40, 5))
  paths = [write(tmp_path / "gt.csv", truth), write(tmp_path / "b.csv", calls)]
  found = reader_files.evaluate(paths, studies, num_resamples=30, seed=1)
  expected = readers.summarise(
    LABELS,
    truth.astype(np.int8),
    {"b": calls},
    [f"CheXpert-v1.0/test/patient{i // 2}" for i in range(40)],
    num_resamples=30,
    seed=1,
  )
  assert found.keys() == {"b"} and found["b"].keys() == set(LABELS)
  assert found == expected


def test_readers_of_other_studies_are_refused(tmp_path, truth, studies):
  one = write(tmp_path / "one.csv", truth[:39])
  calls = write(tmp_path / "b.csv", truth)
  turned = write(tmp_path / "turned.csv", 1 - truth)
  for paths, message in (
    ([calls], "1 files of readers, expected the truth and a reader"),
    ([one, calls], "holds 39 studies .* 40 with .* expected the same studies"),
    ([turned, calls], "expected the same studies"),
    ([calls, one], "1 of 40 studies have no row"),
    ([write(tmp_path / "2.csv", 2 * truth), calls], "other than 0 and 1"),
  ):
    with pytest.raises(ValueError, match=message):
      reader_files.evaluate(paths, studies)


def test_real_readers(tmp_path):
  root = Path(__file__).parents[2].parent / "shared/data/labels"
  root /= "chexpert_test_set"
  if not root.is_dir():
    pytest.skip("the tables of the CheXpert test set are not here")
  names, values = readers.read(root / "groundtruth.csv", LABELS)
  rows = [
    datasets.record(i, labels=dict(zip(LABELS, map(int, row), strict=True)))
    for i, row in enumerate(values)
  ]
  directory = datasets.write(tmp_path / "chexpert", {"test": rows})
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  benchmark = sorted((root / "radiologists/benchmark_radiologists").iterdir())
  found = reader_files.evaluate(
    [root / "groundtruth.csv", *benchmark],
    evaluator.unscored.by_study(),
    num_resamples=0,
  )
  assert list(found) == ["bc4", "bc6", "bc8"] and len(names) == 500
  for reader in found.values():
    assert reader["Pleural Effusion"]["mcc"]["value"] > 0.5
