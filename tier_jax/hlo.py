"""Counts from the text of a compiled program: cycles, kernels, collectives.

Reads what `jax.stages.Compiled.as_text` prints, instruction by instruction;
of an instruction only what is counted here.
"""

import collections
import dataclasses
import math
import re
from collections.abc import Iterable, Iterator, Mapping

COLLECTIVES = (
  "all-reduce",
  "all-gather",
  "reduce-scatter",
  "collective-permute",
  "all-to-all",
)

_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
  r"^\s+(?:ROOT )?%?([\w.\-]+) = (.*?)\s?([a-z][\w\-]*)\(([^)]*)(.*)$"
)
_ARRAY = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(
  r"(calls|to_apply|body|condition|true_computation|false_computation)="
  r"%?([\w.\-]+)"
)
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
_COST = re.compile(
  r'"cost_estimate":\{"flops":"(\d+)".*?"bytes_accessed":"(\d+)"'
)
_CHANNEL = re.compile(r"channel_id=(\d+)")
_OP_NAME = re.compile(r'op_name="([^"]*)"')
_LAYER = re.compile(r"((?:block|layer)_)\d+")
_TARGET = re.compile(r'custom_call_target="([^"]*)"')


@dataclasses.dataclass(frozen=True)
class Kernel:
  """An instruction that a device is scheduled to run.

  Attributes:
    name, op_name: the compiler's and jax's name.
    cycles: of all its runs together, by the compiler's estimate.
    times: how often it runs.
  """

  name: str
  op_name: str
  cycles: int
  times: int


@dataclasses.dataclass(frozen=True)
class CustomCall:
  """A hand-written kernel, of which the compiler estimates no cycles.

  Attributes:
    op_name: jax's name.
    flops, bytes: of one run: as its author states them, else no FLOPs and the
      bytes of what it reads and writes.
    times: how often it runs.
  """

  op_name: str
  flops: int
  bytes: int
  times: int


@dataclasses.dataclass(frozen=True)
class Collective:
  """All collectives of a kind.

  Attributes:
    count: runs in a step.
    bytes: sum over the runs of the whole that a device sends from or gathers
      to, the larger of the two; not what crosses the wires.
  """

  count: int
  bytes: int


@dataclasses.dataclass(frozen=True)
class Counts:
  """What one device runs in one call of the program.

  Attributes:
    cycles: estimated: the sum over the entry computation, each loop as its
      body times its trips; None where the compiler gives no estimate.
    kernels: those with an estimate, the costliest first.
    custom_calls: those of Pallas, not in `cycles`.
    collectives: by kind.
    unknown_loops: loops whose trips are not stated; counted as one.
  """

  cycles: int | None
  kernels: tuple[Kernel, ...]
  custom_calls: tuple[CustomCall, ...]
  collectives: Mapping[str, Collective]
  unknown_loops: int


@dataclasses.dataclass(frozen=True)
class _Instruction:
  name: str
  shape: str
  opcode: str
  operands: str
  rest: str


def count(text: str) -> Counts:
  """Returns the counts of an optimised HLO module.

  All branches of a conditional count, as if each of them ran. A fusion counts
  by its own estimate, whatever it holds; collectives are also looked for
  inside, where TPUs put the asynchronous ones.

  Raises:
    ValueError: if the text has no entry computation.
  """
  computations, entry = _parse(text)
  shapes = {
    instruction.name: instruction.shape
    for body in computations.values()
    for instruction in body
  }
  kernels, custom_calls, unknown = [], [], 0
  # An asynchronous collective of a TPU stands in every fusion that it runs
  # beside, under the same channel; elsewhere a channel may serve several.
  found: dict[tuple[str, ...], tuple[str, int, int]] = {}
  for item, times, scheduled, inside in _walk(computations, entry, 1, True, ""):
    kind = item.opcode.removesuffix("-start")
    op_name = _first(_OP_NAME, item.rest) or ""
    if kind in COLLECTIVES:
      key = (inside, item.name)
      if inside.startswith("all-reduce-scatter"):
        kind = "reduce-scatter"
      elif not scheduled:
        key = (kind, item.shape, op_name, _first(_CHANNEL, item.rest) or "")
      before = found.get(key, (kind, 0, 0))[1]
      size = _collective_bytes(item, shapes)
      found[key] = (kind, max(times, before), size)
    if not scheduled:
      continue
    if item.opcode == "while" and not _trips(item, computations):
      unknown += 1
    cycles = _first(_CYCLES, item.rest)
    if cycles is not None:
      kernels.append(Kernel(item.name, op_name, int(cycles) * times, times))
    elif _first(_TARGET, item.rest) == "tpu_custom_call":
      cost = _COST.search(item.rest)
      if cost:
        flops, size = map(int, cost.groups())
      else:
        flops, size = 0, _bytes(item.shape) + _operand_bytes(item, shapes)
      custom_calls.append(CustomCall(op_name, flops, size, times))
  kernels.sort(key=lambda kernel: (-kernel.cycles, kernel.name))
  totals = collections.defaultdict(lambda: Collective(0, 0))
  for kind, times, size in found.values():
    old = totals[kind]
    totals[kind] = Collective(old.count + times, old.bytes + times * size)
  return Counts(
    cycles=sum(kernel.cycles for kernel in kernels) if kernels else None,
    kernels=tuple(kernels),
    custom_calls=tuple(custom_calls),
    collectives=dict(sorted(totals.items())),
    unknown_loops=unknown,
  )


def costliest(kernels: Iterable[Kernel], number: int) -> tuple[Kernel, ...]:
  """Returns the costliest kernels; the layers of a tower go together.

  Those whose jax names differ in a layer's number alone are summed under the
  name of the costliest, the number given as *.
  """
  groups: dict[str, Kernel] = {}
  for kernel in sorted(kernels, key=lambda kernel: -kernel.cycles):
    op_name = _LAYER.sub(r"\1*", kernel.op_name)
    first = groups.get(op_name or kernel.name)
    cycles, times = kernel.cycles, kernel.times
    if first:
      cycles, times = cycles + first.cycles, times + first.times
    groups[op_name or kernel.name] = Kernel(
      first.name if first else kernel.name, op_name, cycles, times
    )
  ranked = sorted(groups.values(), key=lambda kernel: -kernel.cycles)
  return tuple(ranked[:number])


def _parse(text) -> tuple[dict[str, list[_Instruction]], str]:
  computations, entry, body = {}, None, []
  for line in text.splitlines():
    header = _HEADER.match(line)
    if header:
      body = computations.setdefault(header.group(2), [])
      if header.group(1):
        entry = header.group(2)
      continue
    match = _INSTRUCTION.match(line)
    if match:
      body.append(_Instruction(*match.groups()))
  if entry is None:
    raise ValueError("the program's text has no ENTRY computation")
  return computations, entry


def _walk(
  computations, name, times, scheduled, inside
) -> Iterator[tuple[_Instruction, int, bool, str]]:
  """Yields each instruction: runs, whether scheduled, and in what it lies."""
  for item in computations.get(name, ()):
    yield item, times, scheduled, inside
    if item.opcode.endswith("-done"):
      continue  # names again what its start has named
    called = dict(_CALLED.findall(item.rest))
    if item.opcode == "while":
      trips = _trips(item, computations) or 1
      yield from _walk(
        computations, called["body"], times * trips, scheduled, called["body"]
      )
    elif item.opcode in ("call", "conditional"):
      called.update(enumerate(_branches(item.rest)))
      for other in called.values():
        yield from _walk(computations, other, times, scheduled, other)
    elif "calls" in called:
      other = called["calls"]
      yield from _walk(computations, other, times, False, other)


def _branches(rest) -> list[str]:
  names = _first(_BRANCHES, rest) or ""
  return [name.strip().removeprefix("%") for name in names.split(",") if name]


def _trips(item, computations) -> int | None:
  """Trips of a while loop; from the bound in its condition if need be."""
  stated = _first(_TRIPS, item.rest)
  if stated:
    return int(stated)
  condition = dict(_CALLED.findall(item.rest))["condition"]
  bounds = [
    int(other.operands)
    for other in computations.get(condition, ())
    if other.opcode == "constant" and other.shape.startswith("s32[]")
  ]
  # jax counts every scan from 0 up.
  return bounds[0] if len(bounds) == 1 else None


def _collective_bytes(item, shapes) -> int:
  sent, got = _operand_bytes(item, shapes), _bytes(item.shape)
  if item.opcode.endswith("-start") and not item.opcode.startswith("all-red"):
    got -= sent  # such a start returns its operands too
  return max(sent, got)


def _operand_bytes(item, shapes) -> int:
  names = re.findall(r"%([\w.\-]+)", item.operands)
  return sum(_bytes(shapes.get(name, "")) for name in names)


def _bytes(shape: str) -> int:
  total = 0
  for kind, bits, dims in _ARRAY.findall(shape):
    size = math.prod(int(dim) for dim in dims.split(",") if dim)
    # pred takes a byte; types as f8e4m3fn give their bits first.
    total += math.ceil(size * (int(bits) if kind != "pred" else 8) / 8)
  return total


def _first(pattern, text) -> str | None:
  match = pattern.search(text)
  return match.group(1) if match else None
