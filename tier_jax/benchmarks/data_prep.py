"""DICOM files a second, beside decoding and resizing alone.

DICOMs of chest phantoms with noise, 12 bits in 16, are made on the
spot. "Bare" is a process that does nothing but read a file with pydicom, decode
it on one thread (native pixels by pydicom's own pixel_array, compressed ones by
the decoder that data_prep uses) and shrink what is stored; "least", for native
files, spares it the copies that pixel_array makes: pixels are viewed where
pydicom's parser put them; "grey" is bare with data_prep's own reading and
rendering in pydicom's place; "whole" is `data_prep.build.build`, from the plan
to the finished dataset. "_2" is two
processes side by side. All are measured in turn, round after round, as other
programs may be at work. Two figures are given: the median of the rounds, its
ratios taken within a round, and the best round, that is, the least disturbed.
Many short rounds do better than few long ones on a machine that is shared.
Files come from the page cache. What starts once a run, the first process with
its imports, is reported apart.
"""

import argparse
import contextlib
import dataclasses
import io
import itertools
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pydicom
from pydicom import encaps, uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import pixel_array

from data_prep import build, dicom, images, items
from data_prep.phantom import patients
from tier_jax.benchmarks import rounds

BITS = 12
NOISE = 0.008  # standard deviation, as a share of the range
DISTINCT = 16  # files; a plan names each of them many times
MAX_FILES = 1024  # a shard holds no more
START_S = 300.0  # for a process to be ready
# glibc gives blocks below the largest one freed so far (up to 32 MiB) from its
# heap; larger ones cost a page fault every 4 KiB, each time.
HEAP_BLOCK = 31 * 2**20

# name: transfer syntax, encoder, decoder; native pixels are pydicom's to read.
SYNTAXES: dict[str, tuple[str, Callable, Callable | None]] = {
  "native": (
    uid.ExplicitVRLittleEndian,
    lambda pixels: pixels.astype("<u2").tobytes(),
    None,
  ),
  "jpeg_lossless": (
    uid.JPEGLosslessSV1,
    lambda pixels: imagecodecs.jpeg8_encode(
      pixels, lossless=True, bitspersample=BITS, predictor=1
    ),
    imagecodecs.jpeg8_decode,
  ),
  "jpeg_2000": (
    uid.JPEG2000Lossless,
    lambda pixels: imagecodecs.jpeg2k_encode(
      pixels, level=0, codecformat="J2K", bitspersample=BITS, numthreads=1
    ),
    lambda data: imagecodecs.jpeg2k_decode(data, numthreads=1),
  ),
}

# What is measured in each round: name, kind, processes.
CELLS = (
  ("bare", "bare", 1),
  ("least", "least", 1),
  ("grey", "grey", 1),
  ("whole", "whole", 1),
  ("bare_2", "bare", 2),
  ("least_2", "least", 2),
  ("whole_2", "whole", 2),
)
RATIOS = {
  "whole / bare": ("whole", "bare"),
  "whole_2 / bare_2": ("whole_2", "bare_2"),
  "whole / grey": ("whole", "grey"),
  "whole_2 / whole": ("whole_2", "whole"),
  "bare_2 / bare": ("bare_2", "bare"),
  "whole / least": ("whole", "least"),
  "whole_2 / least_2": ("whole_2", "least_2"),
}


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  parser.add_argument(
    "--syntaxes",
    default=",".join(SYNTAXES),
    help="separated by commas (default: %(default)s)",
  )
  parser.add_argument("--size", type=int, default=2048, help="pixels a side")
  parser.add_argument("--short_side", type=int, default=256)
  parser.add_argument(
    "--num_files",
    type=int,
    help="a process and cell (default: enough for --seconds, at most "
    f"{MAX_FILES})",
  )
  parser.add_argument(
    "--seconds", type=float, default=12.0, help="a cell (default: %(default)s)"
  )
  parser.add_argument(
    "--rounds", type=int, default=3, help="(default: %(default)s)"
  )


def measure(arguments: argparse.Namespace) -> dict:
  """Returns files a second by syntax, cell and round, and their ratios.

  Raises:
    ValueError: if a flag is out of range or names no syntax.
  """
  names = arguments.syntaxes.split(",")
  for name in names:
    if name not in SYNTAXES:
      raise ValueError(f"syntaxes has {name!r}, expected {', '.join(SYNTAXES)}")
  for field, low in (("size", 8), ("short_side", 1), ("rounds", 1)):
    if getattr(arguments, field) < low:
      raise ValueError(
        f"{field} is {getattr(arguments, field)}, expected at least {low}"
      )
  if arguments.num_files is not None and arguments.num_files < 1:
    raise ValueError(f"num_files is {arguments.num_files}, expected at least 1")
  results = {
    **rounds.machine(),
    "size": arguments.size,
    "short_side": arguments.short_side,
    "rounds": arguments.rounds,
    "syntaxes": {},
  }
  with tempfile.TemporaryDirectory(prefix="data_prep_benchmark-") as root:
    bench = _Bench(Path(root), arguments.short_side)
    for name in names:
      _say(f"{name}: making files")
      count = min(DISTINCT, arguments.num_files or DISTINCT)
      bench.paths = make_files(Path(root), name, arguments.size, count)
      bench.name = name
      if not results["syntaxes"]:
        # The first starts the server that all later processes come from.
        results["start_s"] = bench.build_s(1, 1)
        results["one_file_s"] = bench.build_s(1, 1)
      num_files = arguments.num_files
      if num_files is None:
        rate = bench.rate("bare", 1, 8)
        num_files = max(8, min(MAX_FILES, round(rate * arguments.seconds)))
      cells = [cell for cell in CELLS if cell[1] != "least" or name == "native"]
      rates: dict[str, list[float]] = {cell: [] for cell, _, _ in cells}
      for turn in range(arguments.rounds):
        for cell, kind, processes in cells:
          rates[cell].append(bench.rate(kind, processes, num_files))
        shown = ", ".join(f"{cell} {rates[cell][-1]:.1f}" for cell in rates)
        _say(f"{name}, round {turn + 1} of {arguments.rounds}: {shown}")
      results["syntaxes"][name] = {
        "num_files": num_files,
        "megabytes": round(bench.paths[0].stat().st_size / 1e6, 2),
        "rates": rates,
        **rounds.summarise(rates, RATIOS),
      }
      for path in bench.paths:
        path.unlink()
  return results


def table(results: dict) -> str:
  """Returns the table of what `measure` gave."""
  size = results["size"]
  lines = [
    f"{size} x {size} pixels to a shorter side of {results['short_side']}, "
    f"{results['cores']} cores, {results['rounds']} rounds"
  ]
  for title, key, width in (
    ("files a second", "rates", 10),
    ("ratios", "ratios", 18),
  ):
    columns = RATIOS if key == "ratios" else [cell for cell, _, _ in CELLS]
    lines.append("")
    lines.append(
      f"{title:<22}" + "".join(f"{column:>{width}}" for column in columns)
    )
    for name, entry in results["syntaxes"].items():
      lines += [
        f"{name:<15}{kind:<7}"
        + "".join(
          f"{entry[kind][key][column]:>{width}.2f}"
          if column in entry[kind][key]
          else f"{'-':>{width}}"
          for column in columns
        )
        for kind in ("median", "best")
      ]
  lines.append("")
  lines += [
    f"{name}: {entry['num_files']} files a process and cell, of "
    f"{entry['megabytes']} MB"
    for name, entry in results["syntaxes"].items()
  ]
  lines.append(
    f"a build of one file: {results['start_s']:.2f} s the first time in a run "
    f"(not in the rates), {results['one_file_s']:.2f} s from then on"
  )
  return "\n".join(lines)


def make_files(root: Path, name: str, size: int, count: int) -> list[Path]:
  """Writes DICOMs of a syntax and returns their paths.

  Raises:
    ValueError: if one does not come back as it was written, from the bare
      decoder or from data_prep's.
  """
  paths = []
  for number in range(count):
    pixels = draw(number, size)
    path = root / f"{name}-{number}.dcm"
    _write_dicom(path, pixels, name)
    for decoded in (_decode(path, name), dicom.read_stored(path, []).pixels):
      if not np.array_equal(decoded, pixels):
        raise ValueError(f"{name} does not decode to the picture drawn")
    paths.append(path)
  return paths


def draw(number: int, size: int) -> np.ndarray:
  """Returns a chest, (size, size) uint16 below 2**12, always the same."""
  patient = patients.draw(0, number)
  study = patient.studies[0]
  grey, _ = patients.photograph(
    patient.anatomy, study.findings, study.pictures[0]
  )
  grey = cv2.resize(grey, (size, size), interpolation=cv2.INTER_CUBIC)
  rng = np.random.default_rng(number)
  grey += np.float32(NOISE) * rng.standard_normal(grey.shape, np.float32)
  top = 2**BITS - 1
  return np.clip(np.rint(grey * top), 0, top).astype(np.uint16)


def _write_dicom(path: Path, pixels: np.ndarray, name: str) -> None:
  syntax, encode, _ = SYNTAXES[name]
  dataset = Dataset()
  dataset.file_meta = FileMetaDataset()
  dataset.file_meta.TransferSyntaxUID = uid.UID(syntax)
  dataset.file_meta.MediaStorageSOPClassUID = (
    uid.DigitalXRayImageStorageForPresentation
  )
  dataset.file_meta.MediaStorageSOPInstanceUID = uid.UID("2.25.1")
  dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID
  dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID
  dataset.SamplesPerPixel = 1
  dataset.PhotometricInterpretation = "MONOCHROME2"
  dataset.Rows, dataset.Columns = pixels.shape
  dataset.BitsAllocated, dataset.BitsStored = 16, BITS
  dataset.HighBit, dataset.PixelRepresentation = BITS - 1, 0
  dataset.WindowCenter, dataset.WindowWidth = 2 ** (BITS - 1), 0.9 * 2**BITS
  data = encode(pixels)
  native = name == "native"
  dataset.PixelData = data if native else encaps.encapsulate([data])
  dataset["PixelData"].VR = "OW" if native else "OB"
  dataset["PixelData"].is_undefined_length = not native
  dataset.save_as(path, enforce_file_format=True)


def _decode(path: Path, name: str) -> np.ndarray:
  """Returns the stored pixels, with as little ado as pydicom allows."""
  decode = SYNTAXES[name][2]
  if decode is None:
    return pixel_array(path, raw=True)
  data = pydicom.dcmread(path).PixelData
  return decode(encaps.get_frame(data, 0, number_of_frames=1))


@dataclasses.dataclass
class _Bench:
  """Times work on the files at `paths`, which are of the syntax `name`."""

  root: Path
  short_side: int
  paths: list[Path] = dataclasses.field(default_factory=list)
  name: str = ""
  builds: int = 0

  def rate(self, kind: str, processes: int, num_files: int) -> float:
    """Returns files a second, over all processes of `num_files` each."""
    if kind == "whole":
      seconds = self.build_s(processes, num_files)
    else:
      seconds = self._bare_s(kind, processes, num_files)
    return processes * num_files / seconds

  def build_s(self, num_workers: int, num_files: int) -> float:
    """Returns how long a build takes in which each worker has a shard."""
    total = num_workers * num_files
    plan = items.Plan(
      "benchmark",
      self.root,
      [
        items.Item(
          image_paths=(self.paths[number % len(self.paths)].name,),
          split="train",
          image_id=str(number),
          study_id=str(number),
          patient_id=str(number),
          labels={"Edema": 1},
        )
        for number in range(total)
      ],
    )
    self.builds += 1
    output_dir = self.root / "prepared" / str(self.builds)
    start = time.perf_counter()
    with contextlib.redirect_stderr(io.StringIO()):
      manifest = build.build(
        plan,
        output_dir,
        key=bytes(32),
        short_side=self.short_side,
        shard_records=num_files,
        num_workers=num_workers,
      )
    seconds = time.perf_counter() - start
    if manifest["splits"]["train"]["records"] != total:
      raise ValueError(f"{self.name}: rejects {manifest['rejects']}")
    return seconds

  def _bare_s(self, kind: str, processes: int, num_files: int) -> float:
    """Returns the time from the first start to the last end."""
    context = multiprocessing.get_context("forkserver")  # as data_prep does
    barrier = context.Barrier(processes)
    running = []
    for _ in range(processes):
      ours, theirs = context.Pipe()
      process = context.Process(
        target=_work_bare,
        args=(
          theirs,
          barrier,
          self.paths,
          self.name,
          kind,
          num_files,
          self.short_side,
        ),
        daemon=True,
      )
      process.start()
      theirs.close()  # or the process's death would go unnoticed
      running.append((process, ours))
    times = [connection.recv() for _, connection in running]
    for process, _ in running:
      process.join()
    return max(end for _, end in times) - min(start for start, _ in times)


def _work_bare(
  connection: Connection,
  barrier,
  paths: Sequence[Path],
  name: str,
  kind: str,
  num_files: int,
  short_side: int,
) -> None:
  cv2.setNumThreads(1)

  def convert(path: Path) -> np.ndarray:
    if kind == "bare":
      pixels = _decode(path, name)
    elif kind == "least":
      dataset = pydicom.dcmread(path)
      pixels = np.frombuffer(dataset.PixelData, "<u2")
      pixels = pixels.reshape(dataset.Rows, dataset.Columns)
    else:
      pixels = dicom.read_image(path)
    return images.shrink(pixels, short_side)

  np.empty(HEAP_BLOCK, np.uint8)  # or bare would be slow for no reason
  for path in paths[:2]:
    convert(path)
  barrier.wait(START_S)
  # The clock that processes of a machine share.
  start = time.monotonic()
  for path in itertools.islice(itertools.cycle(paths), num_files):
    convert(path)
  connection.send((start, time.monotonic()))


def _say(line: str) -> None:
  print(line, file=sys.stderr, flush=True)
