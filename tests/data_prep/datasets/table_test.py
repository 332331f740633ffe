import pytest

from data_prep.datasets import table

CSV = """file,patient,text,Edema,all,view,sex,age,fold
a.png,1,FINDINGS: Clear.,1,Edema|Mass,PA,F,61,train
b.png,1,"No effusion,
stable.",,No Finding,L,M,95,train
c.png,2,,0,,,,,val
,3,x,0,Mass,PA,,,test
d.png,,x,-1,Mass,PA,,,test
"""


def plan(tmp_path, text=CSV, **options):
  path = tmp_path / "t.csv"
  path.write_text(text)
  merged: dict = {"image_column": "file", "text_column": "text"} | options
  return table.plan(tmp_path, path, "ours", table.TableOptions(**merged))


def test_columns(tmp_path):
  made = plan(
    tmp_path,
    label_columns=("Edema",),
    patient_column="patient",
    view_column="view",
    sex_column="sex",
    age_column="age",
    split_column="fold",
  )
  first, second, third = made.items
  assert (first.findings, first.impression) == ("Clear.", "")
  assert (second.findings, second.impression) == ("", "No effusion, stable.")
  assert [item.labels for item in made.items] == [
    {"Edema": 1},
    {},
    {"Edema": 0},
  ]
  assert (second.view, second.sex, second.age_band) == ("lateral", "M", "90+")
  assert third.split == "validate"
  assert [item.notes for item in made.items] == [
    (),
    (),
    ("view:not_stated",),
  ]
  assert first.patient_id == second.patient_id == "1"
  assert first.study_id != second.study_id
  assert made.filtered == {"image:blank": 1, "patient:blank": 1}


@pytest.mark.parametrize(
  ("text", "impression", "lost"),
  [
    ("Chest X-ray: mass (arrow), case 3.",) * 2 + (False,),
    ("CT SCAN: mass.",) * 2 + (False,),
    ("Clear. Electronically signed by A. Reader", "Clear.", False),
    ("HISTORY: Cough.\n\nClear.\nMRN: 00", "Clear.", False),
    ("HISTORY: Cough.", "", True),
    ("Signed by: A. Reader", "", True),
    ("", "", False),
  ],
)
def test_texts_without_findings_and_impression(
  tmp_path, text, impression, lost
):
  made = plan(tmp_path, f'file,text\na.png,"{text}"\n', split="test")
  (item,) = made.items
  assert (item.findings, item.impression) == ("", impression)
  assert ("report:no_findings_or_impression" in item.notes) == lost


def test_without_a_column_of_views_that_is_said(tmp_path):
  made = plan(tmp_path, split="test")
  assert {item.notes for item in made.items} == {("view:not_stated",)}


@pytest.mark.parametrize("column", ["patient", "study", "image"])
def test_ids_that_a_spreadsheet_rounded(tmp_path, column):
  text = f"file,text,{column}\na.png,x,007\nb.png,x,2.38285E+38\n"
  message = f"row 2 column '{column}' is an id that was rounded"
  with pytest.raises(ValueError, match=message):
    plan(tmp_path, text, **{f"{column}_column": column, "split": "test"})
  made = plan(tmp_path, text.replace("E+38", ""), split="test")
  assert made.items[0].image_id == "a.png"


def test_labels_in_one_column(tmp_path):
  made = plan(tmp_path, labels_column="all", split="test")
  # Blank says nothing; what is not listed is absent.
  assert [item.labels for item in made.items] == [
    {"Edema": 1, "Mass": 1, "No Finding": 0},
    {"Edema": 0, "Mass": 0, "No Finding": 1},
    {},
    {"Edema": 0, "Mass": 1, "No Finding": 0},
  ]
  made = plan(
    tmp_path,
    labels_column="all",
    label_names=("Edema", "Mass", "Hernia"),
    split="test",
  )
  assert made.items[1].labels == {"Edema": 0, "Mass": 0, "Hernia": 0}
  with pytest.raises(ValueError, match="row 1 column 'all' holds 1 label"):
    plan(tmp_path, labels_column="all", label_names=("Edema",), split="test")


def test_split_by_patient(tmp_path):
  text = "file,patient,text\n" + "".join(
    f"{image}.png,{image // 4},x\n" for image in range(400)
  )
  made = plan(
    tmp_path,
    text,
    patient_column="patient",
    split_fractions=(0.5, 0.25, 0.25),
    split_seed=4,
  )
  by_patient = {}
  for item in made.items:
    assert by_patient.setdefault(item.patient_id, item.split) == item.split
  assert set(by_patient.values()) == {"train", "validate", "test"}
  assert made.settings["split_seed"] == 4
  assert made.settings["split_fractions"] == (0.5, 0.25, 0.25)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({}, "exactly one of split_column, split and split_fractions"),
    ({"split": "test", "split_column": "fold"}, "exactly one of"),
    ({"split": "valid"}, "split 'valid' is not one of train, validate, test"),
    ({"split_fractions": (0.8, 0.1, 0.1)}, "needs patient_column"),
    ({"split_fractions": (0.8, 0.1)}, "not three numbers"),
    ({"split": "test", "text_column": None}, "none of text_column"),
    (
      {"split": "test", "label_columns": ("a",), "labels_column": "b"},
      "both given",
    ),
    ({"split": "test", "label_names": ("a",)}, "needs labels_column"),
    (
      {"split": "test", "labels_column": "all", "labels_separator": ""},
      "labels_separator is empty",
    ),
    ({"split": "test", "image_column": "path"}, "lacks the column.*'path'"),
    ({"split": "test", "label_columns": ("text",)}, "row 1 column 'text'"),
    ({"split_column": "view"}, "t.csv row 1 column 'view'"),
  ],
)
def test_mistakes(tmp_path, options, message):
  with pytest.raises(ValueError, match=message):
    plan(tmp_path, **options)


@pytest.mark.parametrize("name", ["", "Ours", "a/b", "a-b", "1a"])
def test_names(tmp_path, name):
  (tmp_path / "t.csv").write_text(CSV)
  options = table.TableOptions("file", text_column="text", split="test")
  with pytest.raises(ValueError, match="name"):
    table.plan(tmp_path, tmp_path / "t.csv", name, options)


def test_people_that_are_not_understood_are_counted(tmp_path):
  (tmp_path / "t.csv").write_text(
    "file,note,sex,age\na.png,Clear.,F,67\nb.png,Clear.,X,old\nc.png,C.,,\n"
  )
  plan = table.plan(
    tmp_path,
    tmp_path / "t.csv",
    "ours",
    table.TableOptions(
      image_column="file",
      text_column="note",
      sex_column="sex",
      age_column="age",
      split="test",
    ),
  )
  notes = [item.notes for item in plan.items]
  assert notes == [
    ("view:not_stated",),
    ("view:not_stated", "sex:not_read", "age:not_read"),
    ("view:not_stated",),
  ]


def test_boxes_come_from_a_table_of_their_own(tmp_path):
  (tmp_path / "t.csv").write_text("file,text\na.png,x\nb.png,x\n")
  boxes = tmp_path / "boxes.csv"
  boxes.write_text(
    "name,image,x0,y0,x1,y1\nMass,a.png,1,2,3.5,4\nMass,a.png,0,0,1,1\n"
    "Mass,c.png,1,2,3,4\n"
  )
  options = table.TableOptions("file", "text", split="test")
  made = table.plan(tmp_path, tmp_path / "t.csv", "ours", options, boxes)
  first, second = made.items
  assert first.boxes == (("Mass", (1, 2, 3.5, 4)), ("Mass", (0, 0, 1, 1)))
  assert second.boxes == ()
  assert made.filtered == {"boxes:of_no_planned_image": 1}
  for row in ("a.png,Mass,3,2,1,4", "a.png,,1,2,3,4", ",Mass,1,2,3,4"):
    boxes.write_text(f"image,name,x0,y0,x1,y1\n{row}\n")
    with pytest.raises(ValueError, match="row 1: expected an image, a name"):
      table.plan(tmp_path, tmp_path / "t.csv", "ours", options, boxes)
