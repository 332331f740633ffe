"""The choice of text, the sentences in it, and when two are equal."""

import time

import numpy as np
import pytest

from tier_jax.data import texts

NAMES = ("impression", "findings")
BOTH = {"impression": "No edema.", "findings": "Clear. Small heart."}


@pytest.mark.parametrize(
  ("sections", "choice", "want"),
  [
    (BOTH, "first", "No edema."),
    (BOTH, "both", "No edema. Clear. Small heart."),
    (BOTH, "random", "No edema."),  # without a generator
    (BOTH | {"impression": ""}, "first", "Clear. Small heart."),
    (BOTH | {"impression": ""}, "both", "Clear. Small heart."),
    (dict.fromkeys(NAMES, ""), "first", ""),
    (dict.fromkeys(NAMES, ""), "both", ""),
    (dict.fromkeys(NAMES, ""), "random", ""),
  ],
)
def test_choice(sections, choice, want):
  assert texts.choose(sections, NAMES, choice) == want
  if want:
    assert texts.choose(sections, NAMES[:1], choice) == sections["impression"]


def test_random_choice_is_even_and_draws_only_where_there_is_one():
  rng = np.random.default_rng(0)
  seen = [texts.choose(BOTH, NAMES, "random", rng) for _ in range(1000)]
  assert set(seen) == set(BOTH.values())
  assert 440 < seen.count("No edema.") < 560
  one = BOTH | {"findings": ""}
  for sections, choice in ((one, "random"), (BOTH, "first"), (BOTH, "both")):
    before = rng.bit_generator.state
    texts.choose(sections, NAMES, choice, rng)
    assert rng.bit_generator.state == before


@pytest.mark.parametrize(
  "same",
  [
    ("No acute process.", "no acute  process", "NO ACUTE\nPROCESS ."),
    ("1. No edema.\n2. Clear.", "No edema. Clear", "1) No edema 2) Clear"),
    ("___.", "___"),
    ("", " "),
  ],
)
def test_texts_that_say_the_same_are_equal(same):
  assert len({texts.normalise(text) for text in same}) == 1


def test_texts_that_say_something_else_differ():
  different = [
    "No edema.",
    "Edema.",
    "Edema?",
    "Edema. No mass.",
    "No mass. Edema.",
    "A nodule of 2 cm.",
    "A nodule of 3 cm.",
    "A nodule of 2.3 cm.",
    "",
  ]
  assert len({texts.normalise(text) for text in different}) == len(different)


def test_sampled_sentences_keep_their_order():
  text = "1. One here. 2. Two here. 3. Three here."
  seen = {
    texts.sample_sentences(text, np.random.default_rng(i)) for i in range(60)
  }
  assert {"One here.", "Two here.", "One here. Three here."} <= seen
  assert "One here. Two here. Three here." not in seen
  assert not any(character.isdigit() for s in seen for character in s)
  assert "Two here. One here." not in seen


@pytest.mark.parametrize(
  "sentences",
  [
    ["No edema.", "No effusion."],
    ["no edema.", "no effusion."],
    ["Edema?", "No!", "Effusion"],
    ["Told to Dr. Jones by phone.", "No edema."],
    ["Told to Dr. ___.", "No edema."],
    ["Told to J. Smith and Mrs. A. Roe.", "No edema."],
    ["Since ___.", "___ cm above the carina.", "XXXX is normal."],
    ["Seen at 10 a.m. on ___.", "No edema."],
    ["Seen at 10 a.m.", "No edema."],
    ["A nodule of 2.5 cm.", "It grew by 0.3 cm."],
    ["Right vs. left.", "See e.g. the hilum, approx. 2 cm."],
    ["The C.T. shows a mass.", "See C.T. Chest."],
    ["Fracture of rib No. 3 and no. 4.", "No pneumothorax."],
    ["Effusions: no.", "Heart: normal."],
    ["Grade 2.", "No effusion."],
    ["Vertebra T5.", "No fracture."],
    ["Stable (see above.)", 'Read as "clear."', "No edema."],
    ["Clear..", "Heart normal .", "Normal."],
    ["Cough // ? pneumonia."],
    ["No effusion"],
  ],
  ids=lambda sentences: sentences[0][:24],
)
def test_sentences_are_found_again(sentences):
  assert texts.split_sentences("  ".join(sentences)) == sentences
  assert texts.split_sentences("\n".join(sentences)) == sentences


@pytest.mark.parametrize(
  ("text", "sentences"),
  [
    ("1. Edema. 2. No mass.", ["Edema.", "No mass."]),
    ("1) Edema 2) No mass", ["Edema", "No mass"]),
    ("(1) Edema. (2) No mass.", ["Edema.", "No mass."]),
    ("1.Edema. 2.No mass.", ["Edema.", "No mass."]),
    ("1. Edema 2. No mass", ["Edema", "No mass"]),
    ("2. No mass.", ["No mass."]),
    ("Stable: 1. Edema. 2. Mass.", ["Stable:", "Edema.", "Mass."]),
    ("1. 2.5 cm mass. 2. ___.", ["2.5 cm mass."]),
    ("A lesion of grade 1. No mass.", ["A lesion of grade 1.", "No mass."]),
    ("Compared to 2011. 12 nodules.", ["Compared to 2011.", "12 nodules."]),
    ("Lungs clear.Heart normal.", ["Lungs clear.", "Heart normal."]),
    ("No edema. ... - ___.", ["No edema."]),
    ("", []),
    (" \n ", []),
    ("___.", []),
  ],
)
def test_lists_and_leftovers(text, sentences):
  assert texts.split_sentences(text) == sentences


@pytest.mark.parametrize("unit", ["A. ", "1. ", ". ", "a.A", " ", "(", "no. 1"])
def test_sentences_take_time_in_proportion_to_length(unit):
  """A second, at worst; to copy what was read so far would take minutes."""
  started = time.process_time()
  texts.split_sentences(unit * (2**20 // len(unit)))
  assert time.process_time() - started < 20


def test_text_without_a_sentence_stays_whole():
  assert texts.sample_sentences("___.", np.random.default_rng(0)) == "___."
