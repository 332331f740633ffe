import tracemalloc

import numpy as np
import pytest

from tier_jax.evaluators import score_files, zero_shot

FIXED = "image_id,study_id,patient_id,sex,age_band,view"


def test_scores_survive_the_csv_bit_for_bit(tmp_path):
  rng = np.random.default_rng(0)
  scores = zero_shot.Scores(
    labels=('a, "b"', "c truth"),
    image_ids=tuple("abc"),
    study_ids=tuple("ddd"),
    patient_ids=tuple("eee"),
    truth=np.array([[1, 0], [-1, 1], [0, -1]], np.int8),
    scores=rng.normal(size=(3, 2)).astype(np.float32),
    groups={
      "sex": ("F", "M", ""),
      "age_band": ("60-69", "", "90+"),
      "view": ("frontal", "lateral", "unknown"),
    },
  )
  path = tmp_path / score_files.name("table:ours")
  assert path.name == "scores_table_ours.csv"
  score_files.write(path, scores)
  again = score_files.read(path)
  for field in ("labels", "image_ids", "study_ids", "patient_ids", "groups"):
    assert getattr(again, field) == getattr(scores, field)
  np.testing.assert_array_equal(again.truth, scores.truth)
  np.testing.assert_array_equal(again.scores, scores.scores)


def test_scores_take_their_arrays_alone(tmp_path):
  rows, labels = 400, 100
  rng = np.random.default_rng(0)
  names = tuple(map(str, range(rows)))
  path = tmp_path / "scores.csv"
  score_files.write(
    path,
    zero_shot.Scores(
      labels=tuple(f"label {i}" for i in range(labels)),
      image_ids=names,
      study_ids=names,
      patient_ids=names,
      truth=rng.integers(-1, 2, (rows, labels)).astype(np.int8),
      scores=rng.normal(size=(rows, labels)).astype(np.float32),
      groups=dict.fromkeys(zero_shot.GROUPS, ("",) * rows),
    ),
  )
  tracemalloc.start()
  score_files.read(path)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  # Twice 5 bytes a cell, ids, and what the reading needs; as objects, 150.
  assert peak / (rows * labels) < 40


@pytest.mark.parametrize(
  "text",
  [
    "",
    "image_id,study_id,patient_id,A truth,A score\n",
    f"{FIXED},A truth\n",
    f"{FIXED},A truth,B score\n",
    f"{FIXED},A truth,A score\na,b,c,F,,frontal,1\n",
    f"{FIXED},A truth,A score\na,b,c,F,,frontal,yes,1\n",
    f"{FIXED},A truth,A score\na,b,c,F,,frontal,2,1\n",
    f"{FIXED},A truth,A score\na,b,c,F,,frontal,1,high\n",
    f"{FIXED},A truth,A score\na,b,c,F,,frontal,1,1\na,b\n",
  ],
)
def test_malformed_scores_are_refused(tmp_path, text):
  path = tmp_path / "scores.csv"
  path.write_text(text)
  with pytest.raises(ValueError, match=r"scores\.csv"):
    score_files.read(path)
  with pytest.raises(ValueError, match="is missing"):
    score_files.read(tmp_path / "none.csv")
