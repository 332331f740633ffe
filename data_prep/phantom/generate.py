"""Draws synthetic patients and writes them as three datasets.

The trees, from disjoint patients: `mimic_cxr` (70 %), `chexpert` (15 %) and
`padchest` (15 %), each as the real download lies on disk.
"""

import functools
import multiprocessing
import os
import sys
import types
from collections.abc import Iterable, Iterator
from concurrent import futures
from pathlib import Path

import cv2
import tqdm

from data_prep.phantom import (
  chexpert,
  contact_sheet,
  mimic_cxr,
  padchest,
  patients,
)

_LAYOUTS: dict[str, types.ModuleType] = {
  "mimic_cxr": mimic_cxr,
  "chexpert": chexpert,
  "padchest": padchest,
}
_CHUNK = 8  # patients sent to a process at a time


def generate(
  output_dir: Path,
  num_patients: int,
  seed: int,
  num_workers: int | None = None,
) -> None:
  """Writes the three trees and `contact_sheet.png` under `output_dir`.

  The tables are written last: a tree without them is an unfinished one.

  Args:
    output_dir: made if absent.
    num_patients: >= 1; six fill every dataset and every split.
    seed: >= 0; equal seeds and numbers of patients give equal bytes.
    num_workers: processes, all usable cores if None; changes no byte.

  Raises:
    ValueError: if a number is out of range, or `output_dir` already holds
      tables of one of the trees.
  """
  if num_patients < 1:
    raise ValueError(f"num_patients is {num_patients}, expected 1 or more")
  if seed < 0:
    raise ValueError(f"seed is {seed}, expected 0 or more")
  if num_workers is None:
    num_workers = os.cpu_count() or 1
  if num_workers < 1:
    raise ValueError(f"num_workers is {num_workers}, expected 1 or more")
  for name in _LAYOUTS:
    folder = output_dir / name
    if folder.is_dir() and any(folder.iterdir()):
      # Of another seed, say: its images would be taken for this one's.
      raise ValueError(
        f"output_dir already holds files in {name}, expected none"
      )
  rows: dict[str, list] = {name: [] for name in _LAYOUTS}
  for name in _LAYOUTS:
    (output_dir / name).mkdir(parents=True, exist_ok=True)
  work = functools.partial(_write_patient, output_dir, seed)
  for dataset, patient_rows in _progress(
    _map(work, num_patients, num_workers), num_patients
  ):
    rows[dataset].append(patient_rows)
  contact_sheet.write(
    output_dir / "contact_sheet.png",
    (patients.draw(seed, index) for index in range(num_patients)),
  )
  for name, layout in _LAYOUTS.items():
    layout.write_tables(output_dir / name, rows[name])


def _write_patient(
  output_dir: Path, seed: int, index: int
) -> tuple[str, object]:
  patient = patients.draw(seed, index)
  layout = _LAYOUTS[patient.dataset]
  return patient.dataset, layout.write_patient(
    output_dir / patient.dataset, patient
  )


def _map(work, num_patients: int, num_workers: int) -> Iterator:
  """Yields `work(index)` for all patients, in order."""
  if num_workers == 1:
    yield from map(work, range(num_patients))
    return
  # A fork would copy locks that the parent's threads hold at that moment.
  context = multiprocessing.get_context("spawn")
  with futures.ProcessPoolExecutor(
    num_workers, context, cv2.setNumThreads, (1,)
  ) as pool:
    yield from pool.map(work, range(num_patients), chunksize=_CHUNK)


def _progress(results: Iterable, total: int) -> Iterator:
  """Passes the results on, with a bar on a terminal and lines elsewhere."""
  if sys.stderr.isatty():
    yield from tqdm.tqdm(results, total=total, unit="patient")
    return
  for done, result in enumerate(results, 1):
    yield result
    if done * 10 // total > (done - 1) * 10 // total:
      print(f"{done}/{total} patients drawn", file=sys.stderr, flush=True)
