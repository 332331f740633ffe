"""The input path: determinism, sharding, resuming, refusals."""

import json
import time

import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore

from tier_jax.data import loader, records, tokenizer, transforms


def write_dataset(directory, texts, split="train", shards=2):
  """Writes records with the given impressions, and a manifest."""
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
      image = rng.integers(0, 255, (40, 50)).astype(np.uint8)
      record = records.Record(
        image, f"i{j}", f"s{j}", f"p{j}", "frontal", impression=texts[j]
      )
      writer.write(records.encode(record))
    writer.close()
    names[name] = {"records": len(part)}
  manifest["splits"][split] = {"records": len(texts), "shards": names}
  path.write_text(json.dumps(manifest))


@pytest.fixture(scope="module")
def config(tmp_path_factory):
  root = tmp_path_factory.mktemp("data")
  write_dataset(root / "a", [f"Nodule {i}. Clear." for i in range(9)])
  write_dataset(root / "b", ["", "Edema.", "", "No edema.", "Effusion."])
  return loader.DataConfig(
    data_dir=str(root),
    datasets=("a", "b"),
    max_length=12,
    sentence_probability=0.5,
    num_threads=2,
  )


def iterator(config, *, seed=0, index=0, count=1, batch_size=4):
  return loader.train_iterator(
    loader.PairSource(config, "train"),
    config,
    transforms.AugmentConfig(),
    tokenizer.Tokenizer.from_name("bundled", config.max_length),
    image_size=16,
    batch_size=batch_size,
    seed=seed,
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


def test_records_without_a_text_are_left_out(config):
  source = loader.PairSource(config, "train")
  assert len(source) == 9 + 3
  texts = [records.decode(source[i]).impression for i in range(9, 12)]
  assert texts == ["Edema.", "No edema.", "Effusion."]


def test_batches_have_the_promised_form(config):
  batch = next(iterator(config))
  assert batch["image"].shape == (4, 16, 16)
  assert batch["image"].dtype == np.uint8
  assert batch["input_ids"].shape == (4, 12)
  assert batch["attention_mask"].dtype == np.int32
  assert batch["token_mask"].dtype == bool


def test_the_seed_alone_fixes_the_batches(config):
  assert_same(take(iterator(config), 8), take(iterator(config), 8))
  other = take(iterator(config, seed=1), 1)[0]
  assert not np.array_equal(other["image"], next(iterator(config))["image"])


def test_epochs_differ_in_order_and_augmentation(config):
  batches = take(iterator(config), 6)
  first = np.concatenate([b["image"] for b in batches[:3]])
  second = np.concatenate([b["image"] for b in batches[3:]])
  assert not any(np.array_equal(a, b) for a in first for b in second)


def test_resumes_exactly_across_an_epoch(config):
  whole = take(iterator(config), 7)
  first = iterator(config)
  take(first, 2)
  state = json.loads(json.dumps(first.get_state()))
  second = iterator(config)
  second.set_state(state)
  assert_same(take(second, 5), whole[2:])


def test_two_processes_share_the_batch_of_one(config):
  whole = take(iterator(config), 4)
  halves = [take(iterator(config, index=i, count=2), 4) for i in (0, 1)]
  for batch, left, right in zip(whole, *halves, strict=True):
    images = np.concatenate([left["image"], right["image"]])
    assert {x.tobytes() for x in images} == {
      x.tobytes() for x in batch["image"]
    }


def test_eval_batches_are_in_order_and_unaugmented(config):
  source = loader.PairSource(config, "train")
  tokenize = tokenizer.Tokenizer.from_name("bundled", config.max_length)
  batches = list(
    loader.eval_batches(source, config, tokenize, image_size=16, batch_size=5)
  )
  assert len(batches) == 2  # 12 records: the last two fill no batch
  want = transforms.eval_image(records.decode(source[6]).image, 16)
  np.testing.assert_array_equal(batches[1]["image"][1], want)


def test_sampled_sentences_keep_their_order():
  text = "1. One here. 2. Two here. 3. Three here."
  seen = {
    loader.sample_sentences(text, np.random.default_rng(i)) for i in range(60)
  }
  assert {"One here.", "Two here.", "One here. Three here."} <= seen
  assert "One here. Two here. Three here." not in seen
  assert not any(character.isdigit() for s in seen for character in s)
  assert "Two here. One here." not in seen


@pytest.mark.parametrize(
  "sentences",
  [
    ["No edema.", "No effusion."],
    ["no edema.", "no effusion."],
    ["Edema?", "No!", "Effusion"],
    ["Told to Dr. Jones by phone.", "No edema."],
    ["Told to Dr. ___.", "No edema."],
    ["Told to J. Smith and Mrs. A. Roe.", "No edema."],
    ["Since ___.", "___ cm above the carina.", "XXXX is normal."],
    ["Seen at 10 a.m. on ___.", "No edema."],
    ["Seen at 10 a.m.", "No edema."],
    ["A nodule of 2.5 cm.", "It grew by 0.3 cm."],
    ["Right vs. left.", "See e.g. the hilum, approx. 2 cm."],
    ["The C.T. shows a mass.", "See C.T. Chest."],
    ["Fracture of rib No. 3 and no. 4.", "No pneumothorax."],
    ["Effusions: no.", "Heart: normal."],
    ["Grade 2.", "No effusion."],
    ["Vertebra T5.", "No fracture."],
    ["Stable (see above.)", 'Read as "clear."', "No edema."],
    ["Clear..", "Heart normal .", "Normal."],
    ["Cough // ? pneumonia."],
    ["No effusion"],
  ],
  ids=lambda sentences: sentences[0][:24],
)
def test_sentences_are_found_again(sentences):
  assert loader.split_sentences("  ".join(sentences)) == sentences
  assert loader.split_sentences("\n".join(sentences)) == sentences


@pytest.mark.parametrize(
  ("text", "sentences"),
  [
    ("1. Edema. 2. No mass.", ["Edema.", "No mass."]),
    ("1) Edema 2) No mass", ["Edema", "No mass"]),
    ("(1) Edema. (2) No mass.", ["Edema.", "No mass."]),
    ("1.Edema. 2.No mass.", ["Edema.", "No mass."]),
    ("1. Edema 2. No mass", ["Edema", "No mass"]),
    ("2. No mass.", ["No mass."]),
    ("Stable: 1. Edema. 2. Mass.", ["Stable:", "Edema.", "Mass."]),
    ("1. 2.5 cm mass. 2. ___.", ["2.5 cm mass."]),
    ("A lesion of grade 1. No mass.", ["A lesion of grade 1.", "No mass."]),
    ("Compared to 2011. 12 nodules.", ["Compared to 2011.", "12 nodules."]),
    ("Lungs clear.Heart normal.", ["Lungs clear.", "Heart normal."]),
    ("No edema. ... - ___.", ["No edema."]),
    ("", []),
    (" \n ", []),
    ("___.", []),
  ],
)
def test_lists_and_leftovers(text, sentences):
  assert loader.split_sentences(text) == sentences


@pytest.mark.parametrize("unit", ["A. ", "1. ", ". ", "a.A", " ", "(", "no. 1"])
def test_sentences_take_time_in_proportion_to_length(unit):
  """A second, at worst; to copy what was read so far would take minutes."""
  started = time.process_time()
  loader.split_sentences(unit * (2**20 // len(unit)))
  assert time.process_time() - started < 20


def test_text_without_a_sentence_stays_whole():
  assert loader.sample_sentences("___.", np.random.default_rng(0)) == "___."


@pytest.mark.parametrize(
  ("change", "words"),
  [
    ({"data_dir": ""}, "data.data_dir is empty"),
    ({"datasets": ()}, "data.datasets is empty"),
    ({"sections": ("history",)}, "data.sections has 'history'"),
    ({"sentence_probability": 1.5}, "data.sentence_probability is 1.5"),
    ({"num_threads": 0}, "data.num_threads 0"),
  ],
)
def test_bad_config(change, words):
  with pytest.raises(ValueError, match=words):
    loader.DataConfig(**{"data_dir": "data", **change})


def test_one_dataset_with_a_validate_split_is_enough(tmp_path):
  write_dataset(tmp_path / "a", ["Edema."] * 3)
  write_dataset(tmp_path / "b", ["Nodule."] * 3)
  config = loader.DataConfig(data_dir=str(tmp_path), datasets=("a", "b"))
  with pytest.raises(ValueError, match="no records in split 'validate'"):
    loader.PairSource(config, "validate")
  write_dataset(tmp_path / "b", ["Clear."] * 2, split="validate")
  assert len(loader.PairSource(config, "validate")) == 2
  assert len(loader.PairSource(config, "train")) == 6


def test_bad_directories_are_named(config, tmp_path):
  with pytest.raises(ValueError, match=r"nowhere holds no manifest.json"):
    loader.open_split(tmp_path / "nowhere", "train")
  with pytest.raises(ValueError, match=r"no records in split 'test'.*train"):
    loader.open_split(f"{config.data_dir}/a", "test")
  write_dataset(tmp_path / "c", ["x"] * 3)
  next((tmp_path / "c").glob("*.array_record*")).unlink()
  with pytest.raises(ValueError, match="lacks shard x-train"):
    loader.open_split(tmp_path / "c", "train")
  write_dataset(tmp_path / "d", [""] * 3)
  nothing = loader.DataConfig(data_dir=str(tmp_path), datasets=("d",))
  with pytest.raises(ValueError, match="no train record"):
    loader.PairSource(nothing, "train")


def test_bad_batch_sizes_are_named(config):
  with pytest.raises(ValueError, match="batch_size 5 is not a multiple of"):
    iterator(config, batch_size=5, count=2)
  with pytest.raises(ValueError, match="batch_size 13 exceeds the 12"):
    iterator(config, batch_size=13)
