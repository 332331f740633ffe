"""The cluster's engine: shards made by Apache Beam (extra `beam`).

Its workers must see the source under the same path, and the output's URL.
"""

import dataclasses
import json
import tempfile
from collections.abc import Callable, Sequence

import apache_beam as beam  # pyright: ignore[reportMissingImports]
from apache_beam.options import pipeline_options  # pyright: ignore

from data_prep import shards, store


@dataclasses.dataclass(frozen=True)
class Engine:
  """Makes shards as `engine.run` does, one element of a pipeline each.

  Attributes:
    runner: Beam's name of it, such as "DirectRunner".
    flags: further options of Beam. Tasks, which hold the source's own names,
      travel as files in `--temp_location`, for runners bound the size of a
      pipeline; without it in a temporary directory of this machine. They are
      removed at the end.
  """

  runner: str
  flags: Sequence[str]

  def __call__(
    self,
    tasks: Sequence[shards.Task],
    settings: shards.Settings,
    directory: store.Store,
    report: Callable[[int], None],
  ) -> None:
    options = pipeline_options.PipelineOptions(
      [f"--runner={self.runner}", *self.flags]
    )
    cloud = options.view_as(pipeline_options.GoogleCloudOptions)
    with tempfile.TemporaryDirectory() as local:
      place = store.Store(cloud.temp_location or local)
      names = [f"{directory.name}-{task.name}.task" for task in tasks]
      try:
        for name, task in zip(names, tasks, strict=True):
          place.write_text(name, json.dumps(dataclasses.asdict(task)))
        with beam.Pipeline(options=options) as pipeline:
          _ = (
            pipeline
            | "tasks" >> beam.Create(names)
            | "spread" >> beam.Reshuffle()
            | "make" >> beam.Map(_make_shard, settings, place, directory)
          )
      finally:
        for name in set(names).intersection(place.names()):
          place.remove(name)
    report(sum(len(task.items) for task in tasks))


def _make_shard(
  name: str,
  settings: shards.Settings,
  place: store.Store,
  directory: store.Store,
) -> None:
  task = shards.read_task(place.read_text(name))
  shards.make_shard(task, settings, directory)
