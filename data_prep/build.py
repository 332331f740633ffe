"""A plan of images to a prepared dataset: shards, rejects, manifest.

On this machine nothing stands at the output before all of it is done: the
build happens in a directory beside it, which takes its place at the end. At a
URL it happens in place, and the manifest, without which nobody reads a
dataset, comes last. Either way a build that was killed goes on where it was.
"""

import contextlib
import dataclasses
import fcntl
import functools
import hashlib
import json
import os
import sys
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_prep import (
  corpus,
  dicom,
  duplicates,
  engine,
  ids,
  items,
  progress,
  reports,
  shards,
  splits,
  store,
)
from data_prep import manifest as manifest_lib

# Lies in a directory from the start of a build to its end, and tells it from
# someone's own; then it also says which file was renamed to what.
_BEGUN = "begun.json"


def build(
  plan: items.Plan,
  output_dir: str | Path,
  *,
  key: bytes,
  short_side: int = 256,
  recipe: str = "voi",
  shard_records: int = 1024,
  num_workers: int = 1,
  limit: int | None = None,
  runner: str = "local",
  beam_flags: Sequence[str] = (),
) -> dict:
  """Writes the dataset and returns its manifest.

  The result depends on the plan, the files, the key, the settings and the
  software alone, to the byte; neither on the workers, the engine or the time,
  nor on how often it was killed.

  Args:
    plan: what to convert.
    output_dir: a path, or a URL that fsspec knows. A complete dataset on this
      machine is replaced; one that this very plan gave is left as it is,
      unless an image that was missing has come, or one that could not be read
      may now be. Images that have changed since are not noticed.
    key: for the ids, from `ids.load_key`.
    short_side: pixels; images with a larger shorter side are reduced.
    recipe: one of `dicom.RECIPES`.
    shard_records: items a shard, at most.
    num_workers: processes.
    limit: items a split, at most; None for all.
    runner: "local", or the runner of Apache Beam that makes the shards.
    beam_flags: further options of Beam.

  Raises:
    ValueError: if the plan is empty, puts a patient, a study or an image in
      two splits or an image in twice; if pixels are the same in two splits or
      no image could be converted; if the reports look wrong; if `output_dir`
      holds something that is not a dataset; or if a setting is not one.
    OSError: if the output cannot be written.
  """
  for field, value in (
    ("short_side", short_side),
    ("shard_records", shard_records),
    ("num_workers", num_workers),
    ("limit", 1 if limit is None else limit),
  ):
    if value < 1:
      raise ValueError(f"{field} is {value}, expected at least 1")
  if recipe not in dicom.RECIPES:
    raise ValueError(
      f"recipe {recipe!r} is not one of {', '.join(dicom.RECIPES)}"
    )
  if beam_flags and runner == "local":
    raise ValueError("beam_flags are given, expected a runner of Beam too")
  run = functools.partial(engine.run, num_workers=num_workers)
  if runner != "local":
    run = _import_beam().Engine(runner, beam_flags)
  output = store.Store(output_dir)
  check_plan(plan)
  _check_place(plan, output, key, limit)
  plan, report_notes = reports.fill(_hash_and_limit(plan, key, limit))
  statistics = corpus.check(_texts(plan))
  print(statistics.format(), file=sys.stderr)
  settings = shards.Settings(plan.root, short_side, recipe)
  tasks = _make_tasks(plan.items, shard_records)
  about = {
    "dataset": plan.name,
    "version": manifest_lib.VERSION,
    "settings": {
      **plan.settings,
      "short_side": short_side,
      "recipe": recipe,
      "shard_records": shard_records,
      "limit": limit,
      "id_key": ids.fingerprint(key),
    },
    "software": shards.software(),
    "digest": _digest(plan, report_notes, tasks, settings),
  }
  manifest = manifest_lib.read(output)
  if manifest and _is_current(manifest, about, tasks, settings, output):
    print("the dataset is complete already: nothing to do", file=sys.stderr)
    _clean(output)
    output.forget_old()
    return manifest
  work = output.sibling(".{}.part") if output.is_local else output
  with _begin(work):
    results = _make_shards(tasks, settings, work, run)
    rejected = list(plan.rejected)
    for result in results:
      rejected += result.rejects.items()
    rejected.sort()
    accepted = _check_results(tasks, results, rejected, output)
    near = duplicates.find_near(accepted)
    manifest = about | manifest_lib.summarise(
      plan, tasks, results, rejected, report_notes
    )
    manifest["near_duplicates"] = len(near)
    manifest["reports"] = statistics.to_dict()
    _finish(work, tasks, results, manifest, rejected, near)
    if output.is_local:
      work.move_to(output)
    _clean(output)
  return manifest


def check_plan(plan: items.Plan) -> None:
  """Raises ValueError if the plan is empty or lets something leak."""
  if not plan.items:
    raise ValueError(
      f"{plan.name} has no image to convert; left out: "
      f"{dict(sorted(plan.filtered.items()))}"
    )
  if not plan.root.is_dir():
    raise ValueError(f"image directory {plan.root.name!r} does not exist")
  kept = [item for item in plan.items if not item.denied]
  for kind in ("patient", "study", "image"):
    splits.check_disjoint(
      kind, ((getattr(item, f"{kind}_id"), item.split) for item in kept)
    )
  repeated = len(plan.items) - len({item.image_id for item in plan.items})
  if repeated:
    raise ValueError(
      f"{repeated} row(s) of {plan.name} repeat an image that stands in "
      "another row, expected one row an image"
    )


def _import_beam() -> types.ModuleType:
  try:
    from data_prep import beam_engine
  except ImportError:
    raise ValueError(
      "runner is not local, which needs the extra `beam`"
    ) from None
  return beam_engine


def _check_place(
  plan: items.Plan, output: store.Store, key: bytes, limit: int | None
) -> None:
  if output.is_local and os.path.ismount(output.local_path):
    raise ValueError(
      f"output_dir {output.name!r} is a mount point, which cannot be replaced; "
      "name a directory in it"
    )
  if output.is_local and plan.root.resolve().is_relative_to(output.local_path):
    raise ValueError(
      "source_dir lies in output_dir, which would be replaced; name another"
    )
  manifest = manifest_lib.read(output)
  if manifest is None:
    if not output.is_empty() and _BEGUN not in output.names():
      raise ValueError(
        f"output_dir {output.name!r} is not empty and not a prepared dataset; "
        "name another"
      )
  elif manifest["dataset"] != plan.name:
    raise ValueError(
      f"output_dir {output.name!r} holds the dataset {manifest['dataset']!r}, "
      f"not {plan.name!r}; name another"
    )
  elif manifest["settings"].get("id_key") != ids.fingerprint(key):
    raise ValueError(
      f"output_dir {output.name!r} holds ids of another key; give that one as "
      "id_key_file, or name another directory"
    )
  elif limit and not manifest["settings"].get("limit"):
    raise ValueError(
      f"output_dir {output.name!r} holds the whole dataset, which limit "
      f"{limit} would replace; name another"
    )


def _is_current(
  manifest: Mapping[str, Any],
  about: Mapping[str, Any],
  tasks: Iterable[shards.Task],
  settings: shards.Settings,
  output: store.Store,
) -> bool:
  """Says whether the output is what this build would give."""
  if {name: manifest.get(name) for name in about} != json.loads(
    json.dumps(about)
  ):
    return False
  names = set(output.names())
  if not all(
    name in names and output.size(name) == shard["bytes"]
    for split in manifest["splits"].values()
    for name, shard in split["shards"].items()
  ):
    return False
  rejects = map(json.loads, output.read_text(manifest_lib.REJECTS).splitlines())
  reasons = {reject["image_id"]: reject["reason"] for reject in rejects}
  return all(
    shards.is_final(item, reasons[item.image_id], settings)
    for task in tasks
    for item in task.items
    if item.image_id in reasons
  )


def _texts(plan: items.Plan) -> Iterator[str]:
  """Yields the text of each study once."""
  seen = set()
  for item in plan.items:
    if item.study_id not in seen and not item.denied:
      seen.add(item.study_id)
      yield f"{item.findings} {item.impression}".strip()


def _hash_and_limit(
  plan: items.Plan, key: bytes, limit: int | None
) -> items.Plan:
  """Returns the plan with hashed ids, in the order of the shards."""

  def hash_id(kind: str, raw_id: str) -> str:
    return ids.hash_id(key, plan.name, kind, raw_id)

  hashed = [
    dataclasses.replace(
      item,
      image_id=hash_id("image", item.image_id),
      study_id=hash_id("study", item.study_id),
      patient_id=hash_id("patient", item.patient_id),
    )
    for item in plan.items
  ]
  # By hash: neighbours in a shard are then strangers, and the order of the
  # tables leaves no trace.
  hashed.sort(key=lambda item: item.image_id)
  kept = []
  for split in splits.SPLITS:
    kept += [item for item in hashed if item.split == split][:limit]
  rejected = ((hash_id("image", id_), reason) for id_, reason in plan.rejected)
  return dataclasses.replace(plan, items=kept, rejected=tuple(rejected))


def _make_tasks(
  queue: Sequence[items.Item], shard_records: int
) -> list[shards.Task]:
  """Cuts each split into stretches: a shard's bytes are its items' alone."""
  tasks = []
  for split in splits.SPLITS:
    of_split = [item for item in queue if item.split == split]
    tasks += [
      shards.Task(split, index, tuple(of_split[start : start + shard_records]))
      for index, start in enumerate(range(0, len(of_split), shard_records))
    ]
  return tasks


def _digest(
  plan: items.Plan,
  report_notes: Mapping[str, int],
  tasks: Iterable[shards.Task],
  settings: shards.Settings,
) -> str:
  left_out = [sorted(plan.filtered.items()), sorted(report_notes.items())]
  parts = [json.dumps([*left_out, sorted(plan.rejected)])]
  parts += [task.digest(settings) for task in tasks]
  return hashlib.sha256("\n".join(parts).encode()).hexdigest()


@contextlib.contextmanager
def _begin(work: store.Store) -> Iterator[None]:
  """Marks a directory as being built, by this run alone if it is local."""
  if not work.is_local:
    if manifest_lib.NAME in work.names():
      raise ValueError(
        f"output_dir {work.name!r} holds another dataset; remove it, or name "
        "another"
      )
    if _BEGUN not in work.names():
      work.write_text(_BEGUN, "{}")
    yield
    return
  work.local_path.mkdir(parents=True, exist_ok=True)
  path = work.local_path.with_name(f"{work.name}.lock")
  with path.open("w") as handle:
    try:
      fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
      # The one who had it may have removed it before it was this run's.
      ours = os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except (BlockingIOError, FileNotFoundError):
      ours = False
    if not ours:
      raise ValueError(
        f"output_dir: another run is writing {work.name!r}; wait for it"
      )
    try:
      if _BEGUN not in work.names():
        work.write_text(_BEGUN, "{}")
      yield
    finally:
      path.unlink()


def _make_shards(
  tasks: Sequence[shards.Task],
  settings: shards.Settings,
  work: store.Store,
  run: Callable[..., None],
) -> list[shards.Result]:
  """Returns the results of all tasks, doing those that are not done."""
  # A run that was killed while it gave the shards their last names.
  try:
    renamed = json.loads(work.read_text(_BEGUN))
  except ValueError:  # cut short by a loss of power
    renamed = {}
  names = set(work.names())
  for name, final in renamed.items():
    if final in names:
      work.rename(final, name)
  work.write_text(_BEGUN, "{}")
  expected = {_BEGUN} | {
    name for task in tasks for name in (task.result_name, task.file_name)
  }
  work.keep_only(expected)
  done = {task.name: shards.read_result(task, settings, work) for task in tasks}
  todo = [task for task in tasks if done[task.name] is None]
  if len(todo) < len(tasks):
    print(
      f"going on: {len(tasks) - len(todo)} of {len(tasks)} shards are done",
      file=sys.stderr,
    )
  if todo:
    with progress.Counter(sum(len(task.items) for task in todo)) as counter:
      run(todo, settings, work, report=counter.add)
  results = []
  for task in tasks:
    result = done[task.name] or shards.read_result(task, settings, work)
    if result is None:
      raise ValueError(
        f"shard {task.name} was not written as it should be; do all workers "
        "have the same software?"
      )
    results.append(result)
  return results


def _check_results(
  tasks: Sequence[shards.Task],
  results: Sequence[shards.Result],
  rejected: Sequence[tuple[str, str]],
  output: store.Store,
) -> list[duplicates.Image]:
  """Returns all stored images.

  Raises:
    ValueError: if there are none, or if one is in two splits.
  """
  accepted = [
    duplicates.Image(image_id, task.split, *known)
    for task, result in zip(tasks, results, strict=True)
    for image_id, known in result.images.items()
  ]
  if not accepted:
    denied = sum(bool(item.denied) for task in tasks for item in task.items)
    raise ValueError(
      f"none of the {sum(len(task.items) for task in tasks)} images could be "
      f"converted, {denied} of them denied: "
      f"{manifest_lib.tally(reason for _, reason in rejected)}"
    )
  if equal := duplicates.find_equal(accepted):
    place = output.sibling("{}.duplicates")
    # With those that are denied already, for it may be given in their stead.
    denied = [
      item.image_id for task in tasks for item in task.items if item.denied
    ]
    lines = sorted({*equal, *denied})
    place.write_text("deny_list.txt", "\n".join(lines) + "\n")
    raise ValueError(
      f"{len(equal)} image(s) have the pixels of an image in another split; "
      f"their hashed ids are in {place.name}/deny_list.txt beside output_dir: "
      "run again with it as --deny_list, which does over only their shards"
    )
  return accepted


def _finish(
  work: store.Store,
  tasks: Sequence[shards.Task],
  results: Sequence[shards.Result],
  manifest: Mapping[str, Any],
  rejected: Iterable[tuple[str, str]],
  near: Iterable[tuple[str, str, int]],
) -> None:
  """Names the shards and writes what lies beside them, the manifest last."""
  written = [
    task.file_name
    for task, result in zip(tasks, results, strict=True)
    if result.records
  ]
  final = [
    name for split in manifest["splits"].values() for name in split["shards"]
  ]
  names = dict(zip(written, final, strict=True))
  work.write_text(_BEGUN, json.dumps(names))
  for name, final_name in names.items():
    work.rename(name, final_name)
  manifest_lib.write(work, manifest, rejected, near)


def _clean(output: store.Store) -> None:
  """Removes what only the building needed."""
  done = [
    name
    for name in output.names()
    if name == _BEGUN or shards.RESULT_NAME.fullmatch(name)
  ]
  for name in done:
    output.remove(name)
