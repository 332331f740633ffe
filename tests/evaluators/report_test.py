import copy
import dataclasses
import html.parser
import json
import re

import pytest

from tests.evaluators import datasets, made_runs
from tier_jax.evaluators import (
  differences,
  heatmaps,
  report,
  results,
  zero_shot,
)
from tier_jax.evaluators import runs as runs_lib
from tier_jax.evaluators.benchmarks import registry

# No formula either: matplotlib would fail on it.
HOSTILE = '<script>alert("$\\foo$")</script>'
PARTS = ("grounding", "similarity", "retrieval", "probe")


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
  """Two runs on a table whose one label is hostile, with curves and maps."""
  root = tmp_path_factory.mktemp("report")
  found = []
  for name, flip in (("tier", 1), (HOSTILE, -1)):
    data = root / str(flip)
    labels = [
      {"Edema": i % 2, HOSTILE: int(i < 4), "Mass": 0} for i in range(9)
    ]
    rows = [
      datasets.record(i, level=90 + flip * 9 * i, labels=labels[i])
      for i in range(9)
    ]
    directory = datasets.write(data / "nih", {"test": rows})
    datasets.write(
      data / "mimic_cxr",
      {
        "test": [
          datasets.record(
            i, boxes=(("Edema", (9, 9, 20, 20)),), findings="Edema."
          )
          for i in range(2)
        ]
      },
    )
    evaluators = [zero_shot.ZeroShot(registry.find("table:nih"), directory)]
    encoder = datasets.Encoder()
    cases = heatmaps.Cases(data / "mimic_cxr", evaluators, encoder.image_size)
    cases.compute(encoder).save(data / runs_lib.HEATMAPS)
    results.evaluate(
      evaluators,
      encoder,
      data,
      {"step": 3, "params_sha256": "ab"},
      pictures=[runs_lib.HEATMAPS],
      num_resamples=50,
    )
    (data / "metrics.jsonl").write_text(
      '{"step": 0, "train/loss": 4, "train/grad_norm": NaN}\n{"step": 5, "tr'
    )
    (data / "config.json").write_text(json.dumps({"x": HOSTILE}))
    found.append(runs_lib.read(name, data, data))
  return found


@pytest.fixture(scope="module")
def pair():
  """Two invented runs that have every part of metrics.json."""
  return [made_runs.make("tier", 1), made_runs.make(HOSTILE, 2, skill=0.5)]


class _Page(html.parser.HTMLParser):
  """Collects tags, what they would fetch, and the text between them."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.open, self.text = [], [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag not in ("meta", "img", "br"):
      self.open.append(tag)
    self.links += [v for k, v in attrs if k in ("src", "href", "srcset")]

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.text += data


def check(text):
  """Asserts that a page is whole and that nothing is fetched or run."""
  page = _Page(text)
  assert not page.open
  assert not {"script", "link", "iframe", "object"} & set(page.tags)
  anchors = [link for link in page.links if link.startswith("#")]
  assert all(f'id="{link[1:]}"' in text for link in anchors)
  others = set(page.links) - set(anchors)
  assert others and all(link.startswith("data:image/") for link in others)
  assert not re.search(r"url\(|@import|https?://", text)
  assert HOSTILE not in text
  assert "not for clinical use" in page.text
  return page.text


def test_page_is_whole_self_contained_and_escaped(runs):
  text = check(report.render(runs, differences.of_runs(runs)))
  assert HOSTILE in text  # as words


def test_page_of_every_part_is_whole_and_escaped(pair):
  text = check(report.render(pair, made_runs.deltas(*pair)))
  for words in (
    *("Reliability", "Subgroups, macro AUROC", "Edema", "reader A"),
    *("Pointing game", "Token-to-patch similarity", "Recall at 5"),
    *("Linear probe", "p, Holm", "< 0.001", "average precision"),
  ):
    assert words in text
  assert "/home/" not in text and "secret" not in text


@pytest.mark.parametrize("scoring", [None, "softmax"])
def test_scores_made_elsewhere_are_said_to_be(pair, scoring):
  kept = ("unit", "split", "rows", "patients", "macro_auroc")
  entry = pair[0].metrics["benchmarks"]["chexpert"]
  benchmark = {key: entry[key] for key in (*kept, "data_manifest_sha256")}
  benchmark |= {"scoring": scoring, "labels": {}}
  metrics = {"benchmarks": {"chexpert": benchmark}}
  run = dataclasses.replace(
    pair[0], name="<theirs>", metrics=metrics, curves=[]
  )
  words = "The scores of &lt;theirs&gt; were made elsewhere."
  assert (words in report.render([run], {})) == (scoring is None)


@pytest.mark.parametrize("missing", [True, False])
def test_parts_that_are_missing_or_null_are_not_shown(pair, missing):
  benchmark = dict(pair[0].metrics["benchmarks"]["chexpert"])
  metrics = {"benchmarks": {"chexpert": benchmark}}
  if not missing:
    metrics |= dict.fromkeys(PARTS)
  for key in ("calibration", "subgroups", "readers", "thresholds_from"):
    if missing:
      del benchmark[key]
    else:
      benchmark[key] = None
  run = dataclasses.replace(pair[0], metrics=metrics, curves=[], config={})
  page = report.render([run], {})
  titles = re.findall("<h2>(.*?)</h2>", page)
  assert titles == ["Results", "chexpert", "Where the figures come from"]
  assert report.render([run], {}) == page


def test_page_shows_figures_curves_maps_and_what_is_missing(runs):
  text = report.render(runs, differences.of_runs(runs))
  entry = runs[0].metrics["benchmarks"]["table:nih"]
  assert f"{entry['macro_auroc']['value']:.3f}" in text
  assert "Mass (0 / 9)" in text
  assert "Total loss" in text
  assert "Zero-shot macro AUROC, validation" not in text
  assert text.count("<b>whole sentence</b>") == 4  # two images, two runs
  assert "outlined: the true extent" in text


def test_many_runs_are_shown_by_group_and_without_labels():
  names = [f"{arm}/{seed}" for arm in ("tier", "plain") for seed in range(3)]
  many = [made_runs.make(name, i) for i, name in enumerate(names)]
  page = report.render(many, {})
  text = check(page)
  assert "Chest x-ray evaluation: tier and plain" in text
  assert "<h3>ROC curves" not in page and "Subgroups" not in text
  assert all(name in text for name in names)
  # Pictures hold both groups' colours; a page of six stays a light one.
  assert page.count("<img") < 20 and len(page) < 600_000


def test_page_of_one_run_without_training_files_or_maps(runs, tmp_path):
  for path in runs[0].directory.glob("*.*"):
    if path.name == "metrics.json" or path.suffix == ".csv":
      (tmp_path / path.name).write_bytes(path.read_bytes())
  run = runs_lib.read("alone", tmp_path, tmp_path)
  report.write(tmp_path / "out" / "report.html", [run], {})
  text = check((tmp_path / "out" / "report.html").read_text("utf-8"))
  assert "Training" not in text and "Where the words point" not in text
  assert "difference" not in text.replace("by difference", "")


def test_pictures_of_another_evaluation_are_not_shown(runs, tmp_path):
  for path in runs[0].directory.glob("*.*"):
    (tmp_path / path.name).write_bytes(path.read_bytes())
  other = (runs[1].directory / runs_lib.HEATMAPS).read_bytes()
  (tmp_path / runs_lib.HEATMAPS).write_bytes(other + b"\0")
  run = runs_lib.read("tampered", tmp_path, tmp_path)
  with pytest.raises(ValueError, match=r"heatmaps\.npz is not the file"):
    report.render([run], {})
  del run.metrics["files"][runs_lib.HEATMAPS]
  assert "Where the words point" not in report.render([run], {})


def test_runs_that_were_not_measured_alike_are_said_to_be(pair):
  other = copy.deepcopy(pair[1])
  parts = other.metrics
  parts["benchmarks"]["chexpert"]["scoring"] = "softmax"
  for name in ("retrieval", "similarity"):
    parts[name]["split"] = "validate"
  parts["grounding"]["mimic_cxr"]["data_manifest_sha256"] = "another"
  parts["digests"]["code"] = "older"
  runs = [pair[0], other]
  deltas = differences.of_runs(runs)
  page = check(report.render(runs, deltas))
  words = "differ in scoring (difference, softmax)"
  assert deltas["refused"]["benchmarks"]["chexpert"].endswith(words)
  assert f"No difference is given: tier and {HOSTILE} {words}." in page
  assert page.count("No difference is given") == 2
  assert "differ in prepared data" in page
  assert page.count("differ in split (test, validate)") == 2
  assert "Not measured alike: see below" in page
  assert "Different versions of the code evaluated the runs." in page
  alike = check(report.render(pair, made_runs.deltas(*pair)))
  for words in ("differ in", "measured alike", "versions of the code"):
    assert words not in alike


def test_no_run_is_refused(tmp_path):
  with pytest.raises(ValueError, match="expected at least one"):
    report.write(tmp_path / "x.html", [], {})
