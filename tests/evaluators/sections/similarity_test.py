import pytest

from tests.evaluators import made_runs
from tier_jax.evaluators.sections import similarity


@pytest.mark.parametrize(("cosine", "said"), [(0.995, True), (0.985, False)])
def test_rows_that_are_alike_are_called_collapse(cosine, said):
  run = made_runs.make("one")
  item = {"value": cosine, "low": None, "high": None}
  run.metrics["similarity"]["row_cosine"] = item
  (section,) = similarity.render([run])
  assert ("collapse" in section.body) == said


def test_entropies_stand_at_each_temperature_there_is():
  run = made_runs.make("one")
  part = run.metrics["similarity"]
  (section,) = similarity.render([run])
  for key in ("token_entropy", "token_entropy_t1", "token_entropy_t0.07"):
    assert f"{part[key]['value']:.3f}" in section.body
  assert "(0.1)" in section.body  # the model's own
  del part["token_entropy_t1"]
  (section,) = similarity.render([run])
  assert "<th>1</th>" not in section.body
