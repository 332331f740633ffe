"""What a benchmark states: where its images lie and what counts on them."""

import dataclasses

from tier_jax.evaluators import prompts

SCORINGS = ("difference", "softmax", "positive_only")


@dataclasses.dataclass(frozen=True)
class Benchmark:
  """A zero-shot benchmark; a score says how present a label is on an image.

  With p and n the cosines of an image to a label's positive and negative class
  embeddings, `scoring` is one of

    difference: p - n, in [-2, 2];
    softmax: exp(p) / (exp(p) + exp(n)), in (0, 1): the softmax of the two
      cosines without a scale, as Tiu et al. 2022 and TIER on PadChest have it.
      It orders the images as the difference does; means over the images of a
      study may differ;
    positive_only: p, in [-1, 1].

  Attributes:
    name: as in `--benchmark` and metrics.json.
    dataset: the directory under the data root.
    split: one of the dataset's splits.
    labels: names as the records spell them; None takes every label that the
      split's records state.
    apart: labels that are scored but do not count towards a macro, such as
      "No Finding", which is not one more finding.
    unlisted_is_absent: whether a record that does not state a label denies it;
      otherwise such a record is not counted for the label.
    study_level: whether to report studies beside images, a study's score being
      the mean of its images' scores.
    scoring: one of `SCORINGS`.
  """

  name: str
  dataset: str
  split: str = "test"
  labels: tuple[str, ...] | None = None
  apart: tuple[str, ...] = ()
  unlisted_is_absent: bool = False
  study_level: bool = False
  scoring: str = "difference"

  def __post_init__(self):
    if self.scoring not in SCORINGS:
      raise ValueError(
        f"scoring {self.scoring!r} is not one of {', '.join(SCORINGS)}"
      )

  def prompts(self, label: str) -> prompts.Prompts:
    """Returns the sentences for a label: those of prompts.json."""
    return prompts.for_label(label)
