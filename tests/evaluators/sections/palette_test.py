from tests.evaluators import made_runs
from tier_jax.evaluators.sections import palette


def named(*names):
  return [made_runs.make(name) for name in names]


def test_runs_of_a_group_share_its_colour_and_its_entry():
  runs = named("tier/0", "tier/1", "plain/0", "other")
  colours = palette.colours(runs)
  assert colours["tier/0"] == colours["tier/1"]
  assert len(set(colours.values())) == 3
  entries = [palette.entry(run, runs) for run in runs]
  assert entries == ["tier", "", "plain", "other"]
  assert palette.legend(runs).count("<span>") == 3


def test_one_group_alone_needs_no_legend():
  assert not palette.legend(named("tier/0", "tier/1"))
