"""Small datasets of made-up pairs, and their batches."""

import json

import numpy as np
from array_record.python import array_record_module  # pyright: ignore

from tier_jax.data import loader, pair_source, records, tokenizer, transforms


def write_dataset(
  directory, texts, split="train", shards=2, findings="", size=(40, 50)
):
  """Writes records with the given impressions, and a manifest.

  Each two records are of one study.
  """
  directory.mkdir(parents=True, exist_ok=True)
  path = directory / "manifest.json"
  manifest = json.loads(path.read_text()) if path.exists() else {"splits": {}}
  names = {}
  rng = np.random.default_rng(0)
  parts = np.array_split(np.arange(len(texts)), shards)
  for i, part in enumerate(parts):
    name = f"x-{split}.array_record-{i:05d}-of-{shards:05d}"
    writer = array_record_module.ArrayRecordWriter(
      str(directory / name), "group_size:1,uncompressed"
    )
    for j in part:
      image = rng.integers(0, 255, size).astype(np.uint8)
      record = records.Record(
        image=image,
        image_id=f"i{j}",
        study_id=f"s{j // 2}",
        patient_id=f"p{j // 2}",
        view="frontal",
        impression=texts[j],
        findings=findings,
      )
      writer.write(records.encode(record))
    writer.close()
    names[name] = {"records": len(part)}
  manifest["splits"][split] = {"records": len(texts), "shards": names}
  path.write_text(json.dumps(manifest))


def iterator(
  config,
  *,
  seed=0,
  index=0,
  count=1,
  batch_size=4,
  image_size=16,
  second_view=False,
):
  return loader.train_iterator(
    pair_source.PairSource(config, "train"),
    config,
    transforms.AugmentConfig(),
    tokenizer.Tokenizer.from_name("bundled", config.max_length),
    image_size=image_size,
    batch_size=batch_size,
    seed=seed,
    second_view=second_view,
    process_index=index,
    process_count=count,
  )


def take(it, count):
  return [next(it) for _ in range(count)]


def assert_same(left, right):
  for a, b in zip(left, right, strict=True):
    assert a.keys() == b.keys()
    for name in a:
      np.testing.assert_array_equal(a[name], b[name])
