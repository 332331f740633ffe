"""Text to fixed-length token ids."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tokenizers

# Radiology words and single letters: enough for phantoms and quick trials,
# so that nothing needs a download.
BUNDLED_VOCABULARY = Path(__file__).with_name("vocab.txt")

# What de-identification leaves of words: "___" in MIMIC-CXR, "XXXX" in Open-i.
_GAP = r"(?:_{2,}|X{4})"
_PLACEHOLDER = re.compile(rf"{_GAP}(?:[-/]*{_GAP})*")
# Tokens that may stand for it, the first that a vocabulary has. No pretrained
# embedding table then needs another row.
_PLACEHOLDER_TOKENS = ("___", "[UNK]")


class Tokenizer:
  """WordPiece tokens of report text, truncated and padded to one length.

  A placeholder of removed words (a run of underscores or "XXXX", or several
  joined as in "XXXX-XXXX" or "__/__") is one token: "___" in the bundled
  vocabulary, "[UNK]" in BERT's. It is content: it counts in `token_mask`.

  Build it with `from_name` or, from a checkpoint, `from_json`.
  """

  def __init__(self, backend: tokenizers.Tokenizer, max_length: int):
    """Takes over `backend`; `max_length` counts [CLS] and [SEP].

    Raises:
      ValueError: if `max_length` is below 3 or the vocabulary has no [PAD], or
        neither ___ nor [UNK].
    """
    if max_length < 3:
      raise ValueError(f"data.max_length is {max_length}, expected >= 3")
    pad_id = backend.token_to_id("[PAD]")
    if pad_id is None:
      raise ValueError("the tokenizer has no [PAD] token")
    known = [
      t for t in _PLACEHOLDER_TOKENS if backend.token_to_id(t) is not None
    ]
    if not known:
      raise ValueError(
        "the tokenizer has no token for placeholders, expected one of "
        f"{', '.join(_PLACEHOLDER_TOKENS)}"
      )
    self._placeholder = known[0]
    # It has its row already: this only keeps it from being split.
    backend.add_tokens(
      [tokenizers.AddedToken(self._placeholder, normalized=False)]
    )
    self._json = backend.to_str()
    self._backend = backend
    self._backend.enable_truncation(max_length)
    self._backend.no_padding()  # numpy's is faster
    self._pad_id = pad_id
    self.max_length = max_length
    # Ids may have holes: what counts is the largest.
    self.vocab_size = 1 + max(backend.get_vocab().values())

  @classmethod
  def from_name(cls, name: str, max_length: int) -> "Tokenizer":
    """Returns the tokenizer that a config names.

    Args:
      name: "bundled"; a vocab.txt; a tokenizer.json; a local Hugging Face
        directory; or a Hugging Face hub name.
      max_length: tokens a text, [CLS] and [SEP] included.

    Raises:
      ValueError: if it cannot be loaded or is trivially small.
    """
    path = BUNDLED_VOCABULARY if name == "bundled" else Path(name)
    if path.is_file() and path.suffix == ".txt":
      backend = _word_pieces(path)
    elif path.is_file():
      try:
        backend = tokenizers.Tokenizer.from_file(str(path))
      except Exception as error:  # the library raises nothing narrower
        raise ValueError(
          f"data.tokenizer {name!r} is no tokenizer.json: {error}"
        ) from error
    else:
      backend = _from_hugging_face(name)
    # A vocabulary that failed to load shows up as a handful of specials.
    if backend.get_vocab_size() < 30:
      raise ValueError(
        f"data.tokenizer {name!r} has {backend.get_vocab_size()} tokens, "
        "expected a real vocabulary"
      )
    return cls(backend, max_length)

  @classmethod
  def from_json(cls, text: str, max_length: int) -> "Tokenizer":
    """Returns the tokenizer that `to_json` wrote."""
    return cls(tokenizers.Tokenizer.from_str(text), max_length)

  def to_json(self) -> str:
    """Returns the whole tokenizer, vocabulary included, as JSON text."""
    return json.dumps(json.loads(self._json), sort_keys=True)

  def __call__(self, texts: Sequence[str]) -> dict[str, np.ndarray]:
    """Returns the arrays that a text tower takes, each (N, T).

    `input_ids` and `attention_mask` are int32. `token_mask` is True on content:
    neither padding nor [CLS] or [SEP]. `word_starts` int32 holds, at every
    position, that of the first piece of its word; special tokens and padding
    are words of their own.
    """
    encodings = self._backend.encode_batch([self._mark(t) for t in texts])
    shape = (len(encodings), self.max_length)
    ids = np.full(shape, self._pad_id, np.int32)
    attention = np.zeros(shape, np.int32)
    content = np.zeros(shape, bool)
    starts = np.tile(np.arange(self.max_length, dtype=np.int32), (shape[0], 1))
    for row, encoding in enumerate(encodings):
      length = len(encoding)
      ids[row, :length] = encoding.ids
      attention[row, :length] = 1
      content[row, :length] = np.equal(encoding.special_tokens_mask, 0)
      starts[row, :length] = _word_starts(encoding.word_ids)
    return {
      "input_ids": ids,
      "attention_mask": attention,
      "token_mask": content,
      "word_starts": starts,
    }

  def tokens(self, text: str) -> list[str]:
    """Returns the T tokens of a text, [CLS] and padding included."""
    tokens = self._backend.encode(self._mark(text)).tokens
    return tokens + ["[PAD]"] * (self.max_length - len(tokens))

  def _mark(self, text: str) -> str:
    return _PLACEHOLDER.sub(f" {self._placeholder} ", text)


def _word_starts(word_ids: Sequence[int | None]) -> list[int]:
  starts = list(range(len(word_ids)))
  for i in range(1, len(word_ids)):
    if word_ids[i] is not None and word_ids[i] == word_ids[i - 1]:
      starts[i] = starts[i - 1]
  return starts


def _word_pieces(path: Path) -> tokenizers.Tokenizer:
  vocabulary = path.read_text("utf-8").split("\n")
  ids = {token: i for i, token in enumerate(vocabulary) if token}
  for token in ("[PAD]", "[UNK]", "[CLS]", "[SEP]"):
    if token not in ids:
      raise ValueError(f"vocabulary {path.name}: no {token}")
  wordpiece = tokenizers.BertWordPieceTokenizer(vocab=ids, lowercase=True)
  return tokenizers.Tokenizer.from_str(wordpiece.to_str())


def _from_hugging_face(name: str) -> tokenizers.Tokenizer:
  # Imported here: a run from a local file starts without it.
  import transformers

  local = Path(name).is_dir()
  try:
    try:
      loaded = transformers.AutoTokenizer.from_pretrained(
        name, local_files_only=local, trust_remote_code=False
      )
    except ValueError:
      # It names code of its own, as CXR-BERT does, whose tokenizer is BERT's.
      loaded = transformers.BertTokenizer.from_pretrained(
        name, local_files_only=local
      )
  except (OSError, ValueError) as error:
    raise ValueError(
      f"data.tokenizer {name!r} is neither a file, a local directory nor a "
      f"hub name that loads: {str(error).splitlines()[0]}"
    ) from error
  return tokenizers.Tokenizer.from_str(loaded.backend_tokenizer.to_str())
