"""Which step and parameters are restored, and what a model makes of images."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from data_prep.images import shrink
from tests import config_test
from tests.evaluators import datasets
from tier_jax import checkpointing, inference, sharding
from tier_jax import config as config_lib
from tier_jax.data import tokenizer, transforms
from tier_jax.evaluators import encoder, prompts, zero_shot
from tier_jax.evaluators.benchmarks import registry
from tier_jax.models import dual_encoder
from tier_jax.train_state import TrainState


@pytest.mark.parametrize(
  ("params", "words"),
  [
    ("mean", "params is 'mean', expected ema or raw"),
    ("ema", "trained with optim.ema_decay 0, expected raw"),
  ],
)
def test_parameters_that_were_not_kept_are_refused(tmp_path, params, words):
  config = config_lib.build(config_test.smoke(optim={"ema_decay": 0.0}))
  saver = checkpointing.Checkpointer(tmp_path)
  meta = {"config": config_lib.to_dict(config), "tokenizer": ""}
  state = TrainState(1, {"w": 0.0}, {}, ())  # pyright: ignore
  saver.save(1, state, {}, {}, meta)
  saver.close()
  with pytest.raises(ValueError, match=words):
    inference.load(tmp_path, params=params)


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
  """Of the steps 2 to 4, each with its number as the logits' bias.

  Steps 3 and 4 say that 2 was the best, and 2 says nothing.
  """
  path = tmp_path_factory.mktemp("run")
  config = config_lib.build(config_test.smoke(optim={"ema_decay": 0.0}))
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.data.max_length)
  text = dataclasses.replace(config.model.text, vocab_size=tokenize.vocab_size)
  config = dataclasses.replace(
    config, model=dataclasses.replace(config.model, text=text)
  )
  network = dual_encoder.DualEncoder(config.model)
  shapes = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      network, jax.random.key(0), tokenize.max_length
    )
  )
  zeros = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
  meta = {
    "config": config_lib.to_dict(config),
    "tokenizer": tokenize.to_json(),
    "rendering": dataclasses.asdict(datasets.RENDERING),
  }
  saver = checkpointing.Checkpointer(path)
  for step in (2, 3, 4):
    params = {**zeros["params"], "logit_bias": np.float32(step)}
    state = TrainState(np.int32(step), params, zeros["batch_stats"], ())
    best = {"step": 2, "metric": "valid/loss", "value": 1.0}
    progress = {"best": best if step > 2 else None}
    saver.save(step, state, {}, progress, meta, best=2)
  saver.close()
  return path


@pytest.fixture
def damaged(workdir, tmp_path):
  """Returns a function that damages steps of a copy, and returns that."""

  def damage(*steps):
    path = shutil.copytree(workdir, tmp_path / "run")
    for step in steps:
      with (path / "checkpoints" / str(step) / "input" / "metadata").open(
        "ab"
      ) as file:
        file.write(b" ")
    return path

  return damage


@pytest.mark.parametrize(
  ("damage", "step", "want"),
  [
    ((), None, 4),
    ((), 3, 3),
    ((), "best", 2),
    ((4,), None, 3),
    ((4,), "best", 2),
    ((3, 4), None, 2),
    ((2,), 4, 4),
  ],
)
def test_the_step_that_is_loaded(damaged, damage, step, want):
  path = damaged(*damage)
  model = inference.load(path, step)
  assert model.step == want
  assert model.encoder.variables["params"]["logit_bias"] == want
  assert not (path / "damaged").exists()  # to read is not to tidy


@pytest.mark.parametrize(
  ("damage", "step", "words"),
  [
    ((), 5, r"no checkpoint of step 5, expected one of \[2, 3, 4\]"),
    ((4,), 4, "step 4 in .* is damaged: the bytes of input/metadata have"),
    ((2,), "best", "step 2 in .* is damaged"),
    ((3, 4), "best", "step is 'best', but step 2 .* expected a number"),
    ((2, 3, 4), None, "holds no sound checkpoint"),
  ],
)
def test_a_step_that_cannot_be_loaded_is_refused(damaged, damage, step, words):
  with pytest.raises(ValueError, match=words):
    inference.load(damaged(*damage), step)


@pytest.mark.parametrize(
  ("text", "want"), [(None, None), ("best", "best"), ("120", 120)]
)
def test_steps_of_a_flag(text, want):
  assert inference.parse_step(text) == want


@pytest.mark.parametrize("text", ["", "last", "-1", "1.5"])
def test_what_is_no_step_is_refused(text):
  with pytest.raises(ValueError, match=f"--step is '{text}', expected a num"):
    inference.parse_step(text)


@pytest.fixture(scope="module")
def model():
  """Of random weights that make vectors of their own for all inputs."""
  config = config_lib.build(config_test.smoke())
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.data.max_length)
  text = dataclasses.replace(config.model.text, vocab_size=tokenize.vocab_size)
  network = dual_encoder.DualEncoder(
    dataclasses.replace(config.model, text=text)
  )
  variables = dual_encoder.init_variables(
    network, jax.random.key(0), tokenize.max_length
  )
  rng = np.random.default_rng(0)
  variables = jax.tree.map(
    lambda x: np.asarray(rng.normal(0, 0.5, x.shape), np.float32), variables
  )
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  return inference.Model(
    encoder.Encoder(network, variables, tokenize, mesh, 8),
    *(config, 1, "raw", "", datasets.RENDERING),
  )


def _images():
  rng = np.random.default_rng(1)
  return [
    np.kron(
      rng.integers(256, size=(height, width), dtype=np.uint8),
      np.ones((10, 10), np.uint8),
    )
    for height, width in ((9, 7), (6, 20), (30, 30))
  ]


def test_scores_are_the_evaluators_own(model, tmp_path):
  images = _images()
  rows = [
    dataclasses.replace(
      datasets.record(i, labels={"Edema": i % 2, "Cardiomegaly": 0}),
      image=shrink(image, datasets.RENDERING.short_side),  # as it is stored
    )
    for i, image in enumerate(images)
  ]
  directory = datasets.write(tmp_path / "chexpert", {"test": rows})
  evaluator = zero_shot.ZeroShot(registry.find("chexpert"), directory)
  want = evaluator.run(model.encoder)
  got = model.score(images, want.labels)
  assert got.shape == (3, 5) and got.dtype == np.float32
  np.testing.assert_allclose(got, want.scores, atol=1e-6)
  assert np.ptp(want.scores, axis=0).min() > 5e-5  # or any would do
  # Alone, in a batch of its own size; and by sentences that are spelled out.
  np.testing.assert_allclose(
    model.score(images[1], want.labels), want.scores[1:2], atol=1e-6
  )
  edema = dataclasses.asdict(prompts.for_label("Edema"))
  np.testing.assert_allclose(
    model.score(images, {"mine": edema})[:, 0],
    want.scores[:, want.labels.index("Edema")],
    atol=1e-6,
  )


def test_images_of_one_size_may_be_one_array(model):
  images = np.stack([_images()[0], _images()[0][::-1]])
  vectors = model.embed_images(images)
  np.testing.assert_array_equal(vectors, model.embed_images(list(images)))
  np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
  assert np.abs(vectors[0] - vectors[1]).max() > 1e-4


def test_a_map_is_the_cosine_of_each_patch(model):
  image = _images()[0]
  phrase, against = "There is edema.", ["No edema.", "The lungs are clear."]
  size = model.encoder.image_size
  (patches,) = model.encoder.embed_images(
    transforms.eval_image(image, size)[None]
  )[1]
  vectors = model.embed_texts([phrase, *against])
  got = model.similarity_map(image, phrase)
  want = transforms.eval_map(
    (patches @ vectors[0]).reshape(model.encoder.grid), image.shape, size
  )
  assert got.shape == image.shape
  np.testing.assert_allclose(got, want, atol=1e-6)
  mean = vectors[1:].mean(axis=0)
  (patches,) = model.encoder.embed_patches(
    transforms.eval_image(image, size)[None]
  )
  denied = patches @ (vectors[0] - mean / np.linalg.norm(mean))
  got = model.similarity_map(image, phrase, against)
  assert np.nanmin(got) >= denied.min() - 1e-6
  np.testing.assert_allclose(
    got,
    transforms.eval_map(denied.reshape(model.encoder.grid), image.shape, size),
    atol=1e-6,
  )


@pytest.mark.parametrize(
  ("images", "words"),
  [
    (
      np.zeros((40, 40, 3), np.uint8),
      r"uint8 of shape \(40, 3\), expected grey",
    ),
    (np.zeros((2, 40, 40, 1), np.uint8), r"of shape \(40, 40, 1\)"),
    (np.zeros((40, 40)), "an image is float64"),
    ([[[0]]], "an image is list"),
    ([], "there are no images"),
    (np.zeros((0, 40, 40), np.uint8), "there are no images"),
  ],
)
def test_what_is_no_grey_image_is_refused(model, images, words):
  with pytest.raises(ValueError, match=words):
    model.embed_images(images)


@pytest.mark.parametrize("texts", ["Edema.", [], ["Edema.", " "]])
def test_what_is_no_list_of_sentences_is_refused(model, texts):
  with pytest.raises(ValueError, match="expected a list of sentences"):
    model.embed_texts(texts)


def test_a_map_is_of_one_image(model):
  with pytest.raises(ValueError, match=r"\(2, 40, 40\), expected \(H, W\)"):
    model.similarity_map(np.zeros((2, 40, 40), np.uint8), "Edema.")
