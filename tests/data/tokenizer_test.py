"""Tokenisation: masks, lengths, sources."""

import json

import numpy as np
import pytest
import tokenizers

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


def test_word_starts_join_the_pieces_of_a_word(bundled):
  got = bundled(["no zyx."])["word_starts"]
  # [CLS] no z ##y ##x . [SEP] [PAD]
  np.testing.assert_array_equal(got, [[0, 1, 2, 2, 2, 5, 6, 7]])
  assert got.dtype == np.int32


def test_json_round_trip_tokenises_alike(bundled):
  again = tokenizer.Tokenizer.from_json(bundled.to_json(), 8)
  text = ["Small left pleural effusion."]
  np.testing.assert_array_equal(
    again(text)["input_ids"], bundled(text)["input_ids"]
  )
  assert again.to_json() == bundled.to_json()


def test_local_hugging_face_directory(tmp_path):
  _bert_directory(tmp_path)
  loaded = tokenizer.Tokenizer.from_name(str(tmp_path), 8)
  assert loaded.tokens("Left effusion")[:4] == [
    "[CLS]",
    "left",
    "effusion",
    "[SEP]",
  ]


def test_a_directory_with_code_of_its_own_loads_without_running_it(tmp_path):
  _bert_directory(tmp_path)
  want = tokenizer.Tokenizer.from_name(str(tmp_path), 8).to_json()
  code = "configuration_cxrbert.CXRBert"  # as in CXR-BERT
  (tmp_path / "configuration_cxrbert.py").write_text(
    f"open({str(tmp_path / 'run')!r}, 'w')"
  )
  (tmp_path / "config.json").write_text(
    json.dumps({"model_type": "cxr-bert", "auto_map": {"AutoConfig": code}})
  )
  (tmp_path / "tokenizer_config.json").write_text(
    json.dumps(
      {
        "tokenizer_class": "CXRBertTokenizer",
        "do_lower_case": True,
        "auto_map": {"AutoTokenizer": [f"{code}Tokenizer", None]},
      }
    )
  )
  loaded = tokenizer.Tokenizer.from_name(str(tmp_path), 8)
  assert loaded.to_json() == want
  assert not (tmp_path / "run").exists()


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


PLACEHOLDERS = [
  *("___", "__", "_" * 30, "XXXX", "XXXXXXXX"),
  *("XXXX-XXXX", "XXXX/XXXX", "XXXX--XXXX", "__/__/____", "___-XXXX"),
]


def _bert_directory(path):
  """Writes a vocabulary in which no gap has a token of its own, as BERT's."""
  vocabulary = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").split("\n")
  kept = [word for word in vocabulary if word != "___"]
  (path / "vocab.txt").write_text("\n".join(kept), "utf-8")
  (path / "tokenizer_config.json").write_text(
    json.dumps({"tokenizer_class": "BertTokenizer", "do_lower_case": True})
  )
  (path / "config.json").write_text(json.dumps({"model_type": "bert"}))
  return path


@pytest.mark.parametrize("gap", PLACEHOLDERS)
def test_a_placeholder_is_one_token(bundled, tmp_path, gap):
  text = f"No {gap}, x-{gap} or {gap}."
  loaded = tokenizer.Tokenizer.from_name(str(_bert_directory(tmp_path)), 12)
  from_file = tokenizer.Tokenizer.from_name(str(tmp_path / "vocab.txt"), 12)
  for tokenize, token in (
    (tokenizer.Tokenizer.from_name("bundled", 12), "___"),
    (loaded, "[UNK]"),
    (from_file, "[UNK]"),
    (tokenizer.Tokenizer.from_json(loaded.to_json(), 12), "[UNK]"),
  ):
    want = [
      "[CLS]",
      "no",
      token,
      ",",
      "x",
      "-",
      token,
      "or",
      token,
      ".",
      "[SEP]",
    ]
    assert tokenize.tokens(text) == [*want, "[PAD]"]
    got = tokenize([text])
    # It is content.
    assert got["token_mask"][0].tolist() == [False] + [True] * 9 + [False] * 2


def test_placeholders_need_no_new_row(tmp_path):
  vocabulary = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").splitlines()
  bundled = tokenizer.Tokenizer.from_name("bundled", 8)
  assert bundled.vocab_size == len(vocabulary)
  assert bundled(["___"])["input_ids"][0, 1] == vocabulary.index("___")
  loaded = tokenizer.Tokenizer.from_name(str(_bert_directory(tmp_path)), 8)
  assert loaded.vocab_size == len(vocabulary) - 1
  assert loaded(["___"])["input_ids"][0, 1] == vocabulary.index("[UNK]")


@pytest.mark.parametrize(
  ("text", "tokens"),
  [
    ("___ ___", ["___", "___"]),
    ("XXXX XXXX", ["___", "___"]),
    ("___-year-old", ["___", "-", "year", "-", "old"]),
    ("XXXXth", ["___", "t", "##h"]),
    ("XXX xxxx _", ["x", "##x", "##x", "x", "##x", "##x", "##x", "_"]),
  ],
)
def test_what_is_a_placeholder_and_what_is_not(text, tokens):
  bundled = tokenizer.Tokenizer.from_name("bundled", 16)
  assert bundled.tokens(text)[1 : 1 + len(tokens)] == tokens


def test_vocabulary_without_a_token_for_placeholders_is_refused(tmp_path):
  vocabulary = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").split("\n")
  backend = tokenizers.Tokenizer(
    tokenizers.models.WordLevel(
      {
        token: i
        for i, token in enumerate(vocabulary)
        if token not in ("", "___", "[UNK]")
      }
    )
  )
  path = tmp_path / "tokenizer.json"
  backend.save(str(path))
  with pytest.raises(ValueError, match=r"no token for placeholders"):
    tokenizer.Tokenizer.from_name(str(path), 8)
