import csv
import io
import json
import zipfile

import numpy as np
import pytest

from tests.evaluators import datasets
from tier_jax.evaluators import external, results, zero_shot
from tier_jax.evaluators.benchmarks import chexpert, nih_cxr14


@pytest.fixture
def directory(tmp_path):
  """Twelve patients in `test` and six others in `validate`, two images each."""

  def rows(patients):
    return [
      datasets.record(
        patient,
        image=image,
        level=5 * (patient % 10) + image,
        labels={"Edema": patient % 2, "Cardiomegaly": int(patient % 3 > 0)},
      )
      for patient in patients
      for image in range(2)
    ]

  splits = {"test": rows(range(12)), "validate": rows(range(20, 26))}
  return datasets.write(tmp_path / "chexpert", splits)


@pytest.fixture
def evaluator(directory):
  return zero_shot.ZeroShot(chexpert.TEST, directory)


def write_table(path, evaluators, unit="image", seed=0):
  """Writes invented scores, in an order of their own."""
  rng = np.random.default_rng(seed)
  labels = sorted(chexpert.TEST.labels)
  ids = []
  for item in evaluators:
    rows = item.unscored
    ids += rows.image_ids if unit == "image" else sorted(set(rows.study_ids))
  with path.open("w", newline="") as file:
    writer = csv.writer(file)
    writer.writerow([f"{unit}_id", *labels, "of another benchmark"])
    for name in ids[::-1]:
      writer.writerow([name, *rng.normal(size=6).round(3).tolist()])
  return path


def write_embeddings(path, evaluators, encoder, **change):
  """Writes what an encoder gives, its rows in another order and length."""
  images = np.concatenate([item.embed(encoder) for item in evaluators])
  ids = [name for item in evaluators for name in item.unscored.image_ids]
  texts = ["An unused sentence.", *evaluators[0].texts()]
  arrays = {
    "image_ids": np.array(ids)[::-1],
    "image_embeds": 3 * images[::-1],
    "texts": np.array(texts),
    "text_embeds": encoder.embed_texts(texts).text_embeds.astype(np.float64),
  }
  np.savez(path, **(arrays | change))
  return path


def test_scores_of_a_table_are_those_of_its_ids(tmp_path, evaluator):
  path = write_table(tmp_path / "theirs.csv", [evaluator])
  table = external.read(path)
  external.check(table, [evaluator])
  scores = table.run(evaluator)
  with path.open() as file:
    rows = {row["image_id"]: row for row in csv.DictReader(file)}
  for i, name in enumerate(scores.image_ids):
    for k, label in enumerate(scores.labels):
      assert scores.scores[i, k] == np.float32(float(rows[name][label]))
  np.testing.assert_array_equal(scores.truth, evaluator.unscored.truth)


def test_embeddings_score_as_the_model_itself(tmp_path, evaluator):
  encoder = datasets.Encoder()
  path = write_embeddings(tmp_path / "theirs.npz", [evaluator], encoder)
  made = external.read(path)
  external.check(made, [evaluator])
  np.testing.assert_allclose(
    made.run(evaluator).scores, evaluator.run(encoder).scores, atol=1e-6
  )


def test_thresholds_come_from_validation_if_it_is_there(tmp_path, evaluator):
  validate = evaluator.sibling("validate")
  for name, asked in (("both", [evaluator, validate]), ("test", [evaluator])):
    table = external.read(write_table(tmp_path / f"{name}.csv", asked))
    external.check(table, [evaluator])
    out = tmp_path / name
    metrics = results.evaluate([evaluator], table, out, {}, num_resamples=50)
    entry = metrics["benchmarks"]["chexpert"]
    edema = entry["labels"]["Edema"]["operating"]
    if name == "both":
      assert entry["thresholds_from"] == "validate"
      assert 0 <= edema["f1"]["value"] <= 1
      assert entry["calibration"]["method"].startswith("Platt")
    else:
      assert entry["thresholds_from"] is edema is entry["calibration"] is None
    assert entry["scoring"] is None
    assert metrics["digests"]["weights"] is None
    assert len(metrics["digests"]["predictions"]) == 64


def test_a_table_of_studies_has_no_figures_of_images(tmp_path, evaluator):
  path = write_table(tmp_path / "theirs.csv", [evaluator], unit="study")
  table = external.read(path)
  external.check(table, [evaluator])
  metrics = results.evaluate([evaluator], table, tmp_path / "out", {})
  assert list(metrics["benchmarks"]) == ["chexpert_study"]
  assert metrics["benchmarks"]["chexpert_study"]["rows"] == 12
  other = zero_shot.ZeroShot(nih_cxr14.TEST, evaluator.directory)
  with pytest.raises(ValueError, match="of studies, but nih_cxr14 of images"):
    external.check(table, [other])


@pytest.mark.parametrize(
  ("old", "new", "message"),
  [
    ("image_id,", "id,", "expected a header of image_id or study_id"),
    ("Edema", "Atelectasis", "expected a header"),
    ("Edema", "Oedema", "lacks 1 of 5 labels of chexpert: Edema"),
    ("image3-0,", "image3-1,", "1 ids stand twice and 0 numbers"),
    ("image3-0,", "image99-0,", "1 image ids of chexpert, split 'test', are m"),
    ("image11-1,", "image11-1,nan,", "row 1 has 8 cells, expected 7"),
    ("image3-0,", 'image3-0,"', "is no CSV"),
  ],
)
def test_a_wrong_table_is_refused(tmp_path, evaluator, old, new, message):
  path = write_table(tmp_path / "theirs.csv", [evaluator])
  path.write_text(path.read_text().replace(old, new, 1))
  with pytest.raises(ValueError, match=message) as error:
    external.check(external.read(path), [evaluator])
  assert "image3" not in str(error.value)


@pytest.mark.parametrize("cell", ["nan", "inf", "", "1_0", "high", "1e999"])
def test_cells_that_are_no_finite_number_are_counted(tmp_path, evaluator, cell):
  path = write_table(tmp_path / "theirs.csv", [evaluator])
  lines = path.read_text().splitlines()
  for i in (3, 5):
    name, _, *rest = lines[i].split(",")
    lines[i] = ",".join([name, cell, *rest])
  path.write_text("\n".join(lines))
  with pytest.raises(ValueError, match="2 numbers are not finite"):
    external.read(path)


def test_ids_that_nobody_asked_for_are_counted(tmp_path, evaluator):
  path = write_table(tmp_path / "theirs.csv", [evaluator])
  path.write_text(path.read_text() + "x,1,1,1,1,1,1\ny,1,1,1,1,1,1\n")
  with pytest.raises(ValueError, match="2 of 26 image ids are unknown"):
    external.check(external.read(path), [evaluator])
  validate = evaluator.sibling("validate")
  path = write_table(tmp_path / "theirs.csv", [evaluator, validate])
  lines = path.read_text().splitlines()
  path.write_text("\n".join(lines[:1] + lines[3:]))
  with pytest.raises(ValueError, match="2 image ids of .*'validate', are miss"):
    external.check(external.read(path), [evaluator])


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"image_ids": np.array([None] * 24)}, "does not hold the arrays"),
    ({"image_ids": np.arange(24)}, r"image_ids \(N,\) of strings"),
    ({"image_embeds": np.ones((23, 2))}, r"image_ids \(N,\) of strings"),
    ({"image_embeds": np.ones((24, 3))}, "D the same for images and texts"),
    ({"image_embeds": np.zeros((24, 2))}, "24 numbers are not finite"),
    ({"image_embeds": np.full((24, 2), np.inf)}, "24 numbers are not finite"),
    ({"image_embeds": np.array([["a", "b"]] * 24)}, "image_embeds"),
    ({"image_ids": np.array(["a"] * 24)}, "23 ids stand twice"),
    ({"texts": np.array("a")}, r"texts \(N,\) of strings"),
  ],
)
def test_wrong_embeddings_are_refused(tmp_path, evaluator, change, message):
  encoder = datasets.Encoder()
  path = write_embeddings(tmp_path / "x.npz", [evaluator], encoder, **change)
  with pytest.raises(ValueError, match=message):
    external.read(path)


def _header(shape, kind):
  """An .npy file that ends after its header."""
  file = io.BytesIO()
  header = {"descr": kind, "fortran_order": False, "shape": shape}
  np.lib.format.write_array_header_1_0(file, header)
  return file.getvalue()


@pytest.mark.parametrize(
  "content",
  [
    _header((10**15, 10), "<f4"),
    _header((10**15,), "<U0"),
    _header((-4, -6), "<f4") + bytes(96),
    _header((24, 2), "|O") + bytes(24 * 2 * 8),
    _header((24, 2), "<f4") + bytes(191),
    b"\x93NUMPY\x03\0" + bytes(99),
    b"\x93NUMPY\x01\0\x04\0{[(\n",
    b"",
  ],
)
def test_a_header_that_lies_is_refused_before_there_is_room_for_it(
  tmp_path, evaluator, content
):
  path = write_embeddings(tmp_path / "x.npz", [evaluator], datasets.Encoder())
  with zipfile.ZipFile(path) as archive:
    parts = {name: archive.read(name) for name in archive.namelist()}
  with zipfile.ZipFile(path, "w") as archive:
    for name, part in (parts | {"image_embeds.npy": content}).items():
      archive.writestr(name, part)
  with pytest.raises(ValueError, match="does not hold the arrays"):
    external.read(path)


@pytest.mark.parametrize("method", ["STORED", "DEFLATED", "BZIP2", "LZMA"])
def test_a_damaged_archive_is_refused_or_read(tmp_path, evaluator, method):
  encoder = datasets.Encoder()
  path = write_embeddings(tmp_path / "x.npz", [evaluator], encoder)
  with zipfile.ZipFile(path) as archive:
    parts = {name: archive.read(name) for name in archive.namelist()}
  kind = getattr(zipfile, f"ZIP_{method}")
  with zipfile.ZipFile(path, "w", kind) as archive:
    for name, part in parts.items():
      archive.writestr(name, part)
  assert len(external.read(path).ids) == 24
  whole = path.read_bytes()
  rng = np.random.default_rng(0)
  refused = 0
  for _ in range(60):
    content = np.frombuffer(whole, np.uint8).copy()
    places = rng.integers(len(content), size=rng.integers(1, 6))
    content[places] = rng.integers(256, size=len(places))
    path.write_bytes(content.tobytes())
    try:
      external.read(path)
    except ValueError:
      refused += 1
  assert refused > 30


def test_a_sentence_that_was_not_embedded_is_told(tmp_path, evaluator):
  encoder = datasets.Encoder()
  texts = ["A", "B"]
  path = write_embeddings(
    tmp_path / "x.npz",
    [evaluator],
    encoder,
    texts=np.array(texts),
    text_embeds=encoder.embed_texts(texts).text_embeds,
  )
  with pytest.raises(ValueError, match=r"lacks \d+ of \d+ sentences of chexp"):
    external.check(external.read(path), [evaluator])


@pytest.mark.parametrize(
  ("name", "message"),
  [
    ("none.csv", "does not exist"),
    ("scores.txt", "neither a .csv nor an .npz"),
    ("noise.npz", "does not hold the arrays"),
    ("noise.csv", "is not UTF-8"),
    ("empty.csv", "expected a header"),
    ("header.csv", "has no rows"),
  ],
)
def test_other_files_are_refused(tmp_path, name, message):
  noise = np.random.default_rng(0).bytes(999)
  (tmp_path / "scores.txt").write_text("x")
  (tmp_path / "noise.npz").write_bytes(noise)
  (tmp_path / "noise.csv").write_bytes(noise)
  (tmp_path / "empty.csv").write_text("")
  (tmp_path / "header.csv").write_text("image_id,Edema\n")
  with pytest.raises(ValueError, match=message):
    external.read(tmp_path / name)


def test_a_file_that_unpacks_to_more_than_the_limit_is_refused(
  tmp_path, evaluator, monkeypatch
):
  path = write_embeddings(tmp_path / "x.npz", [evaluator], datasets.Encoder())
  table = write_table(tmp_path / "x.csv", [evaluator])
  monkeypatch.setattr(external, "MAX_BYTES", 100)
  for file in (path, table):
    with pytest.raises(ValueError, match="larger than 100 bytes"):
      external.read(file)
  monkeypatch.undo()
  monkeypatch.setattr(external, "MAX_ROWS", 10)
  with pytest.raises(ValueError, match="more than 10 rows"):
    external.read(table)


def test_a_filled_template_is_accepted(tmp_path, evaluator):
  asked = [evaluator, evaluator.sibling("validate")]
  table, texts = external.write_template(tmp_path / "asked", asked)
  assert json.loads(texts.read_text()) == evaluator.texts()
  with table.open(newline="") as file:
    header, *rows = csv.reader(file)
  assert header == ["image_id", *evaluator.unscored.labels]
  assert len(rows) == 36 and set(rows[0][1:]) == {""}
  with pytest.raises(ValueError, match="180 numbers are not finite"):
    external.read(table)
  lines = [",".join(header), *(f"{row[0]},1,2,3,4,5" for row in rows)]
  table.write_text("\n".join(lines))
  external.check(external.read(table), [evaluator])
