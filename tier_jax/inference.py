"""A trained model in Python: numpy in, numpy out.

  model = inference.load("runs/demo/tier")
  scores = model.score(images, ["Pneumothorax", "Pleural Effusion"])
  places = model.similarity_map(image, "There is a left pleural effusion.")

What is compiled lasts as long as the process, or longer after `keep_compiled`.
"""

import contextlib
import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tier_jax import checkpointing, image_files, sharding
from tier_jax import config as config_lib
from tier_jax.data import tokenizer, transforms
from tier_jax.evaluators import encoder as encoder_lib
from tier_jax.evaluators import prompts, zero_shot
from tier_jax.models import dual_encoder
from tier_jax.train_state import params_digest

BATCH_SIZE = 64

# One image, (H, W); or several of one size, (N, H, W), or of any.
Images = np.ndarray | Sequence[np.ndarray]


@dataclasses.dataclass(frozen=True)
class Model:
  """A restored dual encoder, for images of any size.

  Images are grey uint8 arrays, bright where the body is dense, as
  `data_prep.images.read_image` returns them with the recipe of `rendering`.
  `image_files.to_square` makes of them what the training's evaluation saw.

  Attributes:
    encoder: what evaluators take: of images that are resized and cropped.
    config: of the training.
    step: updates made.
    params_kind: "ema", the moving average of the parameters, or "raw".
    params_digest: SHA-256 of the parameters.
    rendering: how files become such images, as in the training.
  """

  encoder: encoder_lib.Encoder
  config: config_lib.Config
  step: int
  params_kind: str
  params_digest: str
  rendering: transforms.Rendering

  def score(self, images: Images, asked: Any) -> np.ndarray:
    """Returns how present L labels are on N images: (N, L) float32 in [-2, 2].

    It is the zero-shot score of `benchmark.Benchmark`, `difference`: the
    image's cosine with a label's positive sentences less that with its negative
    ones. It orders images and is no probability.

    Args:
      images: one, or N.
      asked: labels' names, or their sentences; see `prompts.parse`.

    Raises:
      ValueError: if images or labels are not as expected.
    """
    image_embeds = self.embed_images(images)
    return zero_shot.score(image_embeds, self.embed_classes(asked))

  def similarity_map(
    self, image: np.ndarray, phrase: str, against: Sequence[str] = ()
  ) -> np.ndarray:
    """Returns where a phrase is seen in an image, on the image's own pixels.

    Args:
      image: (H, W).
      phrase: such as "There is a left pleural effusion."
      against: sentences that deny it. Given, the map is what each patch adds
        to the score of the phrase against them, in which patches keep their
        norms; see `evaluators.grounding`.

    Returns:
      (H, W) float32: the cosine of the phrase with each patch, or what it adds,
      interpolated between their centres; NaN on the margins, which the model
      does not see.

    Raises:
      ValueError: if image or phrase are not as expected.
    """
    squares = self._prepare(image)
    if len(squares) > 1:
      raise ValueError(f"image has shape {np.shape(image)}, expected (H, W)")
    vector, encoder = self.embed_texts([phrase])[0], self._sized(1)
    if against:
      vector = vector - zero_shot.class_embed(list(self.embed_texts(against)))
      (patches,) = encoder.embed_patches(squares)
    else:
      (patches,) = encoder.embed_images(squares)[1]
    return transforms.eval_map(
      (patches @ vector).reshape(encoder.grid), image.shape, encoder.image_size
    )

  def embed_images(self, images: Images) -> np.ndarray:
    """Returns the (N, D) float32 unit vectors of images, one or N."""
    squares = self._prepare(images)
    return self._sized(len(squares)).embed_image_vectors(squares)

  def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
    """Returns the (N, D) float32 unit vectors of N texts."""
    if isinstance(texts, str) or not texts or not all(map(str.strip, texts)):
      raise ValueError(f"texts are {texts!r}, expected a list of sentences")
    return self._sized(len(texts)).embed_texts(texts).text_embeds

  def embed_classes(self, asked: Any) -> np.ndarray:
    """Returns (2, L, D), the vectors that `score` compares images with.

    Args:
      asked: as `score` takes it.
    """
    found = list(prompts.parse(asked).values())
    text_embeds = self.embed_texts(zero_shot.texts_of(found))
    return zero_shot.class_embeds(found, text_embeds)

  def _prepare(self, images: Images) -> np.ndarray:
    """Returns (N, S, S) uint8."""
    if isinstance(images, np.ndarray) and images.ndim == 2:
      images = [images]
    if not len(images):
      raise ValueError("there are no images, expected one at least")
    for image in images:
      if (
        not isinstance(image, np.ndarray)
        or image.dtype != np.uint8
        or image.ndim != 2
        or min(image.shape) < 8  # a list of rows, or colours for columns
      ):
        raise ValueError(
          f"an image is {getattr(image, 'dtype', type(image).__name__)} of "
          f"shape {np.shape(image)}, expected grey uint8 (H, W)"
        )
    size = self.encoder.image_size
    return np.stack(
      [image_files.to_square(image, size, self.rendering) for image in images]
    )

  def _sized(self, count: int) -> encoder_lib.Encoder:
    """Returns an encoder that does not compute a full batch for one image."""
    size = 1 << (count - 1).bit_length()
    if size >= BATCH_SIZE:
      return self.encoder
    return self.encoder.in_batches_of(size)


def keep_compiled() -> None:
  """Keeps what jax compiles in the user's cache folder, for later processes.

  It is for programs to call, before they load a model: without it a large model
  compiles for half a minute each time. JAX_COMPILATION_CACHE_DIR names another
  folder.
  """
  if "JAX_COMPILATION_CACHE_DIR" in os.environ:
    return
  root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
  folder = Path(root).expanduser() / "tier_jax" / "compiled"
  with contextlib.suppress(OSError, RuntimeError):  # no home, or a full one
    # What lies there is run: nobody else is to put anything there.
    folder.mkdir(0o700, parents=True, exist_ok=True)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)


def parse_step(text: str | None) -> int | str | None:
  """Returns the `step` of `load` that a flag names.

  Raises:
    ValueError: if it is neither a number nor "best".
  """
  if text in (None, "best"):
    return text
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(f"--step is {text!r}, expected a number or best")
  return int(text)


def load(
  workdir: str | Path, step: int | str | None = None, params: str | None = None
) -> Model:
  """Returns the model of a checkpoint, from the workdir alone.

  Args:
    workdir: of a training.
    step: a saved step, or "best" for the one that the newest sound step says
      was the best; by default the newest sound step itself.
    params: "ema" for the moving average of the parameters or "raw" for
      themselves; by default the average if the training kept one. Batch
      statistics are running means either way.

  Raises:
    ValueError: if there is no such checkpoint, it is damaged, or there is no
      moving average in it.
  """
  if params not in (None, "ema", "raw"):
    raise ValueError(f"params is {params!r}, expected ema or raw")
  checkpointer = checkpointing.Checkpointer(workdir, read_only=True)
  step = _find(checkpointer, step)
  meta = checkpointer.restore_meta(step)
  checkpointer.close()
  config = config_lib.build(meta["config"])
  kind = params or ("ema" if config.optim.ema_decay else "raw")
  if kind == "ema" and not config.optim.ema_decay:
    raise ValueError(
      f"params is 'ema', but {workdir} was trained with optim.ema_decay 0, "
      "expected raw"
    )
  tokenize = tokenizer.Tokenizer.from_json(
    meta["tokenizer"], config.data.max_length
  )
  network = dual_encoder.DualEncoder(config.model)
  # Evaluation takes all devices, whatever the training's mesh was.
  mesh = sharding.make_mesh(sharding.MeshConfig())
  abstract = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      network, jax.random.key(0), tokenize.max_length
    )
  )
  variables = checkpointing.restore_variables(
    workdir,
    step,
    jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      sharding.state_sharding(abstract, mesh),
    ),
    averaged=kind == "ema",
  )
  return Model(
    encoder_lib.Encoder(network, variables, tokenize, mesh, BATCH_SIZE),
    config=config,
    step=step,
    params_kind=kind,
    params_digest=params_digest(variables["params"]),
    rendering=transforms.Rendering(**meta["rendering"]),
  )


def _find(checkpointer: checkpointing.Checkpointer, step) -> int:
  """Returns the number of a step that is sound."""
  directory = checkpointer.directory
  if step in (None, "best"):
    newest = checkpointer.latest_sound()
    if newest is None:
      raise ValueError(f"{directory} holds no sound checkpoint")
    if step is None:
      return newest
    best = checkpointer.restore_progress(newest).get("best")
    if best is None:
      raise ValueError(
        f"step is 'best', but step {newest} in {directory} says of none that "
        "it was the best, expected a number"
      )
    step = best["step"]
    if step == newest:
      return newest
  steps = checkpointer.all_steps()
  if step not in steps:
    raise ValueError(
      f"{directory} holds no checkpoint of step {step}, expected one of {steps}"
    )
  checkpointer.verify(step)
  return step
