"""This model in Python: images and texts in, unit vectors out.

It needs jax (and numpy, which jax needs) and the files beside it:

  import load

  model = load.Model()
  squares = np.stack([model.prepare(image) for image in images])
  image_embeds, patch_embeds = model.embed_images(squares)
  text_embeds, token_embeds = model.embed_texts(["Edema.", "No edema."])
  scores = image_embeds @ (text_embeds[0] - text_embeds[1])

What is computed is compiled for each number of images or texts anew, so that
batches are best of one size. Not for clinical use.
"""

import functools
import importlib.util
import json
import re
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import export

# What de-identification leaves of words, and the tokens that may stand for it.
_GAP = r"(?:_{2,}|X{4})"
_PLACEHOLDER = re.compile(rf"{_GAP}(?:[-/]*{_GAP})*")
_PLACEHOLDER_TOKENS = ("___", "[UNK]")


class Model:
  """Both encoders.

  Attributes:
    image_size: S, side of the square images.
    grid: rows and columns of their patches, which are row-major.
    max_length: T, tokens a text.
  """

  def __init__(self, directory: str | Path = Path(__file__).parent):
    """Reads the export in `directory`; nothing is compiled yet."""
    self._directory = Path(directory)
    about = json.loads(
      (self._directory / "preprocessing.json").read_text("utf-8")
    )
    self.image_size: int = about["image"]["size"]
    self.grid: tuple[int, int] = tuple(about["image"]["grid"])
    self.max_length: int = about["text"]["max_length"]
    self._crop_fraction: float = about["image"]["crop_fraction"]
    self._encode_image = _encoder(self._directory, "image_encoder")
    self._encode_text = _encoder(self._directory, "text_encoder")

  def embed_images(self, squares: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns image_embeds (N, D) and patch_embeds (N, P, D), float32.

    Args:
      squares: (N, S, S) uint8, as `prepare` makes them.

    Raises:
      ValueError: if they are not.
    """
    size = self.image_size
    if squares.dtype != np.uint8 or squares.shape[1:] != (size, size):
      raise ValueError(
        f"squares are {squares.dtype} of shape {squares.shape}, expected uint8 "
        f"(N, {size}, {size})"
      )
    return self._encode_image(squares)

  def embed_texts(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Returns text_embeds (N, D) and token_embeds (N, T, D), float32.

    Raises:
      ValueError: if the vocabulary is of a kind that is not read here.
    """
    return self.embed_tokens(*self.tokenize(texts))

  def embed_tokens(
    self,
    input_ids: np.ndarray,
    attention_mask: np.ndarray,
    word_starts: np.ndarray,
  ) -> tuple[np.ndarray, np.ndarray]:
    """Returns what `embed_texts` does, of the arrays of `Tokenizer`."""
    arrays = (input_ids, attention_mask, word_starts)
    return self._encode_text(*(np.asarray(x, np.int32) for x in arrays))

  @functools.cached_property
  def tokenize(self) -> "Tokenizer":
    """Texts to ids."""
    text = (self._directory / "tokenizer.json").read_text("utf-8")
    return Tokenizer(text, self.max_length)

  def prepare(self, image: np.ndarray) -> np.ndarray:
    """Returns an image as (S, S) uint8: short side resized, then centre crop.

    It differs from what the training's own code makes by rounding alone: one
    grey level at most.

    Args:
      image: (H, W) uint8, bright where the body is dense.

    Raises:
      ValueError: if it is not.
    """
    if image.dtype != np.uint8 or image.ndim != 2 or min(image.shape) < 8:
      raise ValueError(
        f"image is {image.dtype} of shape {image.shape}, expected grey uint8 "
        "(H, W)"
      )
    size = self.image_size
    scale = size / self._crop_fraction / min(image.shape)
    rows, columns = (
      _weights(length, max(round(length * scale), size), size, scale < 1)
      for length in image.shape
    )
    pixels = rows @ image.astype(np.float32) @ columns.T
    return np.rint(pixels).astype(np.uint8)


class Tokenizer:
  """BERT's WordPiece, lower-cased or not, as tokenizer.json describes it."""

  def __init__(self, text: str, max_length: int):
    """Reads tokenizer.json; `max_length` counts [CLS] and [SEP].

    Raises:
      ValueError: if it asks for anything else than BERT's.
    """
    about = json.loads(text)
    model, after = about["model"], about["post_processor"] or {}
    added = about["added_tokens"]
    around = [
      next(iter(piece.values()))["id"] for piece in after.get("single", ())
    ]
    if (
      (about["normalizer"] or {}).get("type") != "BertNormalizer"
      or (about["pre_tokenizer"] or {}).get("type") != "BertPreTokenizer"
      or model["type"] != "WordPiece"
      or (after.get("type") != "BertProcessing" and around != _AROUND)
      or any(
        token[option]
        for token in added
        for option in ("normalized", "lstrip", "rstrip", "single_word")
      )
    ):
      raise ValueError(
        "tokenizer.json is not of BERT's kind: tokenise with the package "
        "tokenizers, and call embed_tokens"
      )
    self._normalizer = about["normalizer"]
    self._vocabulary: dict[str, int] = model["vocab"]
    self._unknown: int = self._vocabulary[model["unk_token"]]
    self._prefix: str = model["continuing_subword_prefix"]
    self._longest: int = model["max_input_chars_per_word"]
    self._added = {token["content"]: token["id"] for token in added}
    # Of tokens that begin alike, the longest.
    longest_first = sorted(self._added, key=len, reverse=True)
    self._split_added = re.compile(
      f"({'|'.join(map(re.escape, longest_first))})"
    )
    known = self._vocabulary.keys() | self._added.keys()
    self._placeholder = next(t for t in _PLACEHOLDER_TOKENS if t in known)
    self.max_length = max_length

  def __call__(
    self, texts: Sequence[str]
  ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns input_ids, attention_mask and word_starts, each (N, T) int32.

    The mask is 0 on padding. `word_starts` holds, at every position, that of
    the first piece of its word.

    Raises:
      ValueError: if `texts` is no list of texts.
    """
    if isinstance(texts, str) or not len(texts):
      raise ValueError(f"texts are {texts!r}, expected a list of texts")
    pad, first, last = (
      self._vocabulary[name] for name in ("[PAD]", "[CLS]", "[SEP]")
    )
    shape = len(texts), self.max_length
    ids, mask = np.full(shape, pad, np.int32), np.zeros(shape, np.int32)
    starts = np.tile(np.arange(self.max_length, dtype=np.int32), (shape[0], 1))
    for row, text in enumerate(texts):
      place, room = 1, self.max_length - 2
      for word in self._words(text):
        pieces = word[: room - place + 1]
        ids[row, place : place + len(pieces)] = pieces
        starts[row, place : place + len(pieces)] = place
        place += len(pieces)
      ids[row, 0], ids[row, place] = first, last
      mask[row, : place + 1] = 1
    return ids, mask, starts

  def _words(self, text: str) -> Iterator[list[int]]:
    """Yields the ids of each word's pieces."""
    text = _PLACEHOLDER.sub(f" {self._placeholder} ", text)
    for i, part in enumerate(self._split_added.split(text)):
      if i % 2:
        yield [self._added[part]]
      else:
        for word in _basic_words(_normalise(part, self._normalizer)):
          yield self._pieces(word)

  def _pieces(self, word: str) -> list[int]:
    """The longest pieces from the left, or [UNK] alone."""
    ids, start = [], 0
    if len(word) > self._longest:
      return [self._unknown]
    while start < len(word):
      prefix = self._prefix if start else ""
      for end in range(len(word), start, -1):
        piece = prefix + word[start:end]
        if piece in self._vocabulary:
          break
      else:
        return [self._unknown]
      ids.append(self._vocabulary[piece])
      start = end
    return ids


_AROUND = ["[CLS]", "A", "[SEP]"]
# Blocks of Chinese characters, each a word to BERT.
_CHINESE = re.compile(
  "([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002a6df"
  "\U0002a700-\U0002b81f\U0002b920-\U0002ceaf\U0002f800-\U0002fa1f])"
)
_CONTROL = ("Cc", "Cf", "Co")


def _normalise(text: str, options: dict[str, Any]) -> str:
  if options["clean_text"]:
    text = "".join(
      " " if c.isspace() else c
      for c in text
      if c in "\t\n\r"
      or not (c == "\ufffd" or unicodedata.category(c) in _CONTROL)
    )
  if options["handle_chinese_chars"]:
    text = _CHINESE.sub(r" \1 ", text)
  strip = options["strip_accents"]
  if options["lowercase"] if strip is None else strip:
    text = "".join(
      c
      for c in unicodedata.normalize("NFD", text)
      if unicodedata.category(c) != "Mn"
    )
  if options["lowercase"]:
    # Alone, a letter is the same at the end of a word as elsewhere.
    text = "".join(c.lower() for c in text)
  return text


def _basic_words(text: str) -> Iterator[str]:
  """Yields what blanks part; each punctuation mark is a word of its own."""
  for chunk in text.split():
    word = ""
    for c in chunk:
      # To BERT, all of ASCII that is no letter or digit is punctuation.
      if unicodedata.category(c)[0] == "P" or (
        "!" <= c <= "~" and not c.isalnum()
      ):
        if word:
          yield word
        yield c
        word = ""
      else:
        word += c
    if word:
      yield word


def _weights(length: int, resized: int, size: int, shrink: bool) -> np.ndarray:
  """Returns (size, length) float32: what each pixel counts in the crop's."""
  step = length / resized
  places = np.arange(size)[:, None] + (resized - size) // 2
  pixels = np.arange(length)
  if shrink:  # the share of the area that each covers
    left, right = places * step, (places + 1) * step
    weights = np.minimum(pixels + 1, right) - np.maximum(pixels, left)
    weights = np.maximum(weights, 0) / step
  else:  # linear between centres
    centres = np.clip((places + 0.5) * step - 0.5, 0, length - 1)
    weights = np.maximum(1 - np.abs(centres - pixels), 0)
  return weights.astype(np.float32)


def _encoder(directory: Path, name: str) -> Callable[..., Any]:
  """Returns a function of numpy arrays, with its parameters in it."""
  if importlib.util.find_spec("flatbuffers") is None:
    # jax reads its exports with it, but does not install it.
    sys.path.append(str(directory / "vendored"))
  data = bytearray((directory / f"{name}.jax_export").read_bytes())
  encode = jax.jit(export.deserialize(data).call)
  with np.load(directory / f"{name}.npz", allow_pickle=False) as file:
    variables = jax.device_put(dict(file))
  return lambda *arrays: jax.device_get(encode(variables, *arrays))
