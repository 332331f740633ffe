import html.parser
import json
import re

import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import heatmaps, report, results, zero_shot
from tier_jax.evaluators.benchmarks import registry

HOSTILE = '<script>alert("x")</script>'


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
    results.evaluate(
      evaluators,
      encoder,
      data,
      {"step": 3, "params_sha256": "ab"},
      num_resamples=50,
    )
    heatmaps.Cases(data, evaluators, encoder.image_size).compute(encoder).save(
      data / "heatmaps.npz"
    )
    lines = [
      {
        "step": step,
        "train/loss": 4 - step / 10,
        "train/token_entropy": 2.5,
        "train/token_entropy_gap": 0.2,
        "train/grad_norm": float("nan") if step == 1 else 1.0,
        "valid/contrastive_loss": 3.0,
      }
      for step in range(5)
    ]
    text = "\n".join(map(json.dumps, lines))
    (data / "metrics.jsonl").write_text(text + '\n{"step": 5, "tr')
    (data / "config.json").write_text(json.dumps({"x": HOSTILE}))
    found.append(results.read_run(name, data, data))
  return found


class _Page(html.parser.HTMLParser):
  """Collects tags and what they would fetch."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.open = [], [], []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.append(tag)
    if tag not in ("meta", "img", "br", "line", "circle"):
      self.open.append(tag)
    self.links += [v for k, v in attrs if k in ("src", "href", "srcset")]

  def handle_endtag(self, tag):
    if tag not in ("line", "circle"):
      assert self.open.pop() == tag


def test_page_is_whole_self_contained_and_escaped(runs):
  text = report.render(runs, results.differences(runs))
  page = _Page(text)
  assert not page.open
  assert not {"script", "link", "iframe", "object"} & set(page.tags)
  assert page.links and all(link.startswith("data:") for link in page.links)
  assert not re.search(r"url\(|@import|https?://", text)
  assert HOSTILE not in text
  assert "&lt;script&gt;" in text
  assert "not for clinical use" in text


def test_page_shows_figures_curves_maps_and_what_is_missing(runs):
  text = report.render(runs, results.differences(runs))
  entry = runs[0].metrics["benchmarks"]["table:nih"]
  assert f"{entry['macro_auroc']['value']:.3f}" in text
  assert "Mass (0 / 9)" in text
  assert "Total loss" in text and "Token entropy over patches" in text
  assert "Zero-shot macro AUROC, validation" not in text
  assert text.count("<b>whole sentence</b>") == 4  # two images, two runs
  assert "outlined: the true extent" in text
  assert "below 0.1 in size" in text


def test_page_of_one_run_without_training_files_or_maps(runs, tmp_path):
  for name in ("metrics.json", "scores_table_nih.csv"):
    (tmp_path / name).write_bytes((runs[0].directory / name).read_bytes())
  run = results.read_run("alone", tmp_path, tmp_path)
  report.write(tmp_path / "out" / "report.html", [run], {})
  text = (tmp_path / "out" / "report.html").read_text("utf-8")
  assert not _Page(text).open
  assert "Training" not in text and "Where the words point" not in text
  assert "difference" not in text


def test_page_is_the_same_each_time(runs):
  assert report.render(runs[:1], {}) == report.render(runs[:1], {})


def test_no_run_is_refused(tmp_path):
  with pytest.raises(ValueError, match="expected at least one"):
    report.write(tmp_path / "x.html", [], {})
