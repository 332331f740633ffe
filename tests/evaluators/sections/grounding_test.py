import pytest

from tests.evaluators import made_runs
from tier_jax.evaluators.sections import grounding

OPEN = "does not beat the location prior: inconclusive"


def body(*runs):
  (section,) = grounding.render(runs, {})
  return section.body


def against(run, low, high):
  """Returns the run with the same paired difference in every metric."""
  item = {"value": (low + high) / 2, "low": low, "high": high}
  part = run.metrics["grounding"]["mimic_cxr"]
  for key in ("against_prior", "token_against_prior"):
    part[key] = dict.fromkeys(made_runs.METRICS, item)
  return run


@pytest.mark.parametrize(
  ("low", "high", "words"),
  [
    (0.01, 0.2, "beats the location prior in Pointing game"),
    (-0.01, 0.2, OPEN + " in Pointing game"),
    (0.0, 0.2, OPEN),  # an interval that touches 0 settles nothing
    (-0.2, -0.01, "is worse than the location prior"),
  ],
)
def test_verdict_says_what_the_interval_of_the_difference_says(
  low, high, words
):
  text = body(against(made_runs.make("one"), low, high))
  assert words in text
  assert ("verdict good" in text) == (low > 0)
  assert (OPEN in text) == (low <= 0 <= high)


def test_of_many_runs_each_verdict_is_counted():
  bounds = [(0.1, 0.2), (0.1, 0.2), (-0.1, 0.2), (-0.1, 0.2), (-0.2, -0.1)]
  runs = [against(made_runs.make(f"tier/{i}", i), *bounds[i]) for i in range(5)]
  text = body(*runs)
  assert "beats the location prior in 2 of 5 runs by Pointing game, 2" in text
  assert f"{OPEN} in 2 of 5 runs by Pointing game, 2 by CNR" in text
  assert "is worse than the location prior in 1 of 5 runs by Pointing" in text
  assert text.count('class="verdict"') == 1


def test_of_many_runs_that_all_beat_the_prior_no_other_is_said():
  runs = [against(made_runs.make(f"a/{i}", i), 0.1, 0.2) for i in range(5)]
  text = body(*runs)
  assert "in 5 of 5 runs by Pointing game, 5 by CNR, 5 by mIoU and 5 by" in text
  assert OPEN not in text and 'class="verdict good' in text


def test_without_a_prior_there_is_no_verdict():
  run = made_runs.make("one")
  part = run.metrics["grounding"]["mimic_cxr"]
  for key in ("prior", "prior_of_phrase", "against_prior", "prior_from"):
    part[key] = None
  part["token_against_prior"] = part["contrast_against_prior"] = None
  text = body(run)
  assert "there is no prior" in text
  assert "verdict" not in text


def test_findings_without_a_prior_and_items_left_out_are_said():
  runs = [made_runs.make("one"), made_runs.make("two", 1)]
  (section,) = grounding.render(runs, made_runs.deltas(*runs))
  assert "leaves out 3 outlined findings" in section.body
  assert "Without a prior" not in section.body
  part = runs[0].metrics["grounding"]["mimic_cxr"]
  part["without_prior"] = ["Edema", "<b>"]
  (section,) = grounding.render(runs, {})
  words = "Without a prior, and so in no macro: Edema and &lt;b&gt;"
  assert words in section.body
  assert "leaves out" not in section.body


def test_findings_are_listed_and_escaped():
  run = made_runs.make("one")
  text = body(run)
  assert "Mass &lt;b&gt; (20)" in text and "<b>" in text
  assert "IoU at 0.3" in text
  value = run.metrics["grounding"]["mimic_cxr"]["prior"]["findings"]["Edema"]
  assert f"{value['dice']['value']:.3f}" in text
