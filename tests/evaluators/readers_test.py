from pathlib import Path

import numpy as np
import pytest
from sklearn import metrics

from tests.evaluators import rows
from tier_jax.evaluators import bootstrap, readers, statistics

REAL = Path(__file__).parents[3] / "shared/data/labels/chexpert_test_set"
LABELS = (
  "Atelectasis",
  "Cardiomegaly",
  "Consolidation",
  "Edema",
  "Pleural Effusion",
)


def _write(tmp_path, text):
  path = tmp_path / "table.csv"
  path.write_bytes(text if isinstance(text, bytes) else text.encode())
  return path


def test_columns_are_read_by_name(tmp_path):
  path = _write(
    tmp_path,
    '\ufeffEdema,Study,Notes,Atelectasis\n1,a/study1,"x, y",0\n0.5,b,,-2e-1\n',
  )
  studies, values = readers.read(path, ("Atelectasis", "Edema"))
  assert studies == ("a/study1", "b")
  np.testing.assert_array_equal(values, [[0, 1], [-0.2, 0.5]])
  np.testing.assert_array_equal(
    readers.align(studies, values, ("b", "a/study1", "b")), values[[1, 0, 1]]
  )
  with pytest.raises(ValueError, match="1 of 2 studies have no row"):
    readers.align(studies, values, ("b", "c"))


@pytest.mark.parametrize(
  ("text", "message"),
  [
    ("", "0 columns 'Study'"),
    ("Study,Oedema\na,1\n", "0 columns 'Edema'"),
    ("Study,Edema,Edema\na,1,1\n", "2 columns 'Edema'"),
    ("Study,Edema\na,1\nb\n", "row 3 has 1 cells, expected 2"),
    ("Study,Edema\na,1\na,1\n", "1 rows of studies that are there already"),
    ("Study,Edema\na,\n", "row 2, column 'Edema' is no finite number"),
    ("Study,Edema\na,yes\n", "row 2, column 'Edema' is no finite number"),
    ("Study,Edema\na,nan\n", "no finite number"),
    ("Study,Edema\na,inf\n", "no finite number"),
    ('Study,Edema\n"a,1\n', "no CSV in UTF-8"),
    (b"Study,Edema\n\xff\xfe,1\n", "no CSV in UTF-8"),
    ("Study,Edema\n" + "a" * 200_000 + ",1\n", "no CSV in UTF-8"),
  ],
)
def test_other_tables_are_refused(tmp_path, text, message):
  with pytest.raises(ValueError, match=message):
    readers.read(_write(tmp_path, text), ("Edema",))


def test_what_is_no_file_or_too_large_is_refused(tmp_path, monkeypatch):
  with pytest.raises(ValueError, match="is missing"):
    readers.read(tmp_path / "none.csv", ("Edema",))
  monkeypatch.setattr(readers, "_MAX_BYTES", 10)
  with pytest.raises(ValueError, match="is larger than"):
    readers.read(_write(tmp_path, "Study,Edema\n"), ("Edema",))


def test_figures_are_those_of_the_calls_and_paired_with_a_models():
  rng = np.random.default_rng(0)
  truth = rng.integers(-1, 2, (80, 2))
  truth[:, 1] = 0
  calls = np.where(rng.random((80, 2)) < 0.8, truth == 1, truth != 1).astype(
    int
  )
  patients = np.arange(80) // 2
  summary = readers.summarise(
    ("Edema", "Fracture"), truth, {"one": calls}, patients, num_resamples=40
  )
  assert list(summary) == ["one"] and summary["one"]["Fracture"] is None
  figures = summary["one"]["Edema"]
  assert figures is not None
  counted = truth[:, 0] != -1
  stated, called = truth[counted, 0], calls[counted, 0]
  assert {name: item["value"] for name, item in figures.items()} == (
    pytest.approx(
      {
        "f1": metrics.f1_score(stated, called),
        "mcc": metrics.matthews_corrcoef(stated, called),
        "sensitivity": called[stated == 1].mean(),
        "specificity": 1 - called[stated == 0].mean(),
      }
    )
  )
  # The AUROC of 0/1 scores is the mean of the two rates: in every resample.
  areas = bootstrap.ranking_draws(truth, calls, patients, num_resamples=40)
  draws = bootstrap.call_draws(truth, calls, patients, num_resamples=40).values
  np.testing.assert_allclose(
    areas.values["auroc"][:, 0],
    (draws["sensitivity"] + draws["specificity"])[:, 0] / 2,
  )
  assert figures["mcc"]["low"] < figures["mcc"]["value"]
  with pytest.raises(ValueError, match="'one' has calls other than 0 and 1"):
    readers.summarise(LABELS[:2], truth, {"one": calls / 2}, patients)


def _beside(truth, scores, calls):
  """Returns the entry of a label whose readers called so."""
  calls = {name: np.array(called)[:, None] for name, called in calls.items()}
  truth = np.array(truth)[:, None]
  ids = [str(i) for i in range(len(truth))]
  figures = readers.summarise(("Edema",), truth, calls, ids, num_resamples=0)
  # The model's rows come in another order than the readers' studies.
  model = rows.Rows(
    labels=("Edema",),
    image_ids=tuple(ids),
    patient_ids=tuple(ids),
    truth=truth[::-1],
    scores=np.array(scores, float)[::-1, None],
  )
  found = readers.beside_curve(figures, model)
  assert found is not None
  return {name: labels["Edema"] or {} for name, labels in found.items()}


def test_place_beside_the_curve_by_hand():
  truth = [1, 1, 1, 1, 0, 0, 0, 0, -1]
  scores = [0.9, 0.8, 0.6, 0.3, 0.7, 0.5, 0.2, 0.1, 0.5]
  # The curve: (0, 0.5), (0.25, 0.5), (0.25, 0.75), (0.5, 0.75), (0.5, 1).
  calls = {
    "careful": [1, 0, 0, 0, 0, 0, 0, 0, 1],
    "keen": [1, 1, 1, 1, 1, 0, 0, 0, 1],
  }
  found = _beside(truth, scores, calls)
  rates = "sensitivity", "specificity"
  points = {
    name: (*(item[rate]["value"] for rate in rates), item["model_sensitivity"])
    for name, item in found.items()
  }
  assert points == {
    "careful": (0.25, 1.0, 0.5),
    "keen": (1.0, 0.75, 0.75),
    readers.MEAN: (0.625, 0.875, 0.5),
  }
  below = [name for name, item in found.items() if item["below"]]
  assert below == ["careful"]
  assert "f1" in found["keen"] and "f1" not in found[readers.MEAN]
  assert list(_beside(truth, scores, {"one": calls["keen"]})) == ["one"]


def test_a_label_without_a_class_has_no_place_beside_the_curve():
  assert _beside([0, 0], [1, 2], {"a": [0, 1], "b": [1, 0]}) == {
    "a": {},
    "b": {},
    readers.MEAN: {},
  }
  assert readers.beside_curve(None, rows.draw(0, "a")) is None


def test_a_reader_who_calls_everything_meets_the_curves_end():
  found = _beside([1, 0, 1, 0], [1, 2, 3, 3], {"all": [1, 1, 1, 1]})
  assert found["all"]["model_sensitivity"] == 1.0
  # A tie is a slope, whose points are reached by calling some of it at random.
  half = _beside([1, 0, 1, 0], [1, 1, 1, 1], {"one": [0, 1, 0, 0]})
  assert half["one"]["model_sensitivity"] == 0.5


@pytest.mark.parametrize("alarms", range(1, 49))
def test_a_reader_on_a_vertical_stretch_is_held_to_its_upper_end(alarms):
  # 1 - (1 - k / 49) is not k / 49 for every k.
  truth = [0] * 49 + [1, 1]
  scores = [*range(49, 0, -1), 100, 49.5 - alarms]
  called = [1] * alarms + [0] * (49 - alarms) + [1, 0]
  found = _beside(truth, scores, {"one": called})["one"]
  assert (found["model_sensitivity"], found["below"]) == (1.0, True)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared is not here")
def test_real_readers_and_models_of_the_chexpert_test_set():
  studies, truth = readers.read(REAL / "groundtruth.csv", LABELS)
  truth = truth.astype(np.int8)
  patients = [study.split("/")[-2] for study in studies]
  assert truth.sum(axis=0).tolist() == [153, 151, 29, 78, 104]
  calls = {
    path.stem: readers.align(*readers.read(path, LABELS), studies)
    for path in (REAL / "radiologists/benchmark_radiologists").glob("*.csv")
  }
  summary = readers.summarise(LABELS, truth, calls, patients, num_resamples=200)
  assert sorted(summary) == ["bc4", "bc6", "bc8"]
  for reader, figures in summary.items():
    for i, label in enumerate(LABELS):
      item = figures[label]
      assert item is not None
      expected = metrics.matthews_corrcoef(truth[:, i], calls[reader][:, i])
      assert item["mcc"]["value"] == pytest.approx(expected, abs=1e-12)
      assert item["mcc"]["low"] < item["mcc"]["value"] < item["mcc"]["high"]
  models = sorted((REAL / "example_models").rglob("*.csv"))
  assert len(models) == 10
  for path in models:
    scores = readers.align(*readers.read(path, LABELS), studies)
    areas = [
      statistics.auroc(truth[:, i], scores[:, i]) for i in range(len(LABELS))
    ]
    expected = metrics.roc_auc_score(truth, scores, average=None)
    assert areas == pytest.approx(list(expected), abs=1e-12)
    macro, _ = statistics.macro(areas)
    assert macro is not None and 0.85 < macro < 0.95
