"""What a config cannot mean is refused before anything is allocated."""

import jax
import pytest

from tests import config_test
from tests.data import pairs
from tier_jax import config as config_lib
from tier_jax import program, sharding

ALL = "image_(tower|head)/.*"
TOWER = "image_tower/.*"
FIRST_STAGES = "image_tower/(stem|norm_stem|stage_[012])/.*"


def make(**changes):
  values = config_test.load("paper_resnet50", "smoke").to_dict()
  values["model"]["text"]["vocab_size"] = 100
  values["optim"]["frozen"] = ()
  values = config_test.merge(values, changes)
  mesh = sharding.make_mesh(sharding.MeshConfig(), jax.devices()[:1])
  return program.make(config_lib.build(values), mesh)


@pytest.mark.parametrize("pattern", [TOWER, FIRST_STAGES])
def test_frozen_norms_need_frozen_statistics(pattern):
  optim = {"frozen": (pattern,)}
  with pytest.raises(ValueError, match="freeze_batch_stats True"):
    make(optim=optim)
  make(optim=optim, model={"image": {"freeze_batch_stats": True}})


def test_the_heads_norm_must_train():
  with pytest.raises(ValueError, match="optim.frozen holds image_head/norm"):
    make(
      optim={"frozen": (ALL,)}, model={"image": {"freeze_batch_stats": True}}
    )


def test_an_average_does_not_go_with_moving_statistics():
  with pytest.raises(ValueError, match="optim.ema_decay is 0.9"):
    make(optim={"ema_decay": 0.9})


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_the_batch_is_that_of_the_loader(tmp_path, weight):
  pairs.write_dataset(tmp_path / "a", ["Edema."] * 8)
  values = config_test.load("vit_b16", "smoke").to_dict()
  data = {"data_dir": str(tmp_path), "datasets": ("a",), "num_threads": 1}
  config = config_lib.build(
    config_test.merge(
      values,
      {
        "data": data,
        "train": {"batch_size": 8},
        "loss": {"image_image_weight": weight},
      },
    )
  )
  batch = next(
    pairs.iterator(
      config.data,
      batch_size=8,
      image_size=config.model.image.image_size,
      second_view=weight > 0,
    )
  )
  shapes = program.batch_shapes(config)
  assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
    k: (v.shape, v.dtype) for k, v in shapes.items()
  }
