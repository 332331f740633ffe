import gzip

import pytest

from data_prep import labels


def write(tmp_path, data, name="t.csv"):
  path = tmp_path / name
  path.write_bytes(data if isinstance(data, bytes) else data.encode())
  return path


@pytest.mark.parametrize(
  "data",
  [
    "a,b\n1,x\n2,y\n",
    "\ufeffa,b\n1,x\n2,y\n",
    "b,a\r\nx,1\r\ny,2\r\n",
    'a,c,b\n1,"two, with\nline",x\n\n2,,y',
  ],
)
def test_columns_are_read_by_name(tmp_path, data):
  path = write(tmp_path, data)
  expected = [{"a": "1", "b": "x"}, {"a": "2", "b": "y"}]
  assert labels.read_table(path, ("a", "b")) == expected
  assert labels.read_table(path, ("a",), ("b", "z")) == expected


def test_gzip_and_leading_zeros(tmp_path):
  path = write(tmp_path, gzip.compress(b"id\n007\n", mtime=0), "t.csv.gz")
  assert labels.read_table(path, ("id",)) == [{"id": "007"}]


def test_one_column_may_have_no_name(tmp_path):
  path = write(tmp_path, ",a,\n0,1,\n")
  assert labels.read_table(path, ("a",)) == [{"a": "1"}]


@pytest.mark.parametrize(
  ("data", "message"),
  [
    ("", "lacks the column"),
    ("a\n", "lacks the column"),
    ("a,b\n", "no rows"),
    ("a,b,a\n1,2,3\n", "1 column name.* repeated"),
    ("a,b\n1\n", "row 1 has 1 cells, expected 2"),
    ("a,b\n1,2\n1,2,3\n", "row 2 has 3 cells, expected 2"),
    ("a,b\n1,\0\n", "NUL"),
    ('a,b\n1,"open\n', "no CSV"),
    ('a,b\n1,"x"y\n', "no CSV"),
    ("a,b\n1," + "x" * 200_000, "no CSV"),
    ("a,b\n1," + "x" * 2**20, "row of 1048576"),
    (b"a,b\n1,\xff\xfe\n", "not UTF-8"),
    ("a,b\n1,2\n".encode("utf-16"), "not UTF-8"),
    (gzip.compress(b"a,b\n1,2\n", mtime=0), "not UTF-8"),
  ],
)
def test_hostile_tables_are_refused(tmp_path, data, message):
  path = write(tmp_path, data)
  with pytest.raises(ValueError, match=message) as error:
    labels.read_table(path, ("a", "b"))
  assert "t.csv" in str(error.value)
  assert str(tmp_path) not in str(error.value)


def test_broken_gzip_and_missing_files(tmp_path):
  whole = gzip.compress(b"a\n1\n" * 1000)
  path = write(tmp_path, whole[: len(whole) // 2], "t.csv.gz")
  with pytest.raises(ValueError, match="cannot be read"):
    labels.read_table(path, ("a",))
  with pytest.raises(ValueError, match="does not exist"):
    labels.read_table(tmp_path / "none.csv", ("a",))


def test_too_many_rows(tmp_path, monkeypatch):
  monkeypatch.setattr(labels, "MAX_ROWS", 2)
  path = write(tmp_path, "a\n1\n1\n1\n")
  with pytest.raises(ValueError, match="more than 2 rows"):
    labels.read_table(path, ("a",))


def test_official_tables_are_within_the_limits():
  # MIMIC-CXR has 377,110 rows, PadChest's 160,861 take 100 MB.
  assert 2 * 377_110 < labels.MAX_ROWS <= 1_000_000
  assert 2 * 100_000_000 < labels.MAX_TEXT <= 2**28


def test_find_table(tmp_path):
  assert labels.find_table([tmp_path], "t*.csv") is None
  path = write(tmp_path, b"", "t1.csv.gz")
  assert labels.find_table([tmp_path / "none", tmp_path], "t*.csv") == path
  write(tmp_path, b"", "t2.csv")
  with pytest.raises(ValueError, match="2 tables match"):
    labels.find_table([tmp_path], "t*.csv")
  with pytest.raises(ValueError, match="holds no u"):
    labels.require_table([tmp_path], "u.csv")


@pytest.mark.parametrize(
  ("cell", "value"),
  [("1.0", 1), ("1", 1), ("0.0", 0), ("-1.0", -1), (" ", None), ("", None)],
)
def test_label_values(cell, value):
  assert labels.parse_value(cell, "t.csv", 3, "Edema") == value


@pytest.mark.parametrize("cell", ["2", "yes", "nan", "0.5", "=1"])
def test_other_values_are_refused_but_not_shown(cell):
  with pytest.raises(
    ValueError, match=r"row 3 column 'Edema' is none"
  ) as error:
    labels.parse_value(cell, "t.csv", 3, "Edema")
  assert repr(cell) not in str(error.value)


def test_blank_labels_are_left_out():
  cells = {"Edema": "1.0", "Fracture": "", "Pneumonia": "-1.0"}
  assert labels.parse_values(cells, tuple(cells), "t.csv", 1) == {
    "Edema": 1,
    "Pneumonia": -1,
  }


@pytest.mark.parametrize(
  ("cell", "view"),
  [
    ("PA", "frontal"),
    ("AP Supine", "frontal"),
    ("AP_horizontal", "frontal"),
    ("frontal", "frontal"),
    ("LL", "lateral"),
    ("XTABLE LATERAL", "lateral"),
    ("left lateral", "lateral"),
    ("postero-anterior", "frontal"),
    ("AP LLD", "frontal"),
    ("LATERAL", "lateral"),
    ("L", "lateral"),
    ("", "unknown"),
    ("LAO", "unknown"),
    ("COSTAL", "unknown"),
    ("other", "unknown"),
  ],
)
def test_views(cell, view):
  assert labels.parse_view(cell) == view


@pytest.mark.parametrize(
  ("cell", "band"),
  [
    ("67", "60-69"),
    ("067Y", "60-69"),
    ("9", "0-9"),
    ("0", "0-9"),
    ("90", "90+"),
    ("104.0", "90+"),
    ("67.5", "60-69"),
    ("69.99", "60-69"),
    ("67Y", "60-69"),
    ("67 years", "60-69"),
    ("67 Yrs ", "60-69"),
    ("018M", "0-9"),
    ("240M", "20-29"),
    ("030W", "0-9"),
    ("005D", "0-9"),
    ("6 months", "0-9"),
    ("", ""),
    (" ", ""),
    ("412", ""),
    ("-3", ""),
    ("old", ""),
    ("67 mm", ""),
    ("67,5", ""),
    ("\u0666", ""),
  ],
)
def test_age_bands(cell, band):
  assert labels.age_band(cell) == band
  # What is there and is not understood is counted.
  unread = band == "" and cell.strip() != ""
  assert labels.note_age(cell) == (("age:not_read",) if unread else ())


@pytest.mark.parametrize(
  ("cell", "sex", "notes"),
  [
    ("Female", "F", ()),
    ("M", "M", ()),
    ("Unknown", "", ("sex:not_read",)),
    (" ", "", ()),
  ],
)
def test_sex(cell, sex, notes):
  assert labels.parse_sex(cell) == sex
  assert labels.note_sex(cell) == notes


@pytest.mark.parametrize(
  "cell", ["007", "0e12", "2e5a", "a b", "Größe\xa01.png", "1.5", "E+38"]
)
def test_ids_are_kept_as_they_are(cell):
  row = {"id": f" {cell}\t"}
  assert labels.parse_id(row, "id", "t.csv", 1) == cell


@pytest.mark.parametrize(
  ("cell", "words"),
  [
    ("2.38285E+38", "was rounded"),
    ("1e+05", "was rounded"),
    ("a\nb", "control characters"),
    ("a\u2028b", "control characters"),
    ("a\x1bb", "control characters"),
  ],
)
def test_ids_that_are_none(cell, words):
  with pytest.raises(ValueError, match=f"row 3 column 'id' .*{words}") as error:
    labels.parse_id({"id": cell}, "id", "t.csv", 3)
  assert cell not in str(error.value)


def test_numbers():
  row = {"x": " 1.5", "y": "-2", "w": "1e3", "h": "4."}
  assert labels.parse_numbers(row, tuple(row), "t.csv", 1) == [1.5, -2, 1e3, 4]


@pytest.mark.parametrize(
  "cell", ["", "nan", "inf", "1e999", "1_0", "0x1", "\u0661", "1,5", "9" * 30]
)
def test_numbers_that_are_none(cell):
  row = {"x": "1", "y": cell}
  with pytest.raises(ValueError, match="row 2: x, y are not all numbers"):
    labels.parse_numbers(row, ("x", "y"), "t.csv", 2)


@pytest.mark.parametrize(
  ("cell", "notes"),
  [
    ("PA", ()),
    ("", ("view:not_stated",)),
    (" ", ("view:not_stated",)),
    ("LAO", ("view:neither_frontal_nor_lateral",)),
  ],
)
def test_silent_views_are_noted(cell, notes):
  assert labels.note_view(cell) == notes


def test_names_of_a_list(tmp_path):
  path = write(tmp_path, "\ufeffa\r\n\n# no\r b \n", "l.txt")
  assert labels.read_names(path) == ["a", "b"]
