"""scores_NAME.csv: one row an image, from which every figure can be computed.

The columns are ids, groups, then truth and score of each label.
"""

import array
import csv
from pathlib import Path
from typing import Any

import numpy as np

from tier_jax.evaluators import zero_shot

_IDS = ("image_id", "study_id", "patient_id")
_FIXED = (*_IDS, *zero_shot.GROUPS)
_TRUTH, _SCORE = " truth", " score"
_TRUTHS = {"": -1, "0": 0, "1": 1}


def name(benchmark: str) -> str:
  """Returns the file's name for a benchmark's."""
  return f"scores_{benchmark.replace(':', '_')}.csv"


def write(path: Path, scores: zero_shot.Scores) -> None:
  """Writes one row an image.

  A truth that is not counted is a blank. Scores are written so that reading
  them gives the same float32 values.
  """
  header = list(_FIXED)
  for label in scores.labels:
    header += [label + _TRUTH, label + _SCORE]
  with path.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    for i, image_id in enumerate(scores.image_ids):
      row: list[Any] = [image_id, scores.study_ids[i], scores.patient_ids[i]]
      row += [scores.groups[group][i] for group in zero_shot.GROUPS]
      for truth, score in zip(scores.truth[i], scores.scores[i], strict=True):
        row += ["" if truth == -1 else int(truth), str(score)]
      writer.writerow(row)


def read(path: Path) -> zero_shot.Scores:
  """Returns what `write` wrote.

  Raises:
    ValueError: if the file is missing, or its columns or cells are others.
  """
  if not path.is_file():
    raise ValueError(f"{path} is missing, expected the scores of a benchmark")
  start = len(_FIXED)
  with path.open(encoding="utf-8", newline="") as file:
    reader = csv.reader(file)
    header = next(reader, [])
    labels = [label.removesuffix(_TRUTH) for label in header[start::2]]
    expected = list(_FIXED)
    for label in labels:
      expected += [label + _TRUTH, label + _SCORE]
    known = header == expected
    fixed: list[list[str]] = []
    # There can be twenty million of either: not as objects of Python's.
    truth, values = array.array("b"), array.array("f")
    for row in reader:
      known = known and len(row) == len(header)
      if not known:
        break
      fixed.append(row[:start])
      try:
        truth.extend(_TRUTHS[cell] for cell in row[start::2])
        values.extend(float(cell) for cell in row[start + 1 :: 2])
      except (KeyError, ValueError) as error:
        raise ValueError(
          f"{path.name}: a truth is not 1, 0 or blank, or a score no number"
        ) from error
  if not known:
    raise ValueError(
      f"{path.name}: expected the columns {', '.join(_FIXED)} and each "
      "label's truth and score"
    )
  shape = (len(fixed), len(labels))
  columns = {
    field: tuple(row[i] for row in fixed) for i, field in enumerate(_FIXED)
  }
  return zero_shot.Scores(
    labels=tuple(labels),
    image_ids=columns["image_id"],
    study_ids=columns["study_id"],
    patient_ids=columns["patient_id"],
    truth=np.array(truth, np.int8).reshape(shape),
    scores=np.array(values, np.float32).reshape(shape),
    groups={group: columns[group] for group in zero_shot.GROUPS},
  )
