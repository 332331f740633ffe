import json
from importlib import resources

import pytest

from tier_jax.evaluators import prompts
from tier_jax.evaluators.benchmarks import registry


@pytest.mark.parametrize(
  ("label", "same"),
  [
    ("Effusion", "Pleural Effusion"),
    ("pulmonary edema", "Edema"),
    ("Pleural_Thickening", "pleural  thickening"),
    ("No Finding", "normal"),
  ],
)
def test_lookup_ignores_case_underscores_and_aliases(label, same):
  assert prompts.for_label(label) == prompts.for_label(same)


def test_unknown_label_gets_templates_with_their_spaces():
  found = prompts.for_label("Azygos_Lobe {phrase}")
  assert found.positive[0] == "Azygos lobe {phrase} is present."
  assert found.negative[0] == "No azygos lobe {phrase}."
  # It may go with a normal chest for all we know.
  assert "The lungs are clear." not in found.negative


def test_label_in_the_source_s_shorthand_is_written_out():
  assert prompts.for_label("copd signs").positive == (
    "Chronic obstructive pulmonary disease is present.",
    "There is chronic obstructive pulmonary disease.",
  )


@pytest.mark.parametrize("label", ["", " ", "__"])
def test_empty_label_is_refused(label):
  with pytest.raises(ValueError, match="expected the name of a finding"):
    prompts.for_label(label)


def test_every_sentence_is_whole_and_stands_once():
  labels = [
    label
    for name in registry.NAMES[:-1]
    for label in registry.find(name).labels or ()
  ]
  assert len(set(labels)) > 200
  for label in labels:
    found = prompts.for_label(label)
    for sentences in (found.positive, found.negative):
      assert len(set(sentences)) == len(sentences) > 0, label
      for sentence in sentences:
        assert sentence.endswith(".") and sentence[0].isupper()
        assert "  " not in sentence and "{" not in sentence
    assert not set(found.positive) & set(found.negative), label


def test_aliases_and_phrases_lead_somewhere():
  package = resources.files("tier_jax.evaluators")
  data = json.loads((package / "prompts.json").read_text())
  assert set(data["aliases"].values()) <= set(data["findings"])
  assert not set(data["aliases"]) & set(data["findings"])
  assert not set(data["phrases"]) & set(data["findings"])
  assert len(prompts.digest()) == 64


@pytest.mark.parametrize(
  ("label", "excluded"), [("Edema", True), ("pacemaker", False)]
)
def test_only_what_a_normal_chest_lacks_is_set_against_one(label, excluded):
  negative = prompts.for_label(label).negative
  assert ("The lungs are clear." in negative) == excluded


def test_sites_of_a_catheter_have_sentences_of_their_own():
  sides = [
    prompts.for_label(f"central venous catheter via {vein} vein").positive
    for vein in ("jugular", "subclavian")
  ]
  assert not set(sides[0]) & set(sides[1])


def test_labels_are_named_or_spelled_out():
  named = prompts.parse(["Edema", "odd thing"])
  assert list(named) == ["Edema", "odd thing"]
  assert named["Edema"] == prompts.for_label("Edema")
  spelled = prompts.parse({"mine": {"positive": ["A."], "negative": ["B."]}})
  assert spelled == {"mine": prompts.Prompts(("A.",), ("B.",))}
  assert prompts.parse(named) == named


@pytest.mark.parametrize(
  ("asked", "words"),
  [
    ("Edema", "prompts are str, expected a list"),
    ([1], "prompts are list, expected a list of labels' names"),
    ([], "prompts are empty"),
    ({}, "prompts are empty"),
    (["Edema", "Edema"], "name a label twice"),
    ([" "], "label ' ' is empty"),
    ({"x": ["A."]}, "prompts of 'x' are not as expected"),
    ({"x": {"positive": ["A."]}}, "prompts of 'x'"),
    ({"x": {"positive": ["A."], "negative": []}}, "prompts of 'x'"),
    ({"x": {"positive": "A.", "negative": ["B."]}}, "prompts of 'x'"),
    ({"x": {"positive": ["A."], "negative": [" "]}}, "prompts of 'x'"),
    ({1: {"positive": ["A."], "negative": ["B."]}}, "prompts of 1"),
    ({"x": {"positive": ["A."], "negative": ["B."], "z": ["C"]}}, "of 'x'"),
  ],
)
def test_what_is_no_prompt_is_refused(asked, words):
  with pytest.raises(ValueError, match=words):
    prompts.parse(asked)
