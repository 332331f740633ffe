"""The cluster's engine: shards made by Apache Beam (extra `beam`).

Its workers must see the source under the same path, and the output's URL.
"""

import dataclasses
import json
from collections.abc import Sequence

import apache_beam as beam  # pyright: ignore[reportMissingImports]
from apache_beam.options import pipeline_options  # pyright: ignore

from data_prep import items, shards, store


def run(
  tasks: Sequence[shards.Task],
  settings: shards.Settings,
  directory: store.Store,
  flags: Sequence[str],
) -> None:
  """Makes the shards of all tasks, one element of the pipeline each.

  Args:
    tasks, settings, directory: as `shards.make_shard` takes them.
    flags: of Beam, such as ["--runner=DirectRunner"].
  """
  # Runners bound the size of a pipeline: the tasks travel as files.
  names = [f"{task.name}.task" for task in tasks]
  for name, task in zip(names, tasks, strict=True):
    directory.write_text(name, json.dumps(dataclasses.asdict(task)))
  options = pipeline_options.PipelineOptions(list(flags))
  with beam.Pipeline(options=options) as pipeline:
    _ = (
      pipeline
      | "tasks" >> beam.Create(names)
      | "spread" >> beam.Reshuffle()
      | "make" >> beam.Map(_make_shard, settings, directory)
    )
  for name in names:
    directory.remove(name)


def _make_shard(
  name: str, settings: shards.Settings, directory: store.Store
) -> None:
  fields = json.loads(directory.read_text(name))
  fields["items"] = tuple(_read_item(item) for item in fields["items"])
  shards.make_shard(shards.Task(**fields), settings, directory)


def _read_item(fields: dict) -> items.Item:
  """Returns an item from JSON, which has lists for tuples."""
  shape = fields["box_shape"]
  return items.Item(
    **fields
    | {
      "image_paths": tuple(fields["image_paths"]),
      "report_paths": tuple(fields["report_paths"]),
      "notes": tuple(fields["notes"]),
      "boxes": tuple((name, tuple(box)) for name, box in fields["boxes"]),
      "box_shape": None if shape is None else tuple(shape),
      "masks": tuple(
        (name, counts, tuple(size)) for name, counts, size in fields["masks"]
      ),
    }
  )
