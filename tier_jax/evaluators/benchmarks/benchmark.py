"""What a benchmark states: where its images lie and what counts on them."""

import dataclasses

from tier_jax.evaluators import prompts


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A zero-shot benchmark; the score of a label is how much nearer an image
  is to the label's positive sentences than to its negative ones.

  Attributes:
    name: as in `--benchmark` and metrics.json.
    dataset: the directory under the data root.
    split: one of the dataset's splits.
    labels: names as the records spell them; None takes every label that the
      split's records state.
    unlisted_is_absent: whether a record that does not state a label denies it;
      otherwise such a record is not counted for the label.
    study_level: whether to report studies beside images, a study's score being
      the mean of its images' scores.
  """

  name: str
  dataset: str
  split: str = "test"
  labels: tuple[str, ...] | None = None
  unlisted_is_absent: bool = False
  study_level: bool = False

  def prompts(self, label: str) -> prompts.Prompts:
    """Returns the sentences for a label: those of prompts.json."""
    return prompts.for_label(label)
