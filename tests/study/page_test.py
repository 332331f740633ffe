import html.parser

import pytest

from tests.study import made_study
from tier_jax.study import comparison, page, words

TEMPERATURES = ("0.07", "0.3", "1.0")


class _Page(html.parser.HTMLParser):
  """Collects tags, what they link to or fetch, and the text."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.links, self.sources, self.text = set(), [], [], ""
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    found = dict(attrs)
    self.sources += [found["src"]] if "src" in found else []
    self.links += [found["href"]] if "href" in found else []

  def handle_data(self, data):
    self.text += data


def _write(root, *, above_prior=0.2, arm="tier"):
  for seed, delta in enumerate((0.02, 0.03, 0.04)):
    noise = 0.01 * seed
    made_study.write(
      root, f"scratch.plain.{seed}", above_prior=above_prior + noise
    )
    made_study.write(
      root, f"scratch.{arm}.{seed}", auroc=0.7 + delta, pointing=0.6 + delta
    )


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
  root = tmp_path_factory.mktemp("grid")
  for seed in range(2):
    made_study.write(root, f"frozen.plain.{seed}")
    for temperature in TEMPERATURES:
      for weights in ("0.2_0.1", "0.5_0.0"):
        name = f"frozen.t{temperature}_w{weights}.{seed}"
        made_study.write(root, name, auroc=0.7 + float(temperature) / 9)
  return comparison.summarise(root, "plain")


def test_page_fetches_and_runs_nothing(tmp_path):
  _write(tmp_path)
  study = comparison.summarise(tmp_path, "plain")
  path = tmp_path / "study.html"
  page.write(path, study)
  found = _Page(path.read_text("utf-8"))
  assert not found.tags & {"script", "link", "iframe", "object", "base"}
  assert found.sources
  assert all(
    one.startswith("data:image/svg+xml;base64,") for one in found.sources
  )
  pages = [one for one in found.links if not one.startswith("#")]
  assert len(pages) == 6
  assert all((tmp_path / one).is_file() for one in pages)
  assert "http" not in path.read_text("utf-8")
  # Redrawn, it is the same.
  assert page.render(comparison.summarise(tmp_path, "plain")) == (
    path.read_text("utf-8")
  )


@pytest.mark.parametrize("above_prior", [0.2, -0.2])
def test_gate_in_plain_words(tmp_path, above_prior):
  _write(tmp_path, above_prior=above_prior)
  study = comparison.summarise(tmp_path, "plain")
  closed = above_prior < 0
  for text in (_Page(page.render(study)).text, words.markdown(study)):
    assert ("scratch: grounding is inconclusive" in text) is closed
    assert ("does not beat the location prior" in text) is closed
    beats = "the map of plain beats the location prior"
    assert (beats in text) is not closed
    assert ("pointing game (inconclusive)" in text) is closed
    assert "less that of the prior by phrase" in text
    assert "CheXpert macro AUROC (inconclusive)" not in text


@pytest.mark.parametrize(
  ("above_prior", "shown"), [(0.2, "higher"), (-0.2, "inconclusive")]
)
def test_verdicts(tmp_path, above_prior, shown):
  _write(tmp_path, above_prior=above_prior)
  study = comparison.summarise(tmp_path, "plain")
  auroc, pointing = words.verdicts(study, "scratch")
  # t = 0.03 / (0.01 / sqrt(3)) with 2 degrees of freedom: p = 0.035, which
  # twice is no longer below 0.05.
  assert auroc[0] is False
  assert "+0.030 [+0.005, +0.055], 3 seeds, p 0.035, by Holm 0.070" in auroc[1]
  assert auroc[1].endswith("no difference shown.")
  item = study["settings"]["scratch"]["arms"]["tier"]["paired"]["pointing_game"]
  item["difference"]["p_holm"] = 0.01
  _, pointing = words.verdicts(study, "scratch")
  assert pointing[0] is (shown == "higher")
  assert shown in pointing[1]


def test_markdown_has_a_line_a_figure(tmp_path):
  _write(tmp_path)
  made_study.write(tmp_path, "scratch.tier.9")
  lines = words.markdown(comparison.summarise(tmp_path, "plain")).splitlines()
  row = "| scratch | tier | CheXpert macro AUROC | 0.700 | 0.730 | "
  (line,) = [one for one in lines if one.startswith(row)]
  assert line == row + "+0.030 [+0.005, +0.055] | 0.070 | 3 |"
  assert "| scratch | plain | 3 | 4000 | 1 x cpu | 3.0 |" in lines
  assert any("scratch.plain.9" in one for one in lines)
  heads = [one for one in lines if one.startswith("| setting")]
  assert [one.count("|") for one in heads] == [9, 7]


def test_one_seed_has_no_interval(tmp_path):
  for arm in ("plain", "tier"):
    made_study.write(tmp_path, f"s.{arm}.0")
  study = comparison.summarise(tmp_path, "plain")
  assert "too few seeds for an interval" in words.markdown(study)
  assert "too few seeds for an interval" in page.render(study)


def test_a_setting_without_pairs(tmp_path):
  _write(tmp_path)
  made_study.write(tmp_path, "frozen.tier.0")
  study = comparison.summarise(tmp_path, "plain")
  assert "No arm has a pair with the baseline yet" in page.render(study)
  assert "frozen: grounding is inconclusive" in words.markdown(study)


def test_names_are_escaped(tmp_path):
  _write(tmp_path, arm="<b>|tier")
  study = comparison.summarise(tmp_path, "plain")
  text = page.render(study)
  assert "<b>|" not in text
  assert "&lt;b&gt;|tier" in text
  assert "| <b>/tier |" in words.markdown(study)


def test_grid_is_drawn_over_temperature(grid):
  text = _Page(page.render(grid)).text
  assert "CheXpert macro AUROC: arm less baseline" in text
  for temperature in TEMPERATURES:
    assert f"penalty temperature {temperature}" in text
  lines = words.markdown(grid).splitlines()
  found = [one for one in lines if one.startswith("| frozen | ")]
  # The baseline and six arms, there and in the table of budgets.
  assert len(found) == 2 * 7
  assert found[0].startswith("| frozen | plain | 2 | 0.700 |")
  assert found[1].startswith("| frozen | t0.07_w0.2_0.1 | 2 | +0.008 [")
