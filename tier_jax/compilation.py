"""The training step compiled ahead of time, and what it will cost.

For the local devices, or for TPUs that are not there: libtpu compiles for any
topology that it knows by name.
"""

import dataclasses
import importlib.util
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import topologies

from tier_jax import config as config_lib
from tier_jax import flops, hlo, sharding
from tier_jax import program as program_lib
from tier_jax.data import tokenizer
from tier_jax.models import pretrained

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """One device as jax counts them.

  Attributes:
    memory: bytes that a program can have.
    flops_per_cycle: of bf16 products.
    bytes_per_cycle: to and from memory.
  """

  memory: float
  flops_per_cycle: float
  bytes_per_cycle: float


# By `device_kind`. Memory is what libtpu 0.0.42.1 calls "available HBM" when it
# refuses a program that is too large: the 16, 32 or 95 GB less what the runtime
# keeps. Peaks and bandwidths are Google Cloud's, over clocks of 1.05 GHz (v4),
# 1.5 GHz (v5e) and 1.75 GHz (v5p, v6e).
CHIPS = {
  "TPU v4": Chip(30.75 * GIB, 2**18, 1228 / 1.05),
  "TPU v5 lite": Chip(15.75 * GIB, 2**17, 819 / 1.5),
  "TPU v5": Chip(95.74 * GIB, 2**18, 2765 / 1.75),
  "TPU v6 lite": Chip(31.25 * GIB, 2**19, 1640 / 1.75),
}


class DoesNotFitError(ValueError):
  """The compiler found that the program needs more memory than there is."""


@dataclasses.dataclass(frozen=True)
class Summary:
  """What a training step needs; all figures are per device, unless said.

  Attributes:
    device_kind, devices: which, and how many.
    mesh: axis sizes.
    pairs_per_device: of a step.
    compile_seconds: wall time.
    argument_bytes: state and batch.
    temporary_bytes: activations and whatever else lives within a step.
    peak_bytes: arguments, results that do not take their place, temporaries
      and code, all of which are held for the whole step.
    capacity_bytes: what the device has; None if unknown.
    fits: whether peak is within capacity; None if unknown.
    flops: of matrix products, with those that remat does again.
    useful_flops: without those.
    estimated_cycles: by the compiler's cost model, see `hlo.Counts`, and the
      floors of Pallas kernels, which have no estimate; None if it gives none.
      Neither overlap nor stalls are in it.
    pallas_cycles: those floors alone: the larger of FLOPs and bytes over the
      chip's peaks.
    estimated_cycles_per_pair: over the pairs of a device.
    estimated_mfu: share of the chip's peak that useful FLOPs would reach.
    collectives: by kind, see `hlo.Collective`.
    unknown_loops: loops counted as if they ran once.
    costliest: the ten kernels with the most cycles, see `hlo.costliest`.
  """

  device_kind: str
  devices: int
  mesh: Mapping[str, int]
  pairs_per_device: int
  compile_seconds: float
  argument_bytes: int
  temporary_bytes: int
  peak_bytes: int
  capacity_bytes: int | None
  fits: bool | None
  flops: int
  useful_flops: int
  estimated_cycles: int | None
  pallas_cycles: int
  estimated_cycles_per_pair: float | None
  estimated_mfu: float | None
  collectives: Mapping[str, hlo.Collective]
  unknown_loops: int
  costliest: tuple[hlo.Kernel, ...]

  def line(self) -> str:
    """Returns the summary in one line."""
    memory = f"{self.peak_bytes / GIB:.2f} GiB"
    if self.capacity_bytes:
      memory += f" of {self.capacity_bytes / GIB:.2f}"
    parts = [
      f"{self.devices} x {self.device_kind}, {self.pairs_per_device} pairs "
      f"each: compiled in {self.compile_seconds:.0f} s",
      f"{memory} a device (arguments {self.argument_bytes / GIB:.2f}, "
      f"temporaries {self.temporary_bytes / GIB:.2f})",
      f"{self.flops / self.pairs_per_device / 1e9:.4g} GFLOP a pair",
    ]
    if self.estimated_cycles_per_pair is not None:
      parts.append(
        f"estimated {self.estimated_cycles_per_pair / 1e6:.3f} M cycles a pair"
      )
    if self.estimated_mfu is not None:
      parts.append(f"estimated MFU {self.estimated_mfu:.1%}")
    return "; ".join(parts)

  def table(self) -> str:
    """Returns the whole summary as lines of text."""
    fits = {True: "fits", False: "DOES NOT FIT", None: "capacity unknown"}
    again = self.flops - self.useful_flops
    lines = [
      self.line(),
      f"mesh: {dict(self.mesh)}; {fits[self.fits]}",
      f"FLOPs a step: {self.flops:.4g}, {again:.3g} of them done again",
    ]
    if self.estimated_cycles is not None:
      lines.append(
        f"estimated cycles a step: {self.estimated_cycles}, "
        f"{self.pallas_cycles} of them floors of Pallas kernels"
      )
    if self.unknown_loops:
      lines.append(f"loops counted once, trips unknown: {self.unknown_loops}")
    lines += [
      f"{kind}: {total.count} a step, {total.bytes / 1e6:.2f} MB"
      for kind, total in self.collectives.items()
    ]
    lines += [
      f"{kernel.cycles / (self.estimated_cycles or 1):6.2%} "
      f"{kernel.cycles:>12} cycles, {kernel.times} x {kernel.name}: "
      f"{kernel.op_name}"
      for kernel in self.costliest
    ]
    return "\n".join(lines)

  def to_dict(self) -> dict[str, Any]:
    """Returns the summary as JSON takes it."""
    return dataclasses.asdict(self)


def devices(topology: str = "") -> Sequence[Any]:
  """Returns the devices of a TPU topology such as "v5e:16x16", or those here.

  Raises:
    ValueError: if libtpu is not installed or does not know the topology.
  """
  if not topology:
    return jax.devices()
  if importlib.util.find_spec("libtpu") is None:
    raise ValueError(
      f"topology {topology!r} needs libtpu, expected an installation with the "
      "extra tpu"
    )
  options = {}
  if topology.startswith("v4"):
    options["chip_config_name"] = "megacore"  # both cores as one device
  try:
    found = topologies.get_topology_desc(topology, platform="tpu", **options)
  except (jax.errors.JaxRuntimeError, RuntimeError, ValueError) as error:
    raise ValueError(
      f"topology {topology!r} is not known, expected one as v5e:16x16: {error}"
    ) from error
  return found.devices


def fill_sizes(config: config_lib.Config) -> config_lib.Config:
  """Returns the config with the towers' sizes, as far as files here tell them.

  As `experiment.resolve`, but without any download: where `init` names weights
  of the hub, the config's own sizes stay. A vocabulary size of 0 becomes the
  tokenizer's.

  Raises:
    ValueError: as `experiment.resolve`.
  """
  names = {"image": config.init.image, "text": config.init.text}
  for field, name in names.items():
    if name and not Path(name).exists():
      logging.info("init.%s %r is not here: the config's sizes", field, name)
      names[field] = ""
  model = pretrained.resolve(pretrained.InitConfig(**names), config.model)
  if not model.text.vocab_size:
    tokenize = tokenizer.Tokenizer.from_name(
      config.data.tokenizer, config.data.max_length
    )
    text = dataclasses.replace(model.text, vocab_size=tokenize.vocab_size)
    model = dataclasses.replace(model, text=text)
  return dataclasses.replace(config, model=model)


def estimate(
  config: config_lib.Config,
  topology: str = "",
  pairs_per_device: int | None = None,
  *,
  search: bool = False,
) -> Summary:
  """Returns what a config's step needs on a topology, or on the devices here.

  Args:
    config: of a training.
    topology: as for `devices`.
    pairs_per_device: replaces the config's batch size.
    search: find the largest batch, see `largest_batch`.

  Raises:
    ValueError: if something is unknown or does not go together.
    DoesNotFitError: if the compiler refuses it for lack of memory.
  """
  mesh = sharding.make_mesh(config.mesh, devices(topology))
  config = fill_sizes(config)
  if search:
    return largest_batch(config, mesh, pairs_per_device or 8)
  if pairs_per_device:
    config = _with_pairs(config, mesh, pairs_per_device)
  return compile_step(program_lib.make(config, mesh))[1]


def compile_step(
  program: program_lib.Program,
) -> tuple[jax.stages.Compiled, Summary]:
  """Returns the executable of a program's step, and what it will cost.

  Raises:
    DoesNotFitError: if the compiler refuses it for lack of memory.
  """
  start = time.monotonic()
  traced = program.trace()
  try:
    compiled = traced.lower().compile()
  except jax.errors.JaxRuntimeError as error:
    if "RESOURCE_EXHAUSTED" not in str(error):
      raise
    pairs = program.config.train.batch_size // program.mesh.size
    raise DoesNotFitError(
      f"{pairs} pairs a device do not fit: {str(error).splitlines()[0]}"
    ) from error
  seconds = time.monotonic() - start
  total = flops.count(traced.jaxpr)
  useful = total
  plain = program_lib.plain(program.config)
  if plain != program.config:
    useful = flops.count(program_lib.make(plain, program.mesh).trace().jaxpr)
  return compiled, _summarise(program, compiled, seconds, total, useful)


def largest_batch(
  config: config_lib.Config, mesh: jax.sharding.Mesh, start: int = 8
) -> Summary:
  """Returns the summary at the most pairs a device that fit, a power of two.

  Args:
    config: whose sizes are filled in.
    mesh: of devices whose capacity is known.
    start: pairs a device to try first, a power of two; then up or down.

  Raises:
    ValueError: if `start` is no power of two or the capacity is unknown.
    DoesNotFitError: if not even one pair fits.
  """
  if start < 1 or start & (start - 1):
    raise ValueError(f"pairs_per_device is {start}, expected a power of two")
  best = None
  pairs = start
  while pairs:
    summary = _try(config, mesh, pairs)
    if summary is not None and summary.fits is None:
      raise ValueError(
        f"the memory of a {summary.device_kind} is unknown, expected a GPU or "
        f"one of {', '.join(CHIPS)}"
      )
    fits = summary is not None and summary.fits
    if fits:
      best = summary
    if best is None:
      pairs //= 2  # on the way down, to the first that fits
    elif fits and pairs >= start:
      pairs *= 2
    else:
      return best
  raise DoesNotFitError("not even one pair a device fits")


def _try(config, mesh, pairs) -> Summary | None:
  config = _with_pairs(config, mesh, pairs)
  try:
    _, summary = compile_step(program_lib.make(config, mesh))
  except DoesNotFitError as error:
    logging.info("%s", error)
    return None
  logging.info("%s", summary.line())
  return summary


def _with_pairs(config, mesh, pairs_per_device) -> config_lib.Config:
  train = dataclasses.replace(
    config.train, batch_size=pairs_per_device * mesh.size
  )
  return dataclasses.replace(config, train=train)


def write(summary: Summary, path: str | Path) -> None:
  """Writes the summary as a JSON file."""
  text = json.dumps(summary.to_dict(), indent=2)
  Path(path).write_text(text + "\n", "utf-8")


def _summarise(program, compiled, seconds, total, useful) -> Summary:
  mesh = program.mesh
  device = mesh.devices.flat[0]
  chip = CHIPS.get(device.device_kind)
  capacity = int(chip.memory) if chip else _bytes_limit(mesh)
  memory = compiled.memory_analysis()
  peak = (
    memory.argument_size_in_bytes
    + memory.output_size_in_bytes
    - memory.alias_size_in_bytes
    + memory.temp_size_in_bytes
    + memory.generated_code_size_in_bytes
  )
  counts = hlo.count(compiled.as_text())
  pairs = program.config.train.batch_size // mesh.size
  cycles, pallas = counts.cycles, 0
  if chip and cycles is not None:
    for call in counts.custom_calls:
      floor = max(
        call.flops / chip.flops_per_cycle, call.bytes / chip.bytes_per_cycle
      )
      pallas += round(call.times * floor)
    cycles += pallas
  return Summary(
    device_kind=device.device_kind,
    devices=mesh.size,
    mesh=dict(mesh.shape),
    pairs_per_device=pairs,
    compile_seconds=seconds,
    argument_bytes=memory.argument_size_in_bytes,
    temporary_bytes=memory.temp_size_in_bytes,
    peak_bytes=peak,
    capacity_bytes=capacity,
    fits=peak <= capacity if capacity else None,
    flops=total // mesh.size,
    useful_flops=useful // mesh.size,
    estimated_cycles=cycles,
    pallas_cycles=pallas,
    estimated_cycles_per_pair=cycles / pairs if cycles is not None else None,
    estimated_mfu=(
      useful / mesh.size / (cycles * chip.flops_per_cycle)
      if chip and cycles
      else None
    ),
    collectives=counts.collectives,
    unknown_loops=counts.unknown_loops,
    costliest=hlo.costliest(counts.kernels, 10),
  )


def _bytes_limit(mesh) -> int | None:
  """What jax's allocator may take of a GPU; a CPU states nothing."""
  device = mesh.local_devices[0]
  if device.platform == "cpu":
    return None
  return (device.memory_stats() or {}).get("bytes_limit")
