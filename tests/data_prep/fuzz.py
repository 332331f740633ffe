"""Mutated DICOM files through the real conversion; not run by pytest.

  python -m tests.data_prep.fuzz --num_files=5000 --seed=0 [--source_dir=DIR]

Every file has to be converted or rejected with a reason, by a worker that
stays alive under its limits. What is converted has to be right, as far as that
can be told:

- bits flipped in the preamble or in a text change nothing at all;
- the stored pixels of native, deflated and RLE files, however mutated, and
  those of the other syntaxes when the codestream was left alone, are those that
  pydicom reads, by other decoders than ours, if it reads the file;
- what has a changed codestream is as large as the header says. More cannot be
  asked of JPEG, which has no checksum.
"""

import argparse
import collections
import dataclasses
import functools
import hashlib
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pydicom
from pydicom import uid

from data_prep import convert, dicom, items, sandbox
from tests.data_prep import dicom_files
from tier_jax.data import records

LIMIT_KIB = 2 * 2**20  # a worker's, of resident memory
MAX_SEED_BYTES = 4 * 2**20
INERT = b"a text of no consequence " * 8
NATIVE = dicom_files.ALL_LOSSLESS[:4]
# Other libraries than the conversion uses.
REFERENCE_PLUGINS = {
  uid.RLELossless: "pydicom",
  uid.JPEGLossless: "gdcm",
  uid.JPEGLosslessSV1: "gdcm",
  uid.JPEGLSLossless: "gdcm",
  uid.JPEG2000Lossless: "gdcm",
}
KINDS = ("flip", "inert", "truncate", "length", "shuffle", "header")


@dataclasses.dataclass(frozen=True)
class Seed:
  """A sound file.

  Attributes:
    data: its bytes.
    name: for the report.
    syntax: transfer syntax, "" if unknown.
    inert: stretches of bytes that mean nothing.
    codestream: where compressed pixels begin, or the end of the file.
  """

  data: bytes
  name: str
  syntax: str
  inert: tuple[tuple[int, int], ...]
  codestream: int


def make_seeds(source_dir: str) -> list[Seed]:
  """Returns synthetic files of every syntax, and real ones if there are."""
  y, x = np.mgrid[0:40, 0:52]
  wave = np.sin(x / 9) + np.cos(y / 7)
  wave = (wave - wave.min()) / np.ptp(wave)
  noise = np.random.default_rng(0).integers(0, 5, wave.shape)
  seeds = []
  for syntax in (*dicom_files.ALL_LOSSLESS, *dicom_files.LOSSY):
    for bits in (8,) if syntax == uid.JPEGBaseline8Bit else (8, 12):
      for number, tags in enumerate(_lookups(bits)):
        signed = number % 2 and syntax not in dicom_files.LOSSY
        pixels = np.rint(wave * 0.9 * 2**bits).astype(np.int32) + noise
        pixels = pixels - 2 ** (bits - 1) if signed else pixels.astype("u2")
        text = dicom_files.element(
          "StudyDescription",
          INERT,
          implicit=syntax == uid.ImplicitVRLittleEndian,
          order=">" if syntax == uid.ExplicitVRBigEndian else "<",
        )
        data = dicom_files.make(
          pixels,
          bits=bits,
          syntax=syntax,
          photometric=f"MONOCHROME{1 + number % 2}",
          first=text,
          **tags,
        )
        inert = [(0, 128)]
        if (at := data.find(INERT)) > 0:
          inert.append((at, at + len(INERT)))
        seeds.append(
          Seed(
            data,
            f"{uid.UID(syntax).name} {bits}",
            syntax,
            tuple(inert),
            _codestream(data, syntax),
          )
        )
  paths = sorted(Path(source_dir).rglob("*")) if source_dir else []
  for path in paths:
    if path.is_file() and 132 < path.stat().st_size < MAX_SEED_BYTES:
      data = path.read_bytes()
      if data[128:132] == b"DICM":
        syntax = pydicom.filereader.read_file_meta_info(path).get(
          "TransferSyntaxUID", ""
        )
        seeds.append(
          Seed(data, path.name, syntax, ((0, 128),), _codestream(data, syntax))
        )
  return seeds


def _lookups(bits: int) -> tuple[dict, ...]:
  table = {
    "LUTDescriptor": [64, 2**bits // 4, 12],
    "LUTData": (np.arange(64) ** 2).tolist(),
  }
  return (
    {"WindowCenter": [2**bits // 3, 2000], "WindowWidth": [2**bits // 2, 9]},
    {"VOILUTSequence": [table]},
    {"ModalityLUTSequence": [table], "VOILUTFunction": "SIGMOID"},
    {"RescaleSlope": "2.5", "RescaleIntercept": "-1024"},
  )


def _codestream(data: bytes, syntax: str) -> int:
  at = data.rfind(b"\xe0\x7f\x10\0OB\0\0\xff\xff\xff\xff")
  return len(data) if syntax in NATIVE or at < 0 else at


def mutate(
  seed: Seed, kind: str, rng: np.random.Generator
) -> tuple[bytes, bool]:
  """Returns a mutated file, and whether its codestream was left alone."""
  data = bytearray(seed.data)
  if kind == "truncate":
    return bytes(data[: rng.integers(len(data))]), False
  if kind in ("flip", "inert", "header"):
    start, stop = 0, len(data)
    if kind == "inert":
      start, stop = seed.inert[rng.integers(len(seed.inert))]
    if kind == "header":
      start, stop = 132, min(seed.codestream, len(data), 4096)
    places = rng.integers(start, stop, rng.integers(1, 9))
    for place in places:
      data[place] ^= 1 << int(rng.integers(8))
    return bytes(data), bool(places.max() < seed.codestream)
  spans = _elements(seed.data)
  if len(spans) < 3:
    return bytes(data), True
  if kind == "length":
    start, value, _ = spans[rng.integers(len(spans))]
    width = 4 if value - start == 12 else 2
    at = value - width
    length = int.from_bytes(data[at:value], "little")
    length = int(
      rng.choice(
        [0, 1, length + 1, length - 1, length * 2, 2**31, 2**32 - 1, 2**16 - 1]
      )
    )
    data[at:value] = (length % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(data), start < seed.codestream
  pieces = [seed.data[start:stop] for start, _, stop in spans]
  first, last = spans[0][0], spans[-1][2]
  one, other = rng.integers(len(pieces), size=2)
  choice = rng.integers(3)
  if choice == 0:
    pieces[one], pieces[other] = pieces[other], pieces[one]
  elif choice == 1:
    pieces.insert(one, pieces[other])
  else:
    del pieces[one]
  return seed.data[:first] + b"".join(pieces) + seed.data[last:], True


def _elements(data: bytes) -> list[tuple[int, int, int]]:
  """Returns (start, value, stop) of the top elements, if written explicitly."""
  spans, at = [], 132
  while at + 12 <= len(data):
    vr = data[at + 4 : at + 6]
    if not vr.isalpha():
      break
    long = vr in (b"OB", b"OW", b"SQ", b"UN", b"UT", b"OF")
    value = at + (12 if long else 8)
    length = int.from_bytes(data[value - (4 if long else 2) : value], "little")
    stop = len(data) if length == 2**32 - 1 else value + length
    if stop > len(data):
      break
    spans.append((at, value, stop))
    at = stop
  return spans


def convert_one(item: items.Item, root: Path) -> convert.Outcome:
  """The real conversion, at full size, and what the process has needed."""
  outcome = convert.convert_item(item, root, dicom.MAX_SIDE, "voi")
  digest = ""
  if outcome.data is not None:
    stored = dicom.read_stored(root / item.image_paths[0], [])
    values = stored.values[stored.pixels & (stored.values.size - 1)]
    digest = _digest(values)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return dataclasses.replace(
    outcome, notes=(digest, str(memory), *outcome.notes)
  )


def read_reference(item: items.Item, root: Path) -> convert.Outcome:
  """What pydicom makes of the file: a digest as reason, or why not."""
  warnings.simplefilter("ignore")
  try:
    dataset = pydicom.dcmread(root / item.image_paths[0])
    syntax = dataset.file_meta.TransferSyntaxUID
    if plugin := REFERENCE_PLUGINS.get(syntax):
      dataset.pixel_array_options(decoding_plugin=plugin)
    elif syntax not in NATIVE:
      return convert.Outcome(None, "")
    if syntax == uid.JPEGLSLossless and dataset.PixelRepresentation:
      # It looks for the sign in the codestream's highest bit, not in that of
      # Bits Stored.
      return convert.Outcome(None, "")
    return convert.Outcome(None, _digest(dataset.pixel_array))
  except Exception:
    return convert.Outcome(None, "")


def _digest(values: np.ndarray) -> str:
  data = values.astype("<i4").tobytes()
  return hashlib.sha256(repr(values.shape).encode() + data).hexdigest()


def convert_all(
  work, paths: Iterable[Path], root: Path
) -> list[convert.Outcome]:
  """Returns the outcome of each file, from sandboxed workers."""
  jobs = [
    items.Item((path.name,), "train", path.name, "s", "p", labels={"Edema": 1})
    for path in paths
  ]
  with sandbox.Sandbox(functools.partial(work, root=root)) as box:
    return list(box.run(jobs))


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument("--num_files", type=int, default=5000)
  parser.add_argument("--seed", type=int, default=0)
  parser.add_argument("--source_dir", default="", help="more seed files")
  flags = parser.parse_args()
  seeds = make_seeds(flags.source_dir)
  print(f"{len(seeds)} seed files")
  with tempfile.TemporaryDirectory() as folder:
    return _fuzz(Path(folder), seeds, flags.num_files, flags.seed)


def _fuzz(root: Path, seeds: list[Seed], num_files: int, number: int) -> int:
  rng = np.random.default_rng(number)
  cases = []
  for at in range(num_files):
    seed = seeds[rng.integers(len(seeds))]
    kind = KINDS[at % len(KINDS)]
    data, kept = mutate(seed, kind, rng)
    path = root / f"{at:06d}.dcm"
    path.write_bytes(data)
    cases.append((path, seed, kind, kept))
  sound = {}
  for at, seed in enumerate(seeds):
    path = root / f"sound{at:04d}.dcm"
    path.write_bytes(seed.data)
    sound[seed] = path
  begin = time.monotonic()
  paths = [*sound.values(), *(path for path, *_ in cases)]
  outcomes = dict(
    zip(paths, convert_all(convert_one, paths, root), strict=True)
  )
  took = time.monotonic() - begin
  references = dict(
    zip(paths, convert_all(read_reference, paths, root), strict=True)
  )
  tally = collections.Counter()
  reasons = collections.Counter()
  checks = collections.Counter()
  faults = []
  memory = 0
  for path, seed, kind, kept in cases:
    outcome = outcomes[path]
    ended = outcome.reason in convert.ENDS
    if not ended:
      memory = max(memory, int(outcome.notes[1]))
    tally[kind, "converted" if outcome.data else "rejected"] += 1
    reasons[outcome.reason or "converted"] += 1
    if not outcome.data:
      if ":" not in outcome.reason or outcome.reason.startswith("error:"):
        faults.append((path.name, seed.name, kind, outcome.reason))
      continue
    reference = references[path].reason
    if kind == "inert":
      checks["unchanged"] += 1
      if not _same_image(outcome, outcomes[sound[seed]]):
        faults.append((path.name, seed.name, kind, "changed"))
    comparable = kept or seed.syntax in (*NATIVE, uid.RLELossless)
    if comparable and reference and ":" not in reference:
      checks["equal to pydicom's"] += 1
      if outcome.notes[0] != reference:
        faults.append((path.name, seed.name, kind, "differs from pydicom's"))
    else:
      checks["size"] += 1
  print(f"{num_files} files in {took:.0f} s, peak RSS {memory / 1024:.0f} MiB")
  ended = sum(reasons[reason] for reason in convert.ENDS)
  print(f"{ended} ended their worker, by a crash or at a limit")
  for (kind, what), count in sorted(tally.items()):
    print(f"  {kind:9} {what:10} {count}")
  for reason, count in reasons.most_common():
    print(f"  {count:6} {reason}")
  for check, count in checks.items():
    print(f"  checked: {check} {count}")
  for fault in faults[:40]:
    print("  FAULT", *fault)
  print(f"{len(faults)} faults")
  return int(bool(faults) or memory > LIMIT_KIB)


def _same_image(one: convert.Outcome, other: convert.Outcome) -> bool:
  first, second = (
    records.decode(outcome.data).image for outcome in (one, other)
  )
  return np.array_equal(first, second)


if __name__ == "__main__":
  sys.exit(main())
