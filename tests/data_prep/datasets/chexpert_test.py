import gzip
import json
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from data_prep import build, labels, masks, paths
from data_prep.datasets import chexpert

# The official files differ in order.
COLUMNS = labels.CHEXPERT_LABELS[::-1]


def write_table(path, rows, test=False):
  header = ["Study"] if test else ["Path", "Sex", "Age"]
  lines = [",".join([*header, *COLUMNS])]
  for row in rows:
    values = {"Edema": "1.0", "Fracture": "0.0", "Pneumonia": "-1.0"}
    lines.append(",".join([*row, *(values.get(c, "") for c in COLUMNS)]))
  path.parent.mkdir(parents=True, exist_ok=True)
  path.write_text("\n".join(lines) + "\n")


STATED = {"Edema": 1, "Fracture": 0, "Pneumonia": -1}


@pytest.mark.parametrize("folder", ["CheXpert-v1.0", "CheXpert-v1.0-small"])
@pytest.mark.parametrize("inside", [False, True])
def test_train_and_valid(tmp_path, folder, inside):
  for number, name in enumerate(("train", "valid"), 1):
    path = f"{folder}/{name}/patient0000{number}/study1/view1_frontal.jpg"
    row = (path, "Female", "68")
    write_table(tmp_path / folder / f"{name}.csv", [row])
  plan = chexpert.plan(tmp_path / folder if inside else tmp_path)
  assert [item.split for item in plan.items] == ["train", "validate"]
  item = plan.items[0]
  assert item.labels == STATED
  assert (item.view, item.sex, item.age_band) == ("frontal", "F", "60-69")
  assert item.image_paths == ("train/patient00001/study1/view1_frontal.jpg",)
  assert plan.root == tmp_path / folder


def test_sexes_and_ages_that_are_not_read_are_counted(tmp_path):
  path = "train/patient1/study1/view{}_frontal.jpg"
  people = [("Male", "0"), ("Unknown", "old"), ("", "")]
  rows = [(path.format(i), *person) for i, person in enumerate(people)]
  write_table(tmp_path / "train.csv", rows)
  assert [item.notes for item in chexpert.plan(tmp_path).items] == [
    (),
    ("sex:not_read", "age:not_read"),
    (),
  ]


@pytest.mark.parametrize("where", [".", "CheXpert-v1.0"])
def test_labels_of_a_study_hold_for_its_images(tmp_path, where):
  study = tmp_path / "CheXpert-v1.0" / "test" / "patient64741" / "study1"
  study.mkdir(parents=True)
  for name in ("view1_frontal.jpg", "view2_lateral.jpg", "notes.txt"):
    (study / name).touch()
  rows = [
    ("CheXpert-v1.0/test/patient64741/study1",),
    ("CheXpert-v1.0/test/patient64742/study1",),
  ]
  write_table(tmp_path / where / "groundtruth.csv", rows, test=True)
  plan = chexpert.plan(tmp_path)
  # The third is of the study that is not there, which becomes a reject.
  assert [item.view for item in plan.items] == ["frontal", "lateral", "frontal"]
  assert {item.split for item in plan.items} == {"test"}
  assert plan.items[0].study_id == plan.items[1].study_id
  assert all(item.labels == STATED for item in plan.items)


def test_release_in_four_archives(tmp_path):
  tables, first, second, _ = (tmp_path / name for name in chexpert._BATCHES)
  train = "CheXpert-v1.0/train/patient00001/study1/view1_frontal.jpg"
  valid = "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg"
  write_table(tables / "train.csv", [(train, "", "")])
  write_table(tables / "valid.csv", [(valid, "", "")])
  for place in (
    second / "patient00001/study1",
    tables / "valid/patient64541/study1",
  ):
    place.mkdir(parents=True)
    (place / "view1_frontal.jpg").touch()
  plan = chexpert.plan(tmp_path)
  assert plan.root == tmp_path
  for item in plan.items:
    assert paths.locate(plan.root, item.image_paths) is not None
  assert plan.items[0].image_id == "train/patient00001/study1/view1_frontal.jpg"
  first.mkdir()
  (tmp_path / "CheXpert-v1.0-small").mkdir()
  with pytest.raises(ValueError, match="holds several of"):
    chexpert.plan(tmp_path)


NAMES = {
  "val": "patient64541_study1_view1_frontal",
  "test": "patient64741_study1_view1_frontal",
}


@pytest.fixture
def localize(tmp_path):
  """CheXlocalize as it is distributed, with empty images."""
  for split, folder in (("val", "valid"), ("test", "test")):
    path = NAMES[split].replace("_", "/", 2) + ".jpg"
    prefix = "CheXpert-v1.0/" if split == "val" else ""
    write_table(
      tmp_path / "CheXpert" / f"{split}_labels.csv",
      [(f"{prefix}{folder}/{path}", "", "")],
    )
    image = tmp_path / "CheXpert" / split / path
    image.parent.mkdir(parents=True)
    image.touch()
    write_masks(tmp_path, split)
  return tmp_path


def write_masks(root, split, image=None, data=None, **outlines):
  # 2 outside, 3 inside and 7 outside of 4 x 3.
  outlines = outlines or {
    "Airspace Opacity": {"size": [4, 3], "counts": "237"},
    "Edema": {"size": [4, 3], "counts": "<"},
  }
  path = root / "CheXlocalize" / f"gt_segmentations_{split}.json"
  path.parent.mkdir(exist_ok=True)
  content = json.dumps({image or NAMES[split]: outlines})
  path.write_text(content if data is None else data)


def test_chexlocalize_brings_outlines(localize):
  plan = chexpert.plan(localize)
  assert [item.split for item in plan.items] == ["validate", "test"]
  for item in plan.items:
    assert paths.locate(plan.root, item.image_paths) is not None
    ((name, counts, size),) = item.masks  # the empty one is not there
    assert name == "Lung Opacity"
    assert masks.decode_rle(counts, size).T.ravel().tolist() == (
      [False] * 2 + [True] * 3 + [False] * 7
    )
  assert plan.filtered == {}
  assert plan.settings["chexlocalize_masks"]
  write_masks(localize, "test", image="patient1_study1_view1_frontal")
  plan = chexpert.plan(localize)
  assert plan.filtered == {"masks:of_no_image_in_the_tables": 1}
  assert [len(item.masks) for item in plan.items] == [1, 0]


def test_outlines_reach_the_shards(localize, tmp_path_factory):
  rng = np.random.default_rng(0)
  # 60 rows of 40 columns, of which the first 10 are inside.
  rle = {"size": [60, 40], "counts": "0hb0Xh1"}
  drawn = masks.decode_rle(rle["counts"], (60, 40))
  assert (drawn == (np.arange(40) < 10)).all()
  for split in ("val", "test"):
    write_masks(localize, split, Edema=rle)
    path = NAMES[split].replace("_", "/", 2) + ".jpg"
    pixels = rng.integers(0, 256, (60, 40), np.uint8)
    Image.fromarray(pixels).save(localize / "CheXpert" / split / path)
  output = tmp_path_factory.mktemp("out") / "chexpert"
  build.build(chexpert.plan(localize), output, key=bytes(32), short_side=20)
  builder = tfds.builder_from_directory(output)
  for split in ("validate", "test"):
    (example,) = builder.as_data_source(split)  # pyright: ignore
    assert list(example["mask_names"]) == [b"Edema"]
    (mask,) = example["masks"]
    assert mask.shape == example["image"].shape == (30, 20, 1)
    np.testing.assert_array_equal(mask[..., 0], 255 * drawn[::2, ::2])


def test_outlines_are_not_for_small_images(localize, tmp_path):
  shutil.rmtree(tmp_path / "CheXpert")
  path = NAMES["val"].replace("_", "/", 2) + ".jpg"
  write_table(
    tmp_path / "CheXpert-v1.0-small" / "valid.csv",
    [(f"CheXpert-v1.0-small/valid/{path}", "", "")],
  )
  (tmp_path / "CheXlocalize" / "gt_segmentations_test.json").unlink()
  (item,) = chexpert.plan(tmp_path).items
  assert item.masks == ()
  assert item.notes == ("masks:drawn_on_the_full_size_image",)


@pytest.mark.parametrize(
  ("change", "message"),
  [
    ({"data": "[" * 100_000}, "is not JSON"),
    ({"data": "[" * 100}, "is not JSON"),
    ({"data": '{"a": {}, "a": {}}'}, "repeats a key"),
    ({"data": "[]"}, "not one object of images"),
    ({"data": '{"a": 1}'}, "image 1 is not one object"),
    ({"data": '{"a": {"size": ' + "9" * 5000 + "}}"}, "is not JSON"),
    (
      {"data": "\udcff".encode("utf-8", "surrogatepass").decode("latin-1")},
      "JSON",
    ),
    ({"SECRET": {}}, "names an unknown label"),
    ({"Edema": []}, "'Edema' is not of the form"),
    ({"Edema": {"size": [4, 3]}}, "not of the form"),
    ({"Edema": {"size": [4.0, 3], "counts": "237"}}, "not of the form"),
    ({"Edema": {"size": [4, 3, 1], "counts": "237"}}, "not of the form"),
    ({"Edema": {"size": [4, 3], "counts": [2, 3, 7]}}, "not of the form"),
    ({"Edema": {"size": [4, 3], "counts": "236"}}, "do not fill"),
    ({"Edema": {"size": [-4, -3], "counts": "237"}}, "not between 1 and"),
    ({"Edema": {"size": [2**40, 2**40], "counts": "237"}}, "not between"),
  ],
)
def test_hostile_outlines(localize, change, message):
  write_masks(localize, "test", **change)
  with pytest.raises(ValueError, match=message) as error:
    chexpert.plan(localize)
  assert "gt_segmentations_test.json" in str(error.value)
  assert "SECRET" not in str(error.value)
  assert "patient" not in str(error.value)


def test_outlines_are_read_up_to_a_limit(localize, monkeypatch):
  monkeypatch.setattr(chexpert, "MAX_MASK_BYTES", 10)
  with pytest.raises(ValueError, match="is larger than 10 bytes"):
    chexpert.plan(localize)


def test_real_outlines(shared_dir, tmp_path):
  tables = shared_dir / "labels"
  for source in (
    tables / "chexpert" / "valid_sample_from_chexlocalize.csv",
    tables / "chexlocalize" / "gt_segmentations_val.json",
  ):
    name = "valid.csv" if source.suffix == ".csv" else source.name
    (tmp_path / name).write_bytes(source.read_bytes())
  first, second = chexpert.plan(tmp_path).items
  assert [(name, size) for name, _, size in first.masks] == [
    ("Enlarged Cardiomediastinum", (2320, 2828)),
    ("Cardiomegaly", (2320, 2828)),
    ("Lung Opacity", (2320, 2828)),
  ]
  assert [name for name, _, _ in second.masks] == ["Support Devices"]
  # They outline what the label table says is there.
  for item in (first, second):
    assert all(item.labels[name] == 1 for name, _, _ in item.masks)


@pytest.mark.parametrize("table", ["test_labels.csv", "groundtruth.csv"])
def test_either_table_of_the_test_set(tmp_path, table):
  path = "test/patient64741/study1/view1_frontal.jpg"
  if table == "groundtruth.csv":
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    write_table(
      tmp_path / table, [("CheXpert-v1.0/test/patient64741/study1",)], test=True
    )
  else:
    write_table(tmp_path / table, [(path, "", "")])
  (item,) = chexpert.plan(tmp_path).items
  assert (item.split, item.image_id, item.labels) == ("test", path, STATED)


def test_an_image_of_another_split_is_refused(tmp_path):
  path = "CheXpert-v1.0/valid/patient64541/study1/view1_frontal.jpg"
  write_table(tmp_path / "train.csv", [(path, "", "")])
  with pytest.raises(ValueError, match="row 1 .* of another split"):
    chexpert.plan(tmp_path)


@pytest.mark.parametrize(
  "path",
  ["../train/patient1/study1/view1_frontal.jpg", "", "train/view1_frontal.jpg"],
)
def test_odd_paths_are_refused(tmp_path, path):
  write_table(tmp_path / "train.csv", [(path, "", "")])
  with pytest.raises(ValueError, match="row 1 column 'Path'"):
    chexpert.plan(tmp_path)
  write_table(tmp_path / "train.csv", [("test/../../x",)], test=True)
  (tmp_path / "train.csv").rename(tmp_path / "groundtruth.csv")
  with pytest.raises(ValueError, match="row 1 column 'Study'"):
    chexpert.plan(tmp_path)


def test_nothing_there(tmp_path):
  with pytest.raises(ValueError, match=r"expected train.csv"):
    chexpert.plan(tmp_path)


def test_real_tables(shared_dir, tmp_path):
  tables = shared_dir / "labels"
  packed = (tables / "chexpert" / "chexpert_train.csv.gz").read_bytes()
  (tmp_path / "train.csv").write_bytes(gzip.decompress(packed))
  truth = tables / "chexpert_test_set" / "groundtruth.csv"
  (tmp_path / "groundtruth.csv").write_bytes(truth.read_bytes())
  plan = chexpert.plan(tmp_path)
  train = [item for item in plan.items if item.split == "train"]
  test = [item for item in plan.items if item.split == "test"]
  assert (len(train), len(test)) == (223_414, 500)
  # As SOURCE.md counts them.
  for name, count in (
    ("Atelectasis", 153),
    ("Cardiomegaly", 151),
    ("Consolidation", 29),
    ("Edema", 78),
    ("Pleural Effusion", 104),
  ):
    assert sum(item.labels[name] for item in test) == count
