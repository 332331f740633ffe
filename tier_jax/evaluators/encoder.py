"""What evaluators see of a model: images and texts in, unit vectors out."""

import copy
import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from tier_jax.data import tokenizer
from tier_jax.models import dual_encoder


@dataclasses.dataclass(frozen=True)
class TextEmbeds:
  """Texts in the joint space, float32.

  Attributes:
    text_embeds: (N, D) unit rows.
    token_embeds: (N, T, D), unit over D.
    token_mask: (N, T) bool, True on content tokens.
    tokens: N lists of T tokens.
  """

  text_embeds: np.ndarray
  token_embeds: np.ndarray
  token_mask: np.ndarray
  tokens: list[list[str]]


class Encoder:
  """Embeds numpy images and texts by a dual encoder, in batches.

  Attributes:
    image_size: side of the square images it takes.
    grid: rows and columns of its patches, which are row-major.
    variables: "params" and "batch_stats" of the model; others of the same
      shapes may take their place.
    tokenize: of its texts.
  """

  def __init__(
    self,
    model: dual_encoder.DualEncoder,
    variables: Any,
    tokenize: tokenizer.Tokenizer,
    mesh: Mesh,
    batch_size: int = 64,
    before_batch: Callable[[], None] = lambda: None,
  ):
    """Compiles nothing yet.

    Args:
      model, variables, tokenize: what embeds.
      mesh: over whose devices a batch is split.
      batch_size: rounded up to a multiple of the devices.
      before_batch: called before each batch; what it raises ends the work.
    """
    self._before_batch = before_batch
    self.image_size = model.config.image.image_size
    self.grid = model.config.image.grid
    self.variables = variables
    self._merged = model.config.merge_wordpieces
    self.tokenize = tokenize
    self._num_devices = mesh.size
    self._batch_size = self._whole(batch_size)
    split = NamedSharding(mesh, PartitionSpec(("data", "fsdp")))
    # Every process gets all results, as numpy needs them.
    whole = NamedSharding(mesh, PartitionSpec())

    @functools.partial(jax.jit, out_shardings=whole)
    def encode_image(variables, image):
      image = jax.lax.with_sharding_constraint(image, split)
      return model.apply(variables, image, method="encode_image")

    @functools.partial(jax.jit, out_shardings=whole)
    def encode_patches(variables, image):
      image = jax.lax.with_sharding_constraint(image, split)
      return (model.apply(variables, image, method="encode_patches"),)

    @functools.partial(jax.jit, out_shardings=whole)
    def encode_text(variables, input_ids, attention_mask, word_starts):
      input_ids = jax.lax.with_sharding_constraint(input_ids, split)
      return model.apply(
        variables,
        input_ids,
        attention_mask,
        word_starts,
        method="encode_text",
      )

    self._encode_image = encode_image
    self._encode_patches = encode_patches
    self._encode_text = encode_text

  def in_batches_of(self, batch_size: int) -> "Encoder":
    """Returns this encoder with another batch size, rounded up as above.

    The two share what they have compiled.
    """
    other = copy.copy(self)
    other._batch_size = self._whole(batch_size)
    return other

  def embed_images(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns image_embeds (N, D) and patch_embeds (N, P, D).

    Args:
      images: (N, S, S) uint8, as `transforms.eval_image` makes them.
    """
    image_embeds, patch_embeds = self._run(self._encode_image, images)
    return image_embeds, patch_embeds

  def embed_image_vectors(self, images: np.ndarray) -> np.ndarray:
    """Returns the image_embeds of `embed_images` alone, to the same bits.

    The patches' embeddings, a hundred times as many, never leave the device.
    """

    def encode(*inputs):
      return self._encode_image(*inputs)[:1]

    (image_embeds,) = self._run(encode, images)
    return image_embeds

  def embed_patches(self, images: np.ndarray) -> np.ndarray:
    """Returns the patches' embeddings (N, P, D) before they are normalised."""
    (patches,) = self._run(self._encode_patches, images)
    return patches

  def embed_texts(self, texts: Sequence[str]) -> TextEmbeds:
    """Returns the embeddings of N texts."""
    tokens = self.tokenize(texts)
    text_embeds, token_embeds = self._run(
      self._encode_text,
      tokens["input_ids"],
      tokens["attention_mask"],
      tokens["word_starts"],
    )
    token_mask = tokens["token_mask"]
    if self._merged:
      starts = tokens["word_starts"]
      token_mask = token_mask & (starts == np.arange(starts.shape[1]))
    return TextEmbeds(
      text_embeds=text_embeds,
      token_embeds=token_embeds,
      token_mask=token_mask,
      tokens=[self.tokenize.tokens(text) for text in texts],
    )

  def _whole(self, batch_size: int) -> int:
    return -(-batch_size // self._num_devices) * self._num_devices

  def _run(self, encode, *arrays):
    """Applies `encode` to full batches; the last is padded and cut."""
    total = len(arrays[0])
    if not total:
      raise ValueError("nothing to embed, expected at least one input")
    parts = []
    for start in range(0, total, self._batch_size):
      batch = [array[start : start + self._batch_size] for array in arrays]
      self._before_batch()
      missing = self._batch_size - len(batch[0])
      batch = [np.concatenate([b, b[:1].repeat(missing, 0)]) for b in batch]
      outputs = jax.device_get(encode(self.variables, *batch))
      parts.append([out[: self._batch_size - missing] for out in outputs])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
