"""Tokenisation: masks, lengths, sources."""

import json

import numpy as np
import pytest

from tier_jax.data import tokenizer


@pytest.fixture(scope="module")
def bundled():
  return tokenizer.Tokenizer.from_name("bundled", 8)


def test_masks_tell_content_from_specials_and_padding(bundled):
  got = bundled(["No pneumothorax.", "", "a b c d e f g h i j k"])
  assert bundled.tokens("No pneumothorax.") == [
    "[CLS]",
    "no",
    "pneumothorax",
    ".",
    "[SEP]",
    "[PAD]",
    "[PAD]",
    "[PAD]",
  ]
  np.testing.assert_array_equal(got["attention_mask"].sum(1), [5, 2, 8])
  np.testing.assert_array_equal(
    got["token_mask"].astype(int),
    [[0, 1, 1, 1, 0, 0, 0, 0], [0] * 8, [0, 1, 1, 1, 1, 1, 1, 0]],
  )
  assert got["input_ids"].shape == (3, 8)
  assert got["input_ids"].dtype == np.int32


def test_unknown_words_fall_into_letters(bundled):
  tokens = bundled.tokens("zyx")
  assert tokens[1:4] == ["z", "##y", "##x"]


def test_json_round_trip_tokenises_alike(bundled):
  again = tokenizer.Tokenizer.from_json(bundled.to_json(), 8)
  text = ["Small left pleural effusion."]
  np.testing.assert_array_equal(
    again(text)["input_ids"], bundled(text)["input_ids"]
  )
  assert again.to_json() == bundled.to_json()


def test_local_hugging_face_directory(tmp_path):
  vocabulary = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8")
  (tmp_path / "vocab.txt").write_text(vocabulary, "utf-8")
  (tmp_path / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
  )
  (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
  loaded = tokenizer.Tokenizer.from_name(str(tmp_path), 8)
  assert loaded.tokens("Left effusion")[:4] == [
    "[CLS]",
    "left",
    "effusion",
    "[SEP]",
  ]


def test_tiny_vocabulary_is_refused(tmp_path):
  path = tmp_path / "vocab.txt"
  path.write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\n")
  with pytest.raises(ValueError, match=r"has 5 tokens"):
    tokenizer.Tokenizer.from_name(str(path), 8)


def test_what_does_not_load_is_named(tmp_path):
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match=r"data.tokenizer .*empty"):
    tokenizer.Tokenizer.from_name(str(tmp_path / "empty"), 8)


def test_too_short_a_length_is_refused():
  with pytest.raises(ValueError, match="data.max_length is 2"):
    tokenizer.Tokenizer.from_name("bundled", 2)


def test_vocabulary_size_covers_the_largest_id(tmp_path):
  lines = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").splitlines()
  path = tmp_path / "vocab.txt"
  path.write_text("\n".join([*lines, "", "", "zebra"]))
  loaded = tokenizer.Tokenizer.from_name(str(path), 8)
  ids = loaded(["zebra"])["input_ids"]
  assert ids.max() == len(lines) + 2 == loaded.vocab_size - 1


def test_malformed_tokenizer_json_is_named(tmp_path):
  path = tmp_path / "tokenizer.json"
  path.write_text("{")
  with pytest.raises(ValueError, match=r"tokenizer.json' is no tokenizer.json"):
    tokenizer.Tokenizer.from_name(str(path), 8)
