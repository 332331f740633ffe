"""Scores and embeddings that another model made, under our protocol.

Two kinds of file, both of hashed ids:

  .csv   one row an image (column image_id) or a study (study_id), one column a
         label of the benchmark, whose number is larger the more likely it is
         present;
  .npz   image_ids (N,), image_embeds (N, D), texts (M,), text_embeds (M, D):
         scored by the very sentences and scoring that our own models get.

They are input from outside: sizes are limited, nothing is unpickled, and an id
that is unknown, missing or there twice, or a number that is not finite, is an
error that counts them. No message shows an id.
"""

import collections
import csv
import dataclasses
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tier_jax.evaluators import digests, zero_shot

MAX_BYTES = 2**33  # of a file, unpacked
MAX_ROWS = 2**21
_UNITS = ("image", "study")
_ARRAYS = ("image_ids", "image_embeds", "texts", "text_embeds")


@dataclasses.dataclass(frozen=True)
class ScoreTable:
  """A CSV file of scores.

  Attributes:
    name, digest: of the file.
    unit: "image" or "study", what its ids name.
    rows, columns: places of ids and of labels in `values`.
    values: (R, L) float32.
  """

  name: str
  digest: str
  unit: str
  rows: Mapping[str, int]
  columns: Mapping[str, int]
  values: np.ndarray

  @property
  def ids(self) -> frozenset[str]:
    return frozenset(self.rows)

  def run(self, evaluator: zero_shot.ZeroShot) -> zero_shot.Scores:
    """Returns the scores of all rows; a study's holds for each of its images.

    Raises:
      ValueError: if a label or a row is missing.
    """
    labels = evaluator.unscored.labels
    missing = [label for label in labels if label not in self.columns]
    if missing:
      raise ValueError(
        f"{self.name} lacks {len(missing)} of {len(labels)} labels of "
        f"{evaluator.benchmark.name}: {', '.join(missing[:5])}"
      )
    rows = [self.rows[i] for i in _wanted(self, evaluator)]
    values = self.values[rows][:, [self.columns[label] for label in labels]]
    return dataclasses.replace(evaluator.unscored, scores=values)


@dataclasses.dataclass(frozen=True)
class Embeddings:
  """An .npz file of embeddings.

  Attributes:
    name, digest: of the file.
    images, texts: places of ids and of sentences in the arrays.
    image_embeds, text_embeds: (N, D) and (M, D) float32 unit rows.
    unit: what its ids name.
  """

  name: str
  digest: str
  images: Mapping[str, int]
  image_embeds: np.ndarray
  texts: Mapping[str, int]
  text_embeds: np.ndarray
  unit: str = "image"

  @property
  def ids(self) -> frozenset[str]:
    return frozenset(self.images)

  def run(self, evaluator: zero_shot.ZeroShot) -> zero_shot.Scores:
    """Returns the scores of all rows.

    Raises:
      ValueError: if a sentence or a row is missing.
    """
    wanted = evaluator.texts()
    missing = [text for text in wanted if text not in self.texts]
    if missing:
      raise ValueError(
        f"{self.name} lacks {len(missing)} of {len(wanted)} sentences of "
        f"{evaluator.benchmark.name}, such as {missing[0]!r}"
      )
    rows = [self.images[i] for i in _wanted(self, evaluator)]
    return evaluator.score(
      self.image_embeds[rows],
      self.text_embeds[[self.texts[text] for text in wanted]],
    )


Predictions = ScoreTable | Embeddings


def read(path: Path) -> Predictions:
  """Returns what a .csv or .npz file holds.

  Raises:
    ValueError: if it is missing, too large, or not as the module says.
  """
  if not path.is_file():
    raise ValueError(f"{path} does not exist, expected a .csv or .npz file")
  if path.suffix == ".csv":
    return _read_table(path)
  if path.suffix == ".npz":
    return _read_embeddings(path)
  raise ValueError(f"{path.name} is neither a .csv nor an .npz file")


def check(
  predictions: Predictions, evaluators: Sequence[zero_shot.ZeroShot]
) -> None:
  """Raises ValueError unless they are predictions for the evaluators, whole.

  They may also be for all rows of `validate`, and for no others.
  """
  known: set[str] = set()
  for evaluator in evaluators:
    benchmark = evaluator.benchmark
    if predictions.unit == "study" and not benchmark.study_level:
      raise ValueError(
        f"{predictions.name} is of studies, but {benchmark.name} of images: "
        "expected the column image_id"
      )
    predictions.run(evaluator)  # for its checks
    known.update(_ids(predictions, evaluator))
    sibling = evaluator.sibling("validate")
    if sibling is not None and covers(predictions, sibling):
      known.update(_ids(predictions, sibling))
  unknown = len(predictions.ids - known)
  if unknown:
    raise ValueError(
      f"{unknown} of {len(predictions.ids)} {predictions.unit} ids are "
      "unknown, expected hashed ids of the benchmark's split, perhaps of "
      "`validate` too"
    )


def covers(predictions: Predictions, evaluator: zero_shot.ZeroShot) -> bool:
  """Returns whether there are predictions for the rows, True or False for all.

  Raises:
    ValueError: if there are some for a part of them.
  """
  wanted = set(_ids(predictions, evaluator))
  there = len(wanted & predictions.ids)
  if 0 < there < len(wanted):
    raise _lacking(len(wanted) - there, predictions.unit, evaluator)
  return there > 0


def write_template(
  directory: Path, evaluators: Sequence[zero_shot.ZeroShot]
) -> list[Path]:
  """Writes what a score table and embeddings are to hold, without a number.

  Args:
    directory: made when absent.
    evaluators: of one benchmark, one a split.

  Returns:
    template_NAME.csv, with a row an image and a column a label, and
    texts_NAME.json, the list of all sentences.
  """
  directory.mkdir(parents=True, exist_ok=True)
  first = evaluators[0]
  name = first.benchmark.name.replace(":", "_")
  table = directory / f"template_{name}.csv"
  with table.open("w", encoding="utf-8", newline="") as file:
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["image_id", *first.unscored.labels])
    for evaluator in evaluators:
      for image_id in evaluator.unscored.image_ids:
        writer.writerow([image_id, *[""] * len(first.unscored.labels)])
  texts = directory / f"texts_{name}.json"
  texts.write_text(json.dumps(first.texts(), indent=2) + "\n", "utf-8")
  return [table, texts]


def _ids(
  predictions: Predictions, evaluator: zero_shot.ZeroShot
) -> tuple[str, ...]:
  rows = evaluator.unscored
  return rows.study_ids if predictions.unit == "study" else rows.image_ids


def _wanted(
  predictions: Predictions, evaluator: zero_shot.ZeroShot
) -> tuple[str, ...]:
  """Returns the id of each row, all of which there are predictions for."""
  wanted = _ids(predictions, evaluator)
  missing = len(set(wanted) - predictions.ids)
  if missing:
    raise ValueError(
      f"{predictions.name}: {_lacking(missing, predictions.unit, evaluator)}"
    )
  return wanted


def _lacking(count, unit, evaluator) -> ValueError:
  benchmark = evaluator.benchmark
  return ValueError(
    f"{count} {unit} ids of {benchmark.name}, split {benchmark.split!r}, are "
    "missing, expected all of them"
  )


def _read_table(path: Path) -> ScoreTable:
  if path.stat().st_size > MAX_BYTES:
    raise ValueError(f"{path.name} is larger than {MAX_BYTES} bytes")
  try:
    with path.open(encoding="utf-8-sig", newline="") as file:
      reader = csv.reader(file, strict=True)
      header = next(reader, [])
      _check_header(path.name, header)
      rows: dict[str, int] = {}
      parts = []
      twice = wrong = 0
      for row in reader:
        if len(row) != len(header):
          raise ValueError(
            f"{path.name} row {len(rows) + 1} has {len(row)} cells, expected "
            f"{len(header)}"
          )
        if len(rows) == MAX_ROWS:
          raise ValueError(f"{path.name} has more than {MAX_ROWS} rows")
        twice += row[0] in rows
        rows[row[0]] = len(rows)
        part = np.array([_number(cell) for cell in row[1:]], np.float32)
        wrong += int((~np.isfinite(part)).sum())
        parts.append(part)
  except UnicodeDecodeError as error:
    raise ValueError(f"{path.name} is not UTF-8 text") from error
  except csv.Error as error:
    raise ValueError(f"{path.name} is no CSV: {error}") from error
  if not rows:
    raise ValueError(f"{path.name} has no rows")
  _check_counts(path.name, twice, wrong)
  return ScoreTable(
    name=path.name,
    digest=digests.of_file(path),
    unit=header[0].removesuffix("_id"),
    rows=rows,
    columns={label: i for i, label in enumerate(header[1:])},
    values=np.stack(parts),
  )


def _check_header(name: str, header: Sequence[str]) -> None:
  ids = [f"{unit}_id" for unit in _UNITS]
  repeated = sum(n > 1 for n in collections.Counter(header).values())
  if not header or header[0] not in ids or len(header) < 2 or repeated:
    raise ValueError(
      f"{name}: expected a header of {' or '.join(ids)} and then labels, each "
      "once"
    )


def _number(cell: str) -> float:
  try:
    return float(cell.replace("_", "?"))  # Python would read 1_0 as 10
  except ValueError:
    return np.nan  # counted with what is not finite


def _read_embeddings(path: Path) -> Embeddings:
  try:
    with zipfile.ZipFile(path) as archive:
      if sum(item.file_size for item in archive.infolist()) > MAX_BYTES:
        raise ValueError(f"it is larger than {MAX_BYTES} bytes")
      for name in _ARRAYS:
        _check_size(archive, f"{name}.npy")
    with np.load(path, allow_pickle=False) as file:
      arrays = {name: file[name] for name in _ARRAYS}
  except Exception as error:  # zipfile, zlib, lzma and numpy have many kinds
    raise ValueError(
      f"{path.name} does not hold the arrays {', '.join(_ARRAYS)}: {error}"
    ) from error
  for names, values in (_ARRAYS[:2], _ARRAYS[2:]):
    rows = len(arrays[names]) if arrays[names].ndim == 1 else -1
    shape, kind = arrays[values].shape, arrays[values].dtype.kind
    if (
      arrays[names].dtype.kind != "U"
      or kind != "f"
      or len(shape) != 2
      or shape[0] != rows
      or 0 in shape
      or shape[1] != arrays["image_embeds"].shape[-1]
    ):
      raise ValueError(
        f"{path.name}: expected {names} (N,) of strings and {values} (N, D) of "
        "floats, N and D above 0 and D the same for images and texts"
      )
    lengths = np.linalg.norm(arrays[values].astype(np.float64), axis=1)
    wrong = int((~(np.isfinite(lengths) & (lengths > 0))).sum())
    _check_counts(path.name, rows - len(set(arrays[names].tolist())), wrong)
    arrays[values] = (arrays[values] / lengths[:, None]).astype(np.float32)
  places = {
    names: {name: i for i, name in enumerate(arrays[names].tolist())}
    for names in ("image_ids", "texts")
  }
  return Embeddings(
    name=path.name,
    digest=digests.of_file(path),
    images=places["image_ids"],
    image_embeds=arrays["image_embeds"],
    texts=places["texts"],
    text_embeds=arrays["text_embeds"],
  )


def _check_size(archive: zipfile.ZipFile, name: str) -> None:
  """Raises ValueError unless an array is as large as its header says.

  numpy would make room for what is said, before it reads.
  """
  with archive.open(name) as file:
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
      shape, _, dtype = np.lib.format.read_array_header_1_0(file)
    elif version == (2, 0):
      shape, _, dtype = np.lib.format.read_array_header_2_0(file)
    else:
      raise ValueError(f"{name} is of version {version}")
    size = archive.getinfo(name).file_size - file.tell()
  if not dtype.itemsize or math.prod(shape) * dtype.itemsize != size:
    raise ValueError(f"{name} is not as large as its header says")


def _check_counts(name: str, twice: int, wrong: int) -> None:
  if twice or wrong:
    raise ValueError(
      f"{name}: {twice} ids stand twice and {wrong} numbers are not finite (of "
      "embeddings, rows that are not or are 0); expected neither"
    )
