import base64
import collections
import hashlib
import html.parser
import json
import re

import cv2
import numpy as np
import pytest
from array_record.python import array_record_module  # pyright: ignore

from data_prep import inspection, survey
from tier_jax.data import records

HOSTILE = '<script>alert("x")</script>'
VOID = {"meta", "img", "br", "line", "polygon", "link", "input"}


def make_record(number, **change):
  image = np.full((40 + number % 3, 50), 90, np.uint8)
  image[5:20, 10:30] = 10 * (number % 20)
  mask = np.zeros(image.shape, bool)
  mask[5:20, 10:30] = True
  outlined = number % 4 == 0
  fields = {
    "image": image,
    "image_id": hashlib.sha256(bytes([number])).hexdigest(),
    "study_id": f"study{number // 2}",  # two images a study
    "patient_id": f"patient{number // 2}",
    "view": records.VIEWS[number % 3],
    "findings": f"No effusion ___ on film {number // 2}." * (number % 8 < 6),
    "impression": f"{HOSTILE} pneumonia &c." * (number % 8 < 2),
    "labels": {
      name: value
      for name, value in (("Edema", number % 4 - 1), (HOSTILE, 1))
      if value < 2
    },
    "sex": ("F", "M", "")[number % 3],
    "age_band": ("0-9", "10-19", "90+", "")[number % 4],
    "boxes": ((HOSTILE, (10.0, 5.0, 30.0, 20.0)),) * outlined,
    "masks": (("Edema", mask),) * outlined,
  }
  return records.Record(**(fields | change))


def write_dataset(directory, splits, **manifest):
  directory.mkdir(parents=True)
  stated = {}
  for split, rows in splits.items():
    shards = {}
    for number, part in enumerate((rows[::2], rows[1::2])):
      name = f"some-{split}.array_record-0000{number}-of-00002"
      writer = array_record_module.ArrayRecordWriter(
        str(directory / name), "group_size:1,uncompressed"
      )
      for row in part:
        writer.write(records.encode(row))
      writer.close()
      shards[name] = {"records": len(part), "sha256": "ab"}
    stated[split] = {
      "records": len(rows),
      "studies": len({row.study_id for row in rows}),
      "patients": len({row.patient_id for row in rows}),
      "shards": shards,
    }
  (directory / "manifest.json").write_text(
    json.dumps(
      {
        "dataset": f"some {HOSTILE}",
        "version": "1.0.0",
        "settings": {"short_side": 40, "id_key": "ab", HOSTILE: HOSTILE},
        "splits": stated,
        "rejects": {"dicom:pixels": 7, HOSTILE: 1},
        "filtered": {HOSTILE: 3},
        "notes": {"window:absent": 5},
        "labels": {},
        **manifest,
      }
    )
  )
  with (directory / "rejects.jsonl").open("w") as handle:
    for number in range(7):
      line = {"image_id": f"{number}" * 64, "reason": "dicom:pixels"}
      handle.write(json.dumps(line) + "\n")
    line = {"image_id": HOSTILE, "reason": HOSTILE}
    handle.write(json.dumps(line) + "\n")
  return directory


@pytest.fixture(scope="module")
def rows():
  return {
    "train": [make_record(number) for number in range(30)],
    "test": [make_record(number) for number in range(100, 108)],
  }


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, rows):
  return write_dataset(tmp_path_factory.mktemp("prepared") / "some", rows)


@pytest.fixture(scope="module")
def page(data_dir):
  path = inspection.write(data_dir)
  assert path == data_dir / "inspect.html"
  return path.read_text("utf-8")


class Parser(html.parser.HTMLParser):
  """Collects tags, links and text; checks that elements are nested."""

  def __init__(self):
    super().__init__()
    self.open = []
    self.tags = collections.Counter()
    self.links = []
    self.words = []

  def handle_starttag(self, tag, attrs):
    self.tags[tag] += 1
    self.links += [v for k, v in attrs if k in ("src", "href", "srcset")]
    assert not any(name.startswith("on") for name, _ in attrs)
    if tag not in VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attrs):
    self.tags[tag] += 1

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.words += data.split()


@pytest.fixture(scope="module")
def parsed(page):
  parser = Parser()
  parser.feed(page)
  assert parser.open == []
  return parser


def test_page_runs_and_fetches_nothing(page, parsed):
  assert parsed.tags["script"] == parsed.tags["iframe"] == 0
  assert all(link.startswith("data:image/jpeg") for link in parsed.links)
  assert "default-src 'none'" in page
  assert not re.search(r"https?:|url\(|@import", page)
  # It was planted in labels, boxes, reports, rejects, settings and the name.
  assert page.count("&lt;script&gt;") > 10
  assert len(page) < 3_000_000


def test_page_counts(page, parsed):
  text = " ".join(parsed.words)
  assert "30 images studies 15, patients 15" in text
  assert "8 images studies 4, patients 4" in text
  assert "do not publish" in text
  assert "8 of 46 (17.4%) files were rejected" in text
  # Edema in train: number % 4 - 1 is -1 of 8, 0 of 8, 1 of 7, left out of 7.
  assert "Edema 7 / 8 / 8 / 7 2 / 2 / 2 / 2" in text
  assert "Rows of the tables left out" in text
  assert "window:absent 5" in text


def test_examples_of_rejects_are_few_and_short(parsed):
  text = " ".join(parsed.words)
  shown = ", ".join(str(number) * 16 for number in range(5))
  assert f"dicom:pixels 7 {shown}" in text.replace(" ,", ",")
  assert "5" * 16 not in text
  assert not re.search(r"[0-9a-f]{17}", " ".join(parsed.words))


def test_equal_data_give_equal_pages(data_dir, page, tmp_path):
  output = tmp_path / "new" / "page.html"
  assert inspection.write(data_dir, output) == output
  assert output.read_text("utf-8") == page


def test_survey_counts_every_record(data_dir, rows):
  manifest = json.loads((data_dir / "manifest.json").read_text())
  found = survey.take(data_dir, manifest)
  assert set(found.splits) == set(rows)
  for name, split_rows in rows.items():
    split = found.splits[name]
    studies = {row.study_id: row for row in split_rows}
    assert split.records == len(split_rows)
    assert split.studies == set(studies)
    assert split.textless == sum(
      not (row.findings or row.impression) for row in studies.values()
    )
    for counter, field in (
      (split.views, "view"),
      (split.sexes, "sex"),
      (split.age_bands, "age_band"),
    ):
      assert counter == collections.Counter(
        getattr(row, field) for row in split_rows
      )
    assert split.sizes == collections.Counter(
      row.image.shape[::-1] for row in split_rows
    )
    assert split.labels[HOSTILE] == {1: len(split_rows)}
    outlined = [row for row in split_rows if row.boxes]
    assert split.boxes == {HOSTILE: len(outlined)}
    assert split.masks == {"Edema": len(outlined)}
    assert [
      row.image_id for row in survey.read_at(data_dir, split.outlined)
    ] == [row.image_id for row in split_rows[::2] if row.boxes]
    # "No effusion ___ on film" is five tokens; numbers are not words.
    assert split.words["findings"] == {
      5: sum(bool(row.findings) for row in studies.values())
    }
  with_findings = 12 + 3  # of 15 and 4 studies: number % 8 < 6
  assert found.gaps == with_findings
  assert found.vocabulary["effusion"] == with_findings
  assert found.vocabulary["___"] == 0


def test_facts_agree_with_the_decoded_record():
  for number in range(8):
    data = records.encode(make_record(number))
    facts, record = survey.parse(data), records.decode(data)
    for field in ("image_id", "study_id", "view", *survey.SECTIONS):
      assert getattr(facts, field) == getattr(record, field)
    assert (facts.sex, facts.age_band) == (record.sex, record.age_band)
    assert facts.labels == record.labels
    assert facts.size == record.image.shape[::-1]
    assert facts.boxes == tuple(name for name, _ in record.boxes)
    assert facts.masks == tuple(name for name, _ in record.masks)


def test_outlines_are_drawn(data_dir, page):
  section = page[page.index("Boxes and masks") : page.index("<h2>Labels")]
  tiles = re.findall(r"base64,([^\"]+)", section)
  assert len(tiles) == 8 + 2  # of 8 and 2 outlined
  manifest = json.loads((data_dir / "manifest.json").read_text())
  places = survey.take(data_dir, manifest).splits["train"].outlined
  record = survey.read_at(data_dir, survey.spread(places, 8))[0]
  data = np.frombuffer(base64.b64decode(tiles[0]), np.uint8)
  picture = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(int)
  assert max(picture.shape[:2]) == 256
  scale = 256 / max(record.image.shape)
  x0, y0, _, y1 = (round(value * scale) for value in record.boxes[0][1])
  blue, green, red = picture[(y0 + y1) // 2, x0]
  assert green > blue + 40 and green > red + 40
  spread = picture.max(axis=2) - picture.min(axis=2)
  assert spread[: y0 - 12].max() < 40  # grey where nothing is drawn


@pytest.mark.parametrize("count", [1, 3, 7, 50])
def test_spread_is_even(count):
  places = [("shard", index) for index in range(7)]
  found = [index for _, index in survey.spread(places, count)]
  assert found[0] == 0
  assert len(found) == min(count, 7)
  steps = np.diff(found)
  assert not len(steps) or steps.max() - steps.min() <= 1


def test_quantiles_are_values_that_occur():
  values = np.random.default_rng(0).integers(0, 40, 300)
  counts = collections.Counter(values.tolist())
  for share in (1e-9, 0.1, 0.5, 0.95, 1.0):
    assert survey.quantile(counts, share) == np.quantile(
      values, share, method="inverted_cdf"
    )


def test_pairs_that_look_alike_are_shown(tmp_path, rows):
  directory = write_dataset(tmp_path / "some", rows)
  train, test = ([row.image_id for row in rows[split]] for split in rows)
  lines = [
    {"image_id": one, "other_image_id": other, "distance": distance}
    for one, other, distance in [
      (train[0], test[0], 4),
      *((train[number], test[1], 3) for number in range(1, 6)),
      (train[7], test[7], 0),
      (train[8], "gone", 0),
    ]
  ]
  path = directory / "near_duplicates.jsonl"
  path.write_text("".join(json.dumps(line) + "\n" for line in lines))
  text = inspection.write(directory).read_text("utf-8")
  section = text[text.index("Alike across splits") : text.index("<h2>Labels")]
  # The six of least distance, of which one is not there.
  assert re.findall(r"(\d) of 64 bits", section) == ["0", "3", "3", "3", "3"]
  assert section.count("<img") == 10
  assert section.index(train[7][:16]) < section.index(test[7][:16])


def test_a_set_without_text_or_labels(tmp_path):
  bare = {
    "findings": "",
    "impression": "",
    "labels": {},
    "boxes": (),
    "masks": (),
    "image": np.zeros((3, 9), np.uint8),  # black: no grey curve but at 0
  }
  directory = write_dataset(
    tmp_path / "bare", {"test": [make_record(n, **bare) for n in range(2)]}
  )
  text = inspection.write(directory).read_text("utf-8")
  assert "The records carry none." in text
  assert "The records carry no text." in text
  assert "Boxes and masks" not in text


def test_many_labels_are_folded_away(tmp_path):
  labels = {f"label{number:03d}": 1 for number in range(60)}
  directory = write_dataset(
    tmp_path / "many",
    {"train": [make_record(n, labels=labels) for n in (0, 1)]},
  )
  text = inspection.write(directory).read_text("utf-8")
  assert "20 rarer labels" in text
  assert (
    text.index("label039") < text.index("20 rarer") < text.index("<th>label040")
  )
  assert "label011 and 48 more" in text


def test_checks_of_the_corpus_are_shown(tmp_path, rows):
  directory = write_dataset(
    tmp_path / "some",
    {"test": rows["test"]},
    reports={"vocabulary": 4321},
    near_duplicates=1234,
  )
  text = inspection.write(directory).read_text("utf-8")
  assert "&quot;vocabulary&quot;: 4321" in text
  assert "across splits that look alike: 1,234." in text


def test_what_is_no_dataset_is_refused(tmp_path):
  with pytest.raises(ValueError, match=r"holds no manifest\.json"):
    inspection.write(tmp_path)
  (tmp_path / "manifest.json").write_text("[1]")
  with pytest.raises(ValueError, match="of a prepared dataset"):
    inspection.write(tmp_path)
  assert not (tmp_path / "inspect.html").exists()


@pytest.mark.parametrize(
  "damage",
  ["missing", "short", "flipped", "garbage", "rejects", "near_duplicates"],
)
def test_damaged_data_are_refused(tmp_path, rows, damage):
  directory = write_dataset(tmp_path / "some", {"test": rows["test"]})
  shards = sorted(directory.glob("*array_record*"))
  if damage == "missing":
    shards[1].unlink()
    message = f"shard {shards[1].name} is missing"
  elif damage == "short":
    manifest = json.loads((directory / "manifest.json").read_text())
    about = manifest["splits"]["test"]["shards"][shards[0].name]
    about["records"] += 1
    (directory / "manifest.json").write_text(json.dumps(manifest))
    message = "holds 4 records, expected 5"
  elif damage == "flipped":
    data = bytearray(shards[1].read_bytes())
    data[data.index(b"effusion")] ^= 1
    shards[1].write_bytes(data)
    message = f"shard {shards[1].name} is damaged"
  elif damage == "garbage":
    writer = array_record_module.ArrayRecordWriter(
      str(shards[0]), "group_size:1,uncompressed"
    )
    for _ in range(4):
      writer.write(b"No effusion")
    writer.close()
    message = "record 0 of shard .* cannot be read"
  else:
    (directory / f"{damage}.jsonl").write_text('{"image_id": "a"}\n')
    message = rf"line 1 of {damage}\.jsonl is broken"
  with pytest.raises(ValueError, match=message) as error:
    inspection.write(directory)
  assert "effusion" not in str(error.value)
