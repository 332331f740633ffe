"""Zero-shot evaluation, beside embedding its images alone.

Records of chest phantoms are made on the spot. "Embed" is the image tower on
images that are decoded already. "Score" is a whole run over one benchmark:
records read, decoded, embedded, prompts embedded, scores. "Score, intervals"
also resamples patients, as `launch/eval.py` does.
"""

import argparse
import tempfile
import time
from pathlib import Path

import jax
import numpy as np

from tier_jax import sharding
from tier_jax.benchmarks import devices, rounds
from tier_jax.benchmarks import input as input_benchmark
from tier_jax.data import records, shards, tokenizer, transforms
from tier_jax.evaluators import bootstrap, encoder, metrics, zero_shot
from tier_jax.evaluators.benchmarks import registry
from tier_jax.models import dual_encoder

RATIOS = {
  "score / embed": ("score", "embed"),
  "score, intervals / embed": ("score, intervals", "embed"),
}
table = rounds.table


def add_flags(parser: argparse.ArgumentParser) -> None:
  """Adds the flags of `measure`."""
  devices.add_flags(parser, batch_size=64)
  parser.add_argument(
    "--num_images", type=int, default=128, help="to score (%(default)s)"
  )
  parser.add_argument(
    "--num_resamples",
    type=int,
    default=bootstrap.NUM_RESAMPLES,
    help="of the intervals (%(default)s)",
  )
  parser.add_argument(
    "--short_side", type=int, default=256, help="pixels stored (%(default)s)"
  )


def measure(arguments: argparse.Namespace) -> dict:
  """Returns images a second by cell and round, and their ratios.

  Raises:
    ValueError: if a flag is out of range.
  """
  config = devices.make_config(arguments)
  if arguments.num_images < 2:
    raise ValueError(f"num_images is {arguments.num_images}, expected >= 2")
  count = arguments.num_images
  model = dual_encoder.DualEncoder(config.model)
  encode = encoder.Encoder(
    model,
    dual_encoder.init_variables(model, jax.random.key(0), arguments.max_length),
    tokenizer.Tokenizer.from_name("bundled", arguments.max_length),
    sharding.make_mesh(config.mesh),
    arguments.batch_size,
  )
  benchmark = registry.find("table:phantom")
  with tempfile.TemporaryDirectory(prefix="eval_benchmark-") as root:
    directory = Path(root) / "phantom"
    input_benchmark.write_dataset(
      directory, {benchmark.split: count}, arguments.short_side
    )
    source = shards.open_split(directory, benchmark.split)
    images = np.stack(
      [
        transforms.eval_image(records.decode(data).image, encode.image_size)
        for data in (source[i] for i in range(count))
      ]
    )

    def embed() -> float:
      start = time.perf_counter()
      encode.embed_image_vectors(images)
      return count / (time.perf_counter() - start)

    def score(num_resamples: int) -> float:
      start = time.perf_counter()
      # Made anew: it would keep the images of its first run.
      scores = zero_shot.ZeroShot(benchmark, directory).run(encode)
      metrics.summarise(scores, num_resamples=num_resamples)
      return count / (time.perf_counter() - start)

    embed()
    score(0)
    rates = rounds.interleave(
      {
        "embed": embed,
        "score": lambda: score(0),
        "score, intervals": lambda: score(arguments.num_resamples),
      },
      arguments.rounds,
    )
  return {
    "benchmark": "eval",
    "about": f"{count} images of {arguments.short_side} px, towers "
    f"{arguments.model}, {arguments.dtype}, batches of {arguments.batch_size}, "
    f"{arguments.rounds} rounds",
    "machine": devices.machine(),
    "unit": "images a second",
    "rates": rates,
    **rounds.summarise(rates, RATIOS),
  }
