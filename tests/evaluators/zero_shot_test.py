import dataclasses

import numpy as np
import pytest
from sklearn import metrics

from tests.evaluators import datasets
from tier_jax.evaluators import metrics as metrics_lib
from tier_jax.evaluators import prompts, zero_shot
from tier_jax.evaluators.benchmarks import (
  benchmark,
  chexpert,
  padchest,
  registry,
)


def _chexpert(tmp_path, rows):
  return datasets.write(tmp_path / "chexpert", {"test": rows})


def _rows():
  """Patients 0-9, two images each; edema is as bright as the patient."""
  rows = []
  for patient in range(10):
    labels = {"Edema": int(patient in (3, 6, 7, 8, 9))}
    labels["Cardiomegaly"] = -1 if patient == 0 else patient % 2
    for image in range(2):
      level = 5 * patient + image
      rows.append(
        datasets.record(patient, image=image, level=level, labels=labels)
      )
  return rows


def test_class_embed_is_the_renormalised_mean_of_each_side():
  embeds = [np.array([1.0, 0.0]), np.array([0.0, 1.0])]
  np.testing.assert_allclose(
    zero_shot.class_embed(embeds), [0.5**0.5, 0.5**0.5], rtol=1e-6
  )
  np.testing.assert_array_equal(zero_shot.class_embed([np.zeros(2)]), [0, 0])


def test_score_is_the_difference_of_cosines(tmp_path):
  encoder = datasets.Encoder()
  directory = _chexpert(tmp_path, _rows())
  scores = zero_shot.ZeroShot(chexpert.TEST, directory).run(encoder)
  assert scores.labels == chexpert.TEST.labels
  assert scores.scores.shape == (20, 5)

  found = prompts.for_label("Edema")
  sides = []
  for side in (found.positive, found.negative):
    mean = encoder.embed_texts(list(side)).text_embeds.mean(axis=0)
    sides.append(mean / np.linalg.norm(mean))
  pixels = np.full((1, 16, 16), 100, np.uint8)
  pixels[:, :, :8] += 5 * 7 + 1
  image = encoder.embed_images(pixels)[0][0]
  row = scores.image_ids.index("image7-1")
  column = scores.labels.index("Edema")
  assert scores.scores[row, column] == pytest.approx(
    image @ sides[0] - image @ sides[1], abs=1e-5
  )


def test_uncertain_and_blank_are_not_counted(tmp_path):
  rows = _rows()
  rows[2] = dataclasses.replace(rows[2], labels={"Edema": 0})
  directory = _chexpert(tmp_path, rows)
  scores = zero_shot.ZeroShot(chexpert.TEST, directory).run(datasets.Encoder())
  cardiomegaly = scores.truth[:, scores.labels.index("Cardiomegaly")]
  assert cardiomegaly[:4].tolist() == [-1, -1, -1, 1]
  summary = metrics_lib.summarise(scores, num_resamples=200)
  assert summary["labels"]["Cardiomegaly"]["positives"] == 9
  assert summary["labels"]["Cardiomegaly"]["negatives"] == 8
  assert summary["labels"]["Atelectasis"]["auroc"] is None
  assert summary["labels"]["Atelectasis"]["negatives"] == 0
  edema = summary["labels"]["Edema"]["auroc"]
  truth = scores.truth[:, scores.labels.index("Edema")]
  column = scores.scores[:, scores.labels.index("Edema")]
  assert edema["value"] == metrics.roc_auc_score(truth, column)
  assert edema["low"] < edema["value"] <= edema["high"]
  macro = summary["macro_auroc"]
  assert macro["num_labels"] == 2
  expected = summary["labels"]["Cardiomegaly"]["auroc"]["value"]
  assert macro["value"] == pytest.approx((edema["value"] + expected) / 2)
  assert macro["low"] < macro["value"] < macro["high"]


def test_study_score_is_the_mean_of_its_images(tmp_path):
  directory = _chexpert(tmp_path, _rows())
  scores = zero_shot.ZeroShot(chexpert.TEST, directory).run(datasets.Encoder())
  studies = scores.by_study()
  assert len(studies.image_ids) == 10
  row = studies.study_ids.index("study7")
  images = [i for i, s in enumerate(scores.study_ids) if s == "study7"]
  np.testing.assert_allclose(
    studies.scores[row], scores.scores[images].mean(axis=0), rtol=1e-6
  )
  np.testing.assert_array_equal(studies.truth[row], scores.truth[images[0]])
  assert studies.patient_ids[row] == "patient7"


def test_study_of_two_minds_is_refused(tmp_path):
  rows = _rows()
  rows[5] = dataclasses.replace(rows[5], labels={"Edema": 1})
  directory = _chexpert(tmp_path, rows)
  scores = zero_shot.ZeroShot(chexpert.TEST, directory).run(datasets.Encoder())
  with pytest.raises(ValueError, match="1 studies hold images of different"):
    scores.by_study()


def test_padchest_counts_what_is_not_listed_as_absent(tmp_path):
  rows = [
    datasets.record(i, level=3 * i, labels={"pneumothorax": 1} if i > 5 else {})
    for i in range(9)
  ]
  directory = datasets.write(tmp_path / "padchest", {"test": rows})
  scores = zero_shot.ZeroShot(padchest.TEST, directory).run(datasets.Encoder())
  summary = metrics_lib.summarise(scores, num_resamples=20)
  assert summary["labels"]["pneumothorax"]["auroc"]["value"] == 1.0
  assert summary["labels"]["pneumothorax"]["negatives"] == 6
  assert summary["labels"]["cardiomegaly"] == {
    "auroc": None,
    "average_precision": None,
    "positives": 0,
    "negatives": 9,
    "redrawn": 0,
    "in_macro": True,
  }
  assert summary["macro_auroc"]["num_labels"] == 1


def test_second_run_reads_no_image_again_and_gives_the_same(tmp_path):
  evaluator = zero_shot.ZeroShot(chexpert.TEST, _chexpert(tmp_path, _rows()))
  first = evaluator.run(datasets.Encoder())
  evaluator._source = None  # pyright: ignore
  second = evaluator.run(datasets.Encoder())
  np.testing.assert_array_equal(first.scores, second.scores)


def test_summary_without_resamples_has_no_interval(tmp_path):
  evaluator = zero_shot.ZeroShot(chexpert.TEST, _chexpert(tmp_path, _rows()))
  summary = metrics_lib.summarise(
    evaluator.run(datasets.Encoder()), num_resamples=0
  )
  assert summary["macro_auroc"]["value"] > 0.5
  assert summary["macro_auroc"]["low"] is None


def test_dataset_without_the_labels_or_the_split_is_refused(tmp_path):
  directory = _chexpert(tmp_path, [datasets.record(0, labels={"Hernia": 1})])
  with pytest.raises(ValueError, match="states any of its 5 labels"):
    zero_shot.ZeroShot(chexpert.TEST, directory)
  with pytest.raises(ValueError, match="no records in split 'validate'"):
    zero_shot.ZeroShot(
      dataclasses.replace(chexpert.TEST, split="validate"), directory
    )
  with pytest.raises(ValueError, match="manifest"):
    zero_shot.ZeroShot(chexpert.TEST, tmp_path / "nothing")


def test_table_takes_every_label_that_is_stated(tmp_path):
  rows = [datasets.record(i, labels={"B": i % 2, "A": 1}) for i in range(4)]
  directory = datasets.write(tmp_path / "nih", {"test": rows})
  evaluator = zero_shot.ZeroShot(registry.find("table:nih"), directory)
  assert evaluator.run(datasets.Encoder()).labels == ("A", "B")


def test_registry_names_what_it_knows():
  assert isinstance(registry.find("padchest"), benchmark.Benchmark)
  assert registry.find("table:nih").dataset == "nih"
  with pytest.raises(
    ValueError, match=r"'cxr'.*chexpert, chexpert_14, .*, table:NAME"
  ):
    registry.find("cxr")
  for name in ("table:", "table:../x", "table:a/b", "table:."):
    with pytest.raises(ValueError, match="expected table:NAME"):
      registry.find(name)


def test_scorings_differ_in_their_numbers_as_they_say(tmp_path):
  directory = _chexpert(tmp_path, _rows())
  encoder = datasets.Encoder()
  scores = {
    scoring: zero_shot.ZeroShot(
      dataclasses.replace(chexpert.TEST, scoring=scoring), directory
    ).run(encoder)
    for scoring in benchmark.SCORINGS
  }
  difference = scores["difference"].scores.astype(np.float64)
  softmax = scores["softmax"].scores
  np.testing.assert_allclose(softmax, 1 / (1 + np.exp(-difference)), rtol=1e-6)
  cosines = scores["positive_only"].scores
  evaluator = zero_shot.ZeroShot(chexpert.TEST, directory)
  side = prompts.for_label("Edema").positive
  positive = zero_shot.class_embed(encoder.embed_texts(side).text_embeds)
  np.testing.assert_allclose(
    cosines[:, chexpert.TEST.labels.index("Edema")],
    evaluator.embed(encoder) @ positive,
    rtol=1e-6,
  )
  with pytest.raises(ValueError, match="'best' is not one of difference, sof"):
    dataclasses.replace(chexpert.TEST, scoring="best")


def test_no_finding_is_scored_and_counts_in_no_macro(tmp_path):
  rows = [
    datasets.record(
      i, level=9 * i, labels={"Edema": int(i > 4), "No Finding": int(i > 2)}
    )
    for i in range(10)
  ]
  directory = _chexpert(tmp_path, rows)
  item = chexpert.TEST_14
  scores = zero_shot.ZeroShot(item, directory).run(datasets.Encoder())
  summary = metrics_lib.summarise(scores, apart=item.apart, num_resamples=20)
  assert summary["labels"]["No Finding"]["auroc"] is not None
  assert not summary["labels"]["No Finding"]["in_macro"]
  assert summary["macro_auroc"]["num_labels"] == 1
  edema = summary["labels"]["Edema"]
  for figure in metrics_lib.RANKINGS:
    macro = dict(summary[f"macro_{figure}"])
    assert macro.pop("num_labels") == 1
    assert macro == edema[figure]


def test_groups_of_a_study_are_its_own(tmp_path):
  rows = [
    dataclasses.replace(
      datasets.record(i // 2, image=i % 2, labels={"Edema": 1}),
      sex="FM"[i // 2],
      age_band="60-69",
      view=("frontal", "lateral")[i % 2],
    )
    for i in range(4)
  ]
  scores = zero_shot.ZeroShot(chexpert.TEST, _chexpert(tmp_path, rows)).unscored
  assert scores.groups == {
    "sex": ("F", "F", "M", "M"),
    "age_band": ("60-69",) * 4,
    "view": ("frontal", "lateral") * 2,
  }
  assert scores.by_study().groups == {
    "sex": ("F", "M"),
    "age_band": ("60-69",) * 2,
  }


def test_labels_are_read_without_a_pixel(tmp_path, monkeypatch):
  directory = _chexpert(tmp_path, _rows())
  monkeypatch.delattr(zero_shot.records, "decode")
  assert len(zero_shot.ZeroShot(chexpert.TEST, directory).unscored.truth) == 20


def test_a_sibling_asks_the_same_of_another_split(tmp_path):
  edema = [datasets.record(i, labels={"Edema": i % 2}) for i in range(4)]
  other = [datasets.record(9, labels={"Hernia": 1})]
  directory = datasets.write(
    tmp_path / "table", {"test": edema, "train": edema, "validate": other}
  )
  evaluator = zero_shot.ZeroShot(registry.find("table:table"), directory)
  sibling = evaluator.sibling("train")
  assert sibling is not None
  assert sibling.benchmark.split == "train"
  assert sibling.unscored.labels == ("Edema",)
  assert evaluator.sibling("validate") is None


@pytest.mark.parametrize("name", registry.NAMES[:-1])
def test_each_benchmark_is_whole(name):
  item = registry.find(name)
  assert item.name == name
  assert item.labels is not None
  assert len(set(item.labels)) == len(item.labels)
  assert set(item.apart) < set(item.labels)


def test_padchest_s_lists_lie_within_each_other():
  every = set(padchest.TEST_192.labels or ())
  assert len(every) == 192
  assert set(padchest.TEST.labels or ()) < every
  assert set(padchest.TEST_RARE.labels or ()) < every
  assert len(padchest.TEST_RARE.labels or ()) == 20
