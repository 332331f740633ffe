import collections

import numpy as np

from data_prep.phantom import findings as findings_lib
from data_prep.phantom import patients


def test_a_patient_depends_on_seed_and_index_only():
  assert patients.draw(1, 7) == patients.draw(1, 7)
  assert patients.draw(1, 7) != patients.draw(2, 7)
  assert patients.draw(1, 7).anatomy != patients.draw(1, 8).anatomy


def test_six_patients_fill_all_datasets_and_splits():
  found = {
    (patient.dataset, patient.split)
    for patient in (patients.draw(0, index) for index in range(6))
  }
  assert found == {
    ("mimic_cxr", "train"),
    ("mimic_cxr", "validate"),
    ("mimic_cxr", "test"),
    ("chexpert", "valid"),
    ("chexpert", "test"),
    ("padchest", "all"),
  }


def test_ranks_count_up_without_gaps():
  ranks = collections.defaultdict(list)
  for index in range(200):
    patient = patients.draw(0, index)
    ranks[patient.dataset].append(patient.rank)
    ranks[patient.dataset, patient.split].append(patient.split_rank)
  for values in ranks.values():
    assert values == list(range(len(values)))
  assert len(ranks["mimic_cxr"]) == 140
  assert len(ranks["chexpert"]) == len(ranks["padchest"]) == 30


def test_shares_are_those_that_the_benchmarks_need():
  studies = [
    study for index in range(1500) for study in patients.draw(0, index).studies
  ]
  for name in (
    "atelectasis",
    "cardiomegaly",
    "consolidation",
    "edema",
    "effusion",
  ):
    share = np.mean([study.has(name) for study in studies])
    assert 0.18 < share < 0.33, name
  well = [
    all(finding.name == "devices" for finding in study.findings)
    for study in studies
  ]
  assert 0.2 < np.mean(well) < 0.3
  failing = [study for study in studies if study.has("edema")]
  together = np.mean([study.has("cardiomegaly") for study in failing])
  apart = np.mean([study.has("cardiomegaly") for study in studies])
  assert together > 1.5 * apart
  assert 1.2 < sum(len(study.pictures) for study in studies) / 1500 < 1.45


def test_hearts_called_normal_are_smaller_than_big_ones():
  extents = findings_lib.LOOKS["cardiomegaly"].extent
  assert findings_lib.NORMAL_HEART[1] < min(low for low, _ in extents)
