"""Records to batches, beside decoding and warping alone on the same cores.

Records of chest phantoms are made on the spot, as data_prep writes them.
"Decode, warp" is the least that the loader could do: the stored images, in
memory, decoded and augmented by as many threads as there are cores. "OpenCV,
warp" is the same by the usual decoder, which is what others' input paths have
above them. "Batches" come from the loader: read, decoded, augmented, tokenised,
hashed, in threads; "workers" are as many processes, whose start is not counted,
and which do not share an interpreter's lock as the threads of all other cells
do. "Placed" are batches of threads, prefetched to the devices. Files come from
the page cache.
"""

import argparse
import concurrent.futures
import dataclasses
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from absl import flags
from array_record.python import array_record_module  # pyright: ignore

from tier_jax import prefetch, sharding
from tier_jax.benchmarks import data_prep, rounds
from tier_jax.data import (
  loader,
  pair_source,
  png,
  records,
  tokenizer,
  transforms,
)

DISTINCT = 64  # pictures; records name each of them many times
TEXTS = (
  "No acute cardiopulmonary process.",
  "Small left pleural effusion. No pneumothorax.",
  "1. Mild pulmonary edema. 2. Stable cardiomegaly.",
  "Interval placement of an endotracheal tube, whose tip is 4 cm above the "
  "carina. Bibasilar atelectasis. No focal consolidation.",
)
DECODERS = ("decode, warp", "OpenCV, warp")
RATIOS = {
  f"{cell} / {below}": (cell, below)
  for below in DECODERS
  for cell in ("batches", "workers", "placed")
}
# What is asked of an input path whose pictures OpenCV decodes; of its own
# decoder, which is faster, the loader has to keep half.
FLOORS = {
  "batches / decode, warp": 0.5,
  "batches / OpenCV, warp": 0.9,
  "placed / OpenCV, warp": 0.9,
}
table = rounds.table


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  for name, default, text in (
    ("short_side", 256, "pixels of the stored images"),
    ("image_size", 224, "pixels of the batches"),
    ("batch_size", 64, "pairs"),
    ("num_batches", 16, "a cell and round"),
    ("rounds", 7, "in which the cells take turns"),
  ):
    parser.add_argument(
      f"--{name}", type=int, default=default, help=f"{text} (%(default)s)"
    )


def measure(arguments: argparse.Namespace) -> dict:
  """Returns records a second by cell and round, and their ratios.

  Raises:
    ValueError: if a flag is out of range.
  """
  for name in ("short_side", "image_size", "batch_size", "num_batches"):
    if getattr(arguments, name) < 1:
      raise ValueError(f"{name} is {getattr(arguments, name)}, expected >= 1")
  if not flags.FLAGS.is_parsed():
    flags.FLAGS.mark_as_parsed()  # Grain reads its own
  about = rounds.machine()
  with tempfile.TemporaryDirectory(prefix="input_benchmark-") as root:
    write_dataset(
      Path(root) / "phantom",
      {"train": max(arguments.batch_size, 16 * DISTINCT)},
      arguments.short_side,
    )
    bench = _Bench(Path(root), arguments, about["cores"])
    rates = rounds.interleave(
      {
        "decode, warp": lambda: bench.decode_and_warp(png.decode),
        "OpenCV, warp": lambda: bench.decode_and_warp(_by_opencv),
        "batches": lambda: bench.batches(0),
        "workers": lambda: bench.batches(about["cores"]),
        "placed": bench.placed,
      },
      arguments.rounds,
    )
  return {
    "benchmark": "input",
    "about": f"{arguments.short_side} px records to {arguments.image_size} px, "
    f"batches of {arguments.batch_size}, {arguments.rounds} rounds of "
    f"{arguments.num_batches}",
    "machine": about,
    "unit": "records a second",
    "rates": rates,
    **rounds.summarise(rates, RATIOS),
    "floors": FLOORS,
    "notes": {"bytes a record": bench.record_bytes},
  }


def write_dataset(
  directory: Path, splits: Mapping[str, int], short_side: int
) -> None:
  """Writes chest phantoms, always the same.

  Args:
    directory: that is made.
    splits: how many records each has.
    short_side: of the images.
  """
  directory.mkdir(parents=True)
  pictures = [
    (data_prep.draw(i, short_side) >> (data_prep.BITS - 8)).astype(np.uint8)
    for i in range(min(DISTINCT, max(splits.values())))
  ]
  entries = {}
  for split, count in splits.items():
    name = f"phantom-{split}.array_record-00000-of-00001"
    writer = array_record_module.ArrayRecordWriter(
      str(directory / name), "group_size:1,uncompressed"
    )
    for i in range(count):
      record = records.Record(
        image=pictures[i % len(pictures)],
        image_id=f"{i:064x}",
        study_id=f"{i:064x}",
        patient_id=f"{i:064x}",
        view="frontal",
        impression=TEXTS[i % len(TEXTS)],
        labels={"Edema": i % 2, "Support Devices": 1},
      )
      writer.write(records.encode(record))
    writer.close()
    entries[split] = {"records": count, "shards": {name: {"records": count}}}
  manifest = json.dumps({"splits": entries})
  (directory / "manifest.json").write_text(manifest, "utf-8")


class _Bench:
  """The cells; each returns records a second."""

  def __init__(self, root: Path, arguments: argparse.Namespace, cores: int):
    self._config = pair_source.DataConfig(
      data_dir=str(root), datasets=("phantom",)
    )
    self._tokenize = tokenizer.Tokenizer.from_name("bundled", 128)
    self._source = pair_source.PairSource(self._config, "train")
    self._augment = transforms.AugmentConfig()
    self._size = arguments.image_size
    self._batch_size = arguments.batch_size
    self._num_batches = arguments.num_batches
    self._total = self._batch_size * self._num_batches
    self._cores = cores
    self._mesh = sharding.make_mesh(sharding.MeshConfig())
    sharding.check_batch_size(self._batch_size, self._mesh)
    data = [self._source[i] for i in range(min(DISTINCT, len(self._source)))]
    self.record_bytes = round(sum(map(len, data)) / len(data))
    self._images = [png.encode(records.decode(item).image) for item in data]

  def decode_and_warp(self, decode: Callable[[bytes], Any]) -> float:
    def work(places: range) -> None:
      rng = np.random.default_rng(places.start)
      for place in places:
        stored = self._images[place % len(self._images)]
        transforms.train_image(decode(stored), self._size, self._augment, rng)

    step = max(self._batch_size // 4, 1)
    parts = [
      range(start, min(start + step, self._total))
      for start in range(0, self._total, step)
    ]
    with concurrent.futures.ThreadPoolExecutor(self._cores) as pool:
      start = time.perf_counter()
      list(pool.map(work, parts))
      return self._total / (time.perf_counter() - start)

  def batches(self, num_workers: int) -> float:
    iterator = self._iterator(num_workers)
    # Each reads some eight batches ahead.
    count = max(self._num_batches, 16 * num_workers)
    return self._rate(lambda: next(iterator), count)

  def placed(self) -> float:
    batches = prefetch.Prefetcher(self._iterator(0), self._mesh, 2)
    try:
      return self._rate(batches.next, self._num_batches)
    finally:
      batches.close()

  def _iterator(self, num_workers: int):
    config = dataclasses.replace(
      self._config,
      num_workers=num_workers,
      num_threads=1 if num_workers else self._cores,
    )
    return loader.train_iterator(
      self._source,
      config,
      self._augment,
      self._tokenize,
      image_size=self._size,
      batch_size=self._batch_size,
      seed=0,
    )

  def _rate(self, following: Callable[[], dict], count: int) -> float:
    """Returns the rate of `count` batches, after as many.

    By then all threads are at work, and what they had made ahead is used up.
    """
    for _ in range(count):
      following()
    start = time.perf_counter()
    for _ in range(count):
      following()
    seconds = (time.perf_counter() - start) / count
    # Until what is read ahead is there, and the next cell has the cores.
    time.sleep(8 * seconds)
    return self._batch_size / seconds


def _by_opencv(stored: bytes) -> Any:
  data = np.frombuffer(stored, np.uint8)
  return cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
