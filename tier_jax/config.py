"""From the ConfigDict at the door to frozen dataclasses.

Each dataclass lives beside what it configures; here they only meet. `build`
checks every key, type and value before any work starts.
"""

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Mapping
from typing import Any

from absl import logging
from flax import traverse_util

from tier_jax import durations, sharding
from tier_jax import optim as optim_lib
from tier_jax.data import pair_source, transforms
from tier_jax.losses import objective
from tier_jax.models import dual_encoder, pretrained, resnet

ON_NONFINITE = ("abort", "skip", "rewind")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
  """The training loop.

  What counts steps may also be a duration, such as "3 epochs", "0.5 epochs" or
  "100_000 examples", until `durations.resolve`.

  Attributes:
    batch_size: pairs a step, over all devices.
    accumulate: parts in which the towers see a batch, for when it does not
      fit; the loss still compares every pair with every other. Costs the
      forward pass a second time; see `train_step.loss_fn`.
    num_steps: updates in all.
    log_every, eval_every, checkpoint_every, diagnostics_every: steps between
      one and the next.
    checkpoint_minutes: save at the next logged step, too, once the last save is
      so long ago; 0 turns it off.
    eval_batch_size: pairs a batch of the validation loss; fewer when the
      split has fewer. Losses compare only at the same size.
    eval_benchmark: benchmark whose `validate` split is scored during training
      if data_dir holds it, "" for none.
    on_nonfinite: what a loss or gradient that is not finite leads to: "abort"
      ends the run, "skip" leaves the update out, "rewind" goes back to the last
      checkpoint and on with the batches after the fault: those between are left
      out.
    max_faults: how often a run may skip or rewind.
    watchdog_minutes: without a step for so long, the run writes down where it
      stands and ends; 0 turns it off.
  """

  batch_size: int
  num_steps: durations.Steps
  accumulate: int = 1
  log_every: durations.Steps = 50
  eval_every: durations.Steps = 1000
  checkpoint_every: durations.Steps = 1000
  diagnostics_every: durations.Steps = 200
  checkpoint_minutes: float = 0.0
  eval_batch_size: int = 64
  eval_benchmark: str = "chexpert"
  on_nonfinite: str = "abort"
  max_faults: int = 10
  watchdog_minutes: float = 10.0

  def __post_init__(self):
    for field in dataclasses.fields(self):
      name, value = f"train.{field.name}", getattr(self, field.name)
      if field.type is durations.Steps:
        durations.check(name, value, least=1)
      elif field.type is int and value < 1:
        raise ValueError(f"{name} is {value}, expected >= 1")
    if self.on_nonfinite not in ON_NONFINITE:
      raise ValueError(
        f"train.on_nonfinite is {self.on_nonfinite!r}, expected one of "
        f"{', '.join(ON_NONFINITE)}"
      )
    for name in ("checkpoint_minutes", "watchdog_minutes"):
      if getattr(self, name) < 0:
        raise ValueError(
          f"train.{name} is {getattr(self, name)}, expected >= 0"
        )


@dataclasses.dataclass(frozen=True)
class Config:
  """A whole experiment."""

  data: pair_source.DataConfig
  model: dual_encoder.DualEncoderConfig
  train: TrainConfig
  seed: int = 0
  augment: transforms.AugmentConfig = transforms.AugmentConfig()
  loss: objective.LossConfig = objective.LossConfig()
  optim: optim_lib.OptimConfig = optim_lib.OptimConfig()
  mesh: sharding.MeshConfig = sharding.MeshConfig()
  init: pretrained.InitConfig = pretrained.InitConfig()

  def __post_init__(self):
    if self.seed < 0:
      raise ValueError(f"seed is {self.seed}, expected >= 0")
    if self.train.accumulate > 1 and isinstance(
      self.model.image, resnet.ResNetConfig
    ):
      raise ValueError(
        f"train.accumulate is {self.train.accumulate}, expected 1 with "
        f"model.image.tower {self.model.image.tower!r}: its batch norms need "
        "the whole batch at once"
      )
    if self.data.feature_cache:
      self._check_feature_cache()

  def _check_feature_cache(self):
    image, data = self.model.image, self.data
    frozen = "image_tower/.*" in self.optim.frozen
    pooling = getattr(image, "pooling", None)
    for field, value, fits, expected in (
      ("model.image.tower", image.tower, image.tower == "vit", "'vit'"),
      ("model.image.pooling", pooling, pooling == "mean", "'mean'"),
      ("init.image", self.init.image, self.init.image, "weights"),
      ("optim.frozen", self.optim.frozen, frozen, "'image_tower/.*' in it"),
      # Another record would stand in for an image, but not for its text.
      ("data.max_corrupt", data.max_corrupt, not data.max_corrupt, "0"),
      # The whole cache would be sent to each.
      ("data.num_workers", data.num_workers, not data.num_workers, "0"),
      (
        "loss.image_image_weight",
        self.loss.image_image_weight,
        not self.loss.image_image_weight,
        "0",
      ),
    ):
      if not fits:
        raise ValueError(
          f"{field} is {value!r}, expected {expected} with "
          f"data.feature_cache {data.feature_cache!r}, which keeps the patches "
          "of a tower that does not train"
        )


def build(values: Mapping[str, Any]) -> Config:
  """Returns the experiment that a ConfigDict or its JSON form describes.

  Raises:
    ValueError: names the key and says what was expected, on an unknown or
      missing key, a wrong type or a value out of range.
  """
  return _build(Config, values, "")


def to_dict(config: Config) -> dict[str, Any]:
  """Returns the JSON-like form of which `build` makes an equal config."""
  return dataclasses.asdict(config)


def log(config: Config, replaced: Mapping[str, Any]) -> None:
  """Logs every field as a line `name = value`, sorted by name.

  Args:
    config: the experiment.
    replaced: what stood in the config file for those that flags changed, by
      name.
  """
  flat = traverse_util.flatten_dict(to_dict(config), sep=".")
  for name in sorted(flat, key=lambda name: ("." in name, name)):
    was = f"  (file: {replaced[name]!r})" if name in replaced else ""
    logging.info("%s = %r%s", name, flat[name], was)


def _build(cls, values, prefix):
  types_by_name = typing.get_type_hints(cls, include_extras=True)
  fields = {field.name: field for field in dataclasses.fields(cls)}
  for name in values:
    if name not in fields:
      near = difflib.get_close_matches(name, fields, 1)
      hint = f"did you mean {prefix}{near[0]}?" if near else "expected one of "
      raise ValueError(
        f"unknown config key {prefix}{name}: "
        + (hint if near else hint + ", ".join(fields))
      )
  built = {}
  for name, field in fields.items():
    if name in values:
      built[name] = _convert(types_by_name[name], values[name], prefix + name)
    elif (
      field.default is dataclasses.MISSING
      and field.default_factory is dataclasses.MISSING
    ):
      raise ValueError(f"config key {prefix}{name} is missing")
  return cls(**built)


def _convert(kind, value, name):
  """Returns `value` as the field's type; only int widens to float."""
  if kind is durations.Steps:
    return durations.parse(name, value)
  if isinstance(kind, types.UnionType):
    kind = _tower(kind, value, name)
  if dataclasses.is_dataclass(kind):
    if not isinstance(value, Mapping) and not hasattr(value, "items"):
      raise ValueError(f"{name} is {value!r}, expected a dict")
    return _build(kind, value, name + ".")
  if isinstance(kind, types.GenericAlias):  # tuple[str, ...] and the like
    if not isinstance(value, (list, tuple)):
      raise ValueError(f"{name} is {value!r}, expected a tuple")
    inner, *rest = typing.get_args(kind)
    if rest != [...] and len(value) != 1 + len(rest):
      raise ValueError(f"{name} is {value!r}, expected {1 + len(rest)} items")
    return tuple(_convert(inner, item, name) for item in value)
  if kind is float and isinstance(value, int) and not isinstance(value, bool):
    return float(value)
  if kind is float and isinstance(value, float) and not math.isfinite(value):
    raise ValueError(f"{name} is {value!r}, expected a finite number")
  if type(value) is not kind:
    raise ValueError(f"{name} is {value!r}, expected {kind.__name__}")
  return value


def _tower(union, value, name):
  """Returns the member of a union of towers that the key `tower` names."""
  if not hasattr(value, "items"):
    raise ValueError(f"{name} is {value!r}, expected a dict")
  towers = {}
  for kind in typing.get_args(union):
    (field,) = (f for f in dataclasses.fields(kind) if f.name == "tower")
    towers[field.default] = kind
  tower = value.get("tower", next(iter(towers)))
  if not isinstance(tower, str) or tower not in towers:
    raise ValueError(
      f"{name}.tower is {tower!r}, expected one of {', '.join(towers)}"
    )
  return towers[tower]
