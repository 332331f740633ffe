import dataclasses

import pytest

from tests.evaluators import made_runs
from tier_jax.evaluators.sections import record


def body(run):
  (section,) = record.render([run])
  return section.body


@pytest.mark.parametrize(
  ("words", "shown"),
  [
    ("/home/ann/data/mimic", ">mimic<"),
    ("~/data/mimic", ">mimic<"),
    ("C:\\Users\\ann\\data\\mimic", ">mimic<"),
    ("--data_dir=/home/ann/data", ">--data_dir=data<"),
    ("/home/ann/a,/home/ann/b", ">a,b<"),
    ("runs/demo/data", ">runs/demo/data<"),
    ("gs://bucket/folder/data", ">gs://bucket/folder/data<"),
    ("1/2 of it and/or more", ">1/2 of it and/or more<"),
  ],
)
def test_folders_of_a_machine_are_not_shown(words, shown):
  run = made_runs.make("one")
  run = dataclasses.replace(
    run, metrics={**run.metrics, "source": words}, config={"a": [words]}
  )
  text = body(run)
  assert shown in text
  assert "ann" not in text
  assert shown[1:-1].replace("\\", "\\\\") in text.partition("<pre>")[2]


def test_digests_stand_one_a_line_and_parameters_in_words():
  run = made_runs.make("one")
  text = body(run)
  assert "digests: data: chexpert" in text
  assert run.metrics["digests"]["weights"] in text
  assert "the moving average (EMA) of the parameters" in text
  raw = dataclasses.replace(run, metrics={**run.metrics, "params": "raw"})
  assert "the parameters themselves" in body(raw)
