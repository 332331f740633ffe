import gzip

import pytest

from data_prep import labels
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
  for name in ("train", "valid"):
    path = f"{folder}/{name}/patient0000{name[0]}/study1/view1_frontal.jpg"
    path = path.replace("0t", "01").replace("0v", "02")
    row = (path, "Female", "68")
    write_table(tmp_path / folder / f"{name}.csv", [row])
  plan = chexpert.plan(tmp_path / folder if inside else tmp_path)
  assert [item.split for item in plan.items] == ["train", "validate"]
  item = plan.items[0]
  assert item.labels == STATED
  assert (item.view, item.sex, item.age_band) == ("frontal", "F", "60-69")
  assert item.image_paths == ("train/patient00001/study1/view1_frontal.jpg",)
  assert plan.root == tmp_path / folder


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
