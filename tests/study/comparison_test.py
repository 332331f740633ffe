import math

import numpy as np
import pytest
from scipy import stats

from tests.study import made_study
from tier_jax.evaluators import differences, runs
from tier_jax.study import comparison

AUROC, POINTING = "chexpert_auroc", "pointing_game"


def _pairs(root, deltas, *, setting="scratch", arm="tier", **changes):
  """Writes a pair of runs for each delta of their primary figures."""
  for seed, delta in enumerate(deltas):
    base = 0.7 + 0.01 * (seed % 2)
    if not (root / f"{setting}.plain.{seed}").exists():
      made_study.write(root, f"{setting}.plain.{seed}", auroc=base, **changes)
    made_study.write(
      root, f"{setting}.{arm}.{seed}", auroc=base + delta, pointing=0.6 + delta
    )


def test_interval_worked_out_by_hand():
  # Standard deviation 0.01, and t of 2 degrees of freedom is 4.302653.
  found = comparison.over_seeds([0.01, 0.02, 0.03])
  reach = 4.302653 * 0.01 / math.sqrt(3)
  assert found["value"] == pytest.approx(0.02)
  assert found["low"] == pytest.approx(0.02 - reach, abs=1e-7)
  assert found["high"] == pytest.approx(0.02 + reach, abs=1e-7)
  assert found["n"] == 3


def test_interval_and_p_are_scipys():
  numbers = np.random.default_rng(3).normal(0.1, 1, 7)
  found = comparison.over_seeds(numbers)
  test = stats.ttest_1samp(numbers, 0)
  low, high = test.confidence_interval(0.95)
  expected = [numbers.mean(), low, high, test.pvalue]
  got = [found[key] for key in ("value", "low", "high", "p")]
  assert got == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
  ("numbers", "bounds", "p_value"),
  [
    ([0.3], (None, None), None),
    ([0.0, 0.0, 0.0], (0, 0), 1.0),
    ([0.1, 0.1, 0.1], (0.1, 0.1), None),
  ],
)
def test_what_seeds_cannot_tell(numbers, bounds, p_value):
  found = comparison.over_seeds(numbers)
  assert (found["low"], found["high"]) == pytest.approx(bounds)
  assert found["p"] == p_value


def test_pairs_are_of_equal_seeds(tmp_path):
  deltas = (0.02, 0.05, 0.03)
  _pairs(tmp_path, deltas)
  arm = comparison.summarise(tmp_path, "plain")["settings"]["scratch"]["arms"]
  paired = arm["tier"]["paired"][AUROC]
  test = stats.ttest_1samp(deltas, 0)
  low, high = test.confidence_interval(0.95)
  expected = [np.mean(deltas), low, high, test.pvalue]
  got = [paired["difference"][key] for key in ("value", "low", "high", "p")]
  assert got == pytest.approx(expected)
  assert paired["baseline"] == pytest.approx((0.7 + 0.71 + 0.7) / 3)
  assert paired["arm"] == pytest.approx(paired["baseline"] + np.mean(deltas))
  assert paired["bootstrap"] is None  # no file of scores
  assert arm["plain"]["means"][AUROC]["n"] == 3
  assert "paired" not in arm["plain"]


def test_holm_over_the_primary_figures_of_all_settings(tmp_path):
  _pairs(tmp_path, (0.01, 0.03, 0.03), setting="frozen")
  _pairs(tmp_path, (0.02, -0.03, 0.05), setting="scratch")
  study = comparison.summarise(tmp_path, "plain")
  found = {
    (setting, key): study["settings"][setting]["arms"]["tier"]["paired"][key]
    for setting in ("frozen", "scratch")
    for key in (AUROC, POINTING)
  }
  small, large = (
    found[setting, AUROC]["difference"]["p"]
    for setting in ("frozen", "scratch")
  )
  assert study["tests"] == 4
  assert small < large
  # Of both figures the deltas, and so the p-values, are the same: the two
  # small ones are multiplied by 4 and 3, the two large ones by 2 and 1, and
  # none may lie below one that was smaller.
  for key in (AUROC, POINTING):
    by_setting = [
      found[setting, key]["difference"]["p_holm"]
      for setting in ("frozen", "scratch")
    ]
    assert by_setting == pytest.approx(
      [4 * small, max(4 * small, min(2 * large, 1))]
    )
  others = study["settings"]["frozen"]["arms"]["tier"]["paired"]
  assert "p_holm" not in others["cnr"]["difference"]


@pytest.mark.parametrize(
  ("above", "passed"),
  [
    ((0.2, 0.25, 0.3), True),
    ((0.3, 0.01, -0.1), False),  # above on the whole, but not for sure
    ((-0.2, -0.25, -0.3), False),
    ((0.2,), False),  # one seed has no interval
  ],
)
def test_the_gate(tmp_path, above, passed):
  for seed, value in enumerate(above):
    made_study.write(tmp_path, f"s.plain.{seed}", above_prior=value)
    # Only the baseline decides.
    made_study.write(tmp_path, f"s.tier.{seed}", above_prior=-value)
  gate = comparison.summarise(tmp_path, "plain")["settings"]["s"]["gate"]
  assert gate["passed"] is passed
  against = gate["against_prior"]["pointing_game"]
  assert against["value"] == pytest.approx(np.mean(above))
  by_phrase = gate["against_prior_of_phrase"]["pointing_game"]
  assert by_phrase["value"] == pytest.approx(np.mean(above) - 0.1)


def test_no_gate_without_a_prior(tmp_path):
  _pairs(tmp_path, (0.1, 0.2), above_prior=None)
  study = comparison.summarise(tmp_path, "plain")
  assert study["settings"]["scratch"]["gate"] is None


def test_a_seed_without_its_pair_is_named_and_left_out(tmp_path):
  _pairs(tmp_path, (0.02, 0.04))
  made_study.write(tmp_path, "scratch.tier.7", auroc=0.99)
  made_study.write(tmp_path, "scratch.plain.8", auroc=0.01)
  (tmp_path / "scratch.tier.8").mkdir()
  (tmp_path / "data").mkdir()
  study = comparison.summarise(tmp_path, "plain")
  arm = study["settings"]["scratch"]["arms"]["tier"]
  assert arm["seeds"] == [0, 1]
  assert arm["paired"][AUROC]["difference"]["value"] == pytest.approx(0.03)
  assert arm["means"][AUROC]["n"] == 3
  assert study["unfinished"] == ["scratch.tier.8"]
  assert study["unpaired"] == [
    {"run": "scratch.plain.8", "lacks": "scratch.tier.8"},
    {"run": "scratch.tier.7", "lacks": "scratch.plain.7"},
  ]


def test_dots_belong_to_the_arm(tmp_path):
  for arm in ("t0.3_w0.2_0.1", "t1.0_w0.2_0.1", "t0.07_w0.2_0.1"):
    _pairs(tmp_path, (0.1, 0.2), arm=arm)
  study = comparison.summarise(tmp_path, "plain")
  assert list(study["settings"]) == ["scratch"]
  arms = study["settings"]["scratch"]["arms"]
  assert list(arms) == [
    "plain",
    "t0.07_w0.2_0.1",
    "t0.3_w0.2_0.1",
    "t1.0_w0.2_0.1",
  ]
  assert all(arm.get("seeds", [0, 1]) == [0, 1] for arm in arms.values())


def test_a_figure_that_a_run_lacks(tmp_path):
  _pairs(tmp_path, (0.1, 0.2))
  made_study.write(tmp_path, "scratch.plain.2")
  made_study.write(
    tmp_path,
    "scratch.tier.2",
    change=lambda found: found.update(grounding=None),
  )
  study = comparison.summarise(tmp_path, "plain")
  paired = study["settings"]["scratch"]["arms"]["tier"]["paired"]
  assert paired[AUROC]["difference"]["n"] == 3
  assert paired[POINTING]["difference"]["n"] == 2
  assert "padchest_auroc" not in paired  # no run has it


def _set(*path):
  def change(found):
    for key in path[:-2]:
      found = found[key]
    found[path[-2]] = path[-1]

  return change


@pytest.mark.parametrize(
  ("change", "config", "words"),
  [
    (_set("digests", "code", "x"), None, "the digest of code"),
    (_set("digests", "prompts", "x"), None, "the digest of prompts"),
    (_set("digests", "data", "chexpert", "x"), None, "of data chexpert"),
    (_set("step", 7), None, "step"),
    (
      _set("step", 4000),
      made_study.CONFIG | {"train": {"num_steps": 901}},
      "config.train.num_steps",
    ),
  ],
)
def test_runs_that_differ_are_never_mixed(tmp_path, change, config, words):
  _pairs(tmp_path, (0.1, 0.2))
  made_study.write(tmp_path, "scratch.plain.2")
  made_study.write(tmp_path, "scratch.tier.2", change=change, config=config)
  with pytest.raises(ValueError) as caught:
    comparison.summarise(tmp_path, "plain")
  message = str(caught.value)
  assert f"scratch.plain.0 and scratch.tier.2 differ in {words};" in (
    message.replace("the digest of data", "of data")
  )


def test_settings_may_differ(tmp_path):
  _pairs(tmp_path, (0.1, 0.2))
  for name in ("frozen.plain.0", "frozen.tier.0"):
    made_study.write(tmp_path, name, change=_set("step", 5))
  assert len(comparison.summarise(tmp_path, "plain")["settings"]) == 2


def _scored(root, skills, **rows):
  for seed, (base, arm) in enumerate(skills):
    for name, skill in (("plain", base), ("tier", arm)):
      directory = made_study.write(root, f"s.{name}.{seed}")
      made_study.add_scores(directory, skill, **rows)


@pytest.mark.parametrize("without_prior", ["", "Mass"])
def test_of_equal_seeds_the_bootstrap_is_that_of_two_runs(
  tmp_path, without_prior
):
  _scored(tmp_path, [(0.3, 0.8)] * 3, without_prior=without_prior)
  study = comparison.summarise(tmp_path, "plain")
  paired = study["settings"]["s"]["arms"]["tier"]["paired"]
  pair = [
    runs.read(name, tmp_path / name, tmp_path / name)
    for name in ("s.tier.0", "s.plain.0")
  ]
  found = differences.of_runs(pair)
  contrast = found["grounding"]["mimic_cxr"]["contrast"]
  expected = {
    AUROC: found["benchmarks"]["chexpert"]["macro"],
    POINTING: contrast["macro"][POINTING],
  }
  for key, item in expected.items():
    assert item["high"] - item["low"] > 0.05
    assert paired[key]["difference"]["value"] == pytest.approx(item["value"])
    assert paired[key]["bootstrap"] == pytest.approx(
      {"low": item["low"], "high": item["high"]}
    )


def test_seeds_that_differ_widen_the_bootstrap(tmp_path):
  _scored(tmp_path / "equal", [(0.3, 0.8)] * 3)
  _scored(tmp_path / "other", [(0.3, 0.0), (0.3, 0.8), (0.3, 1.6)])
  widths = []
  for name in ("equal", "other"):
    study = comparison.summarise(tmp_path / name, "plain")
    found = study["settings"]["s"]["arms"]["tier"]["paired"][AUROC]
    widths.append(found["bootstrap"]["high"] - found["bootstrap"]["low"])
  assert widths[1] > 1.5 * widths[0]


def test_a_bootstrap_needs_the_same_rows(tmp_path):
  _scored(tmp_path, [(0.3, 0.8)] * 2)
  directory = made_study.write(tmp_path, "s.tier.2")
  made_study.add_scores(directory, 0.8, rows_seed=1)
  with pytest.raises(
    ValueError, match=r"s\.plain\.0 and s\.tier\.2 were score"
  ):
    comparison.summarise(tmp_path, "plain")


def test_a_file_of_scores_that_was_changed_is_an_error(tmp_path):
  _scored(tmp_path, [(0.3, 0.8)] * 2)
  with (tmp_path / "s.tier.1" / "scores_chexpert.csv").open("a") as file:
    file.write("\n")
  with pytest.raises(ValueError, match="not the file that metrics.json was"):
    comparison.summarise(tmp_path, "plain")


def test_what_is_told_of_a_run(tmp_path):
  _pairs(tmp_path, (0.1, 0.2))
  run = comparison.summarise(tmp_path, "plain")["runs"]["scratch.tier.1"]
  assert (run["arm"], run["seed"], run["step"]) == ("tier", 1, 4000)
  assert run["minutes"] == pytest.approx(0.045 * 4000 / 60)
  assert run["device"] == "1 x cpu"
  assert run["figures"][AUROC] == pytest.approx(0.91)


@pytest.mark.parametrize(
  ("names", "message"),
  [
    ([], "no finished run"),
    (
      ["s.tier.0"],
      "baseline 'plain' has no finished run, expected one of tier",
    ),
    (["s.plain.0", "tier.0"], "'tier.0' of .*SETTING.ARM.SEED"),
    (["s.plain.0", "s.tier.007"], "'s.tier.007' of .*SETTING.ARM.SEED"),
  ],
)
def test_bad_directories(tmp_path, names, message):
  for name in names:
    made_study.write(tmp_path, name)
  with pytest.raises(ValueError, match=message):
    comparison.summarise(tmp_path, "plain")


@pytest.mark.parametrize("value", ["high", float("nan"), [1]])
def test_a_figure_that_is_no_number(tmp_path, value):
  _pairs(tmp_path, (0.1, 0.2))
  change = _set("similarity", "near_zero", "value", value)
  made_study.write(tmp_path, "scratch.tier.5", change=change)
  with pytest.raises(ValueError, match="similarity/near_zero is no finite"):
    comparison.summarise(tmp_path, "plain")
