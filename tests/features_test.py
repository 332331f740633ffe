"""Training on what a frozen tower made of the images before."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import trainings
from tests.models import vit_reference
from tier_jax import config as config_lib
from tier_jax import experiment, features, inference, program, sharding, train
from tier_jax.data import loader, pair_source, tokenizer, transforms
from tier_jax.models import dual_encoder


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
  return trainings.write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module", autouse=True)
def compiled(tmp_path_factory):
  with trainings.compiled_once(tmp_path_factory):
    yield


def make(data_dir, path, **changes):
  """Returns a config of two steps on a frozen tower, weights in `path`."""
  weights = path / "weights"
  weights.mkdir(exist_ok=True)
  vit_reference.write("dinov2", weights)
  values = config_lib.to_dict(trainings.config(data_dir, num_steps=2))
  values["data"]["feature_cache"] = str(path / "cache")
  values["init"]["image"] = str(weights)
  values["model"]["image"] |= {
    "image_size": vit_reference.SIZE,
    "patch_size": vit_reference.PATCH,
    "class_token": True,
  }
  values["optim"]["frozen"] = ("image_tower/.*",)
  for name, value in changes.items():
    part, field = name.split("__")
    values[part][field] = value
  return config_lib.build(values)


def test_the_cache_holds_what_the_model_sees_in_the_images(data_dir, tmp_path):
  config = make(data_dir, tmp_path)
  train.train_and_evaluate(config, tmp_path / "one")
  model = inference.load(tmp_path / "one", params="raw")
  source = pair_source.PairSource(config.data, "train")
  (path,) = (tmp_path / "cache").iterdir()
  kept = np.load(path)
  assert kept.shape == (len(source), 9, vit_reference.WIDTH)
  size = vit_reference.SIZE
  images = np.stack(
    [
      transforms.eval_image(source.read(i)[1].image, size)
      for i in range(len(source))
    ]
  )
  network = dual_encoder.DualEncoder(model.config.model)

  @jax.jit
  def apply(cached, images):
    tower = network.apply(
      model.encoder.variables,
      images,
      method=lambda m, x: m.image_tower(x).patches,
    )
    return tower, network.apply(
      model.encoder.variables, cached, method="encode_image"
    )

  want, got = apply(jnp.asarray(kept), images)
  np.testing.assert_allclose(kept, want, rtol=2**-10, atol=1e-3)
  for cached, seen in zip(got, model.encoder.embed_images(images), strict=True):
    np.testing.assert_allclose(cached, seen, atol=2e-2)  # of float16's 2**-11

  # Another seed finds it there; another tower makes its own.
  written = path.stat().st_mtime_ns
  np.testing.assert_array_equal(read(config, source, seed=1), kept)
  assert path.stat().st_mtime_ns == written
  image = dataclasses.replace(config.model.image, image_size=8)
  other = dataclasses.replace(config.model, image=image)
  assert read(config, source, model=other).shape[1] == 4
  assert len(list((tmp_path / "cache").iterdir())) == 2


def read(config, source, **changes):
  config, _ = experiment.resolve(dataclasses.replace(config, **changes))
  made = program.make(config, sharding.make_mesh(config.mesh))
  return features.read(made, source)


def test_batches_come_from_the_cache_and_say_so(data_dir, tmp_path):
  config = make(data_dir, tmp_path)
  source = pair_source.PairSource(config.data, "train")
  kept = np.arange(len(source) * 6, dtype=np.float16).reshape(-1, 3, 2)
  batch = next(
    loader.train_iterator(
      source,
      config.data,
      config.augment,
      tokenizer.Tokenizer.from_name("bundled", config.data.max_length),
      image_size=8,
      batch_size=4,
      seed=0,
      features=kept,
    )
  )
  np.testing.assert_array_equal(batch["image"], kept[batch["record"]])


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"optim__frozen": ()}, "optim.frozen is .*, expected 'image_tower/"),
    ({"init__image": ""}, "init.image is '', expected weights"),
    ({"loss__image_image_weight": 0.5}, "image_image_weight is 0.5, expected"),
    ({"data__max_corrupt": 1}, "data.max_corrupt is 1, expected 0"),
    ({"data__num_workers": 2}, "data.num_workers is 2, expected 0"),
  ],
)
def test_what_a_cache_needs_is_named(data_dir, tmp_path, change, words):
  with pytest.raises(ValueError, match=words):
    make(data_dir, tmp_path, **change)
