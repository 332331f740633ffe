"""Tables made to break their reader: each is read right or refused in words.

No message may hold what a cell holds: the cells say SECRET where they can.
"""

import gzip
import os
import time
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from data_prep import build, convert, labels
from data_prep.datasets import padchest, table


def pack(data: bytes) -> bytes:
  """Returns gzip's form without the time, so that all workers collect alike."""
  return gzip.compress(data, mtime=0)


PLAIN = "a,b\n1,SECRET\n"
ROW = {"a": "1", "b": "SECRET"}
MAX_SECONDS = 20
MAX_MEMORY = 2**26

# name -> (bytes, rows that are read).
READABLE = {
  "byte-order mark": (b"\xef\xbb\xbf" + PLAIN.encode(), [ROW]),
  "CRLF": (PLAIN.replace("\n", "\r\n").encode(), [ROW]),
  "lone CR": (PLAIN.replace("\n", "\r").encode(), [ROW]),
  "mixed line ends": (b"a,b\r1,SECRET\r\n1,SECRET\n", [ROW, ROW]),
  "no line end": (PLAIN.strip().encode(), [ROW]),
  "blank lines": (b"a,b\n\n\r\n1,SECRET\n\n", [ROW]),
  "columns swapped": (b"b,a\nSECRET,1\n", [ROW]),
  "blanks around columns": (b" a , b \n1,SECRET\n", [ROW]),
  "columns without a name": (b",a,b,,\n0,1,SECRET,,\n0,1,SECRET\n", [ROW, ROW]),
  "quoted newline": (
    b'a,b\n1,"two\r\nlines, ""quoted"""\n',
    [{"a": "1", "b": 'two\r\nlines, "quoted"'}],
  ),
  "line ends that only Unicode knows": (
    "a,b\n1,x\u2028y\x0bz\x85\n".encode(),
    [{"a": "1", "b": "x\u2028y\x0bz\x85"}],
  ),
  "formula prefix": (
    b"a,b\n=cmd(),+1-1\n@SUM(1),-2+3\n",
    [{"a": "=cmd()", "b": "+1-1"}, {"a": "@SUM(1)", "b": "-2+3"}],
  ),
  "leading zeros": (b"a,b\n007,0.10\n", [{"a": "007", "b": "0.10"}]),
  "words for nothing": (b"a,b\nnan,NULL\n", [{"a": "nan", "b": "NULL"}]),
  "100,000 columns": (
    b"a,b,"
    + ",".join(f"c{n}" for n in range(100_000)).encode()
    + b"\n1,SECRET"
    + b"," * 100_000
    + b"\n",
    [ROW],
  ),
}

# name -> (bytes, words of the message).
REFUSED = {
  "empty file": (b"", "lacks the column"),
  "white space alone": (b"\n \n\n", "lacks the column"),
  "header alone": (b"a,b\n", "has no rows"),
  "header and blank lines": (b"a,b\n\n\n\n", "has no rows"),
  "missing column": (b"a,c\n1,SECRET\n", r"lacks the column\(s\) 'b'"),
  "other separator": (b"a;b\n1;SECRET\n", "lacks the column"),
  "two byte-order marks": (b"\xef\xbb\xbf" * 2 + b"a,b\n1,2\n", "lacks the"),
  "invisible letter in a column": ("a,b\u200b\n1,2\n".encode(), "lacks the"),
  "duplicate column": (b"a,b,a\n1,2,3\n", "1 column name.* repeated"),
  "100,000 times one column": (
    b"a,b" + b",c" * 100_000 + b"\n1,2\n",
    "1 column name.* repeated",
  ),
  "missing cell": (b"a,b\n1,2\nSECRET\n", "row 2 has 1 cells, expected 2"),
  "extra cell": (b"a,b\n1,2,SECRET\n", "row 1 has 3 cells, expected 2"),
  "unclosed quote": (b'a,b\n1,2\n1,"SECRET\n1,2\n', "row 2 is no CSV"),
  "text after a quote": (b'a,b\n1,"SECRET"x\n', "row 1 is no CSV"),
  "NUL": (b"a,b\n1,SEC\0RET\n", "holds NUL bytes"),
  "UTF-16": (PLAIN.encode("utf-16"), "not UTF-8"),
  "UTF-16 without a mark": (PLAIN.encode("utf-16-le"), "holds NUL bytes"),
  "Latin-1": ("a,b\n1,SECRET é\n".encode("latin-1"), "not UTF-8"),
  "surrogates": (b"a,b\n1,\xed\xa0\x80\n", "not UTF-8"),
  "overlong UTF-8": (b"a,b\n1,\xc0\xaf\n", "not UTF-8"),
  "gzip without its suffix": (pack(PLAIN.encode()), "not UTF-8"),
  "1,000,000 letters in a cell": (
    b"a,b\n1," + b"x" * 1_000_000 + b"\n",
    "row 1 is no CSV: field larger",
  ),
  "2,000,000 letters in a line": (
    b"a,b\n1," + b"x" * 2_000_000,
    "row of 10485",
  ),
  "a row of many lines": (
    b"a,b\n1," + b'"\n",' * 500_000 + b"\n",
    "row of 1048576 characters or more",
  ),
  "a header of many lines": (b'"\n",' * 500_000, "row of 1048576 characters"),
}


def read(path):
  """Reads a table under the eyes of a clock and a scale."""
  tracemalloc.start()
  start = time.monotonic()
  try:
    return labels.read_table(path, ("a", "b"))
  except ValueError as error:
    assert path.name in str(error)
    assert "SECRET" not in str(error)
    assert str(path.parent) not in str(error)
    raise
  finally:
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert time.monotonic() - start < MAX_SECONDS
    assert peak < MAX_MEMORY


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
@pytest.mark.parametrize("name", READABLE)
def test_odd_tables_are_read(tmp_path, name, suffix):
  data, rows = READABLE[name]
  path = tmp_path / f"t{suffix}"
  path.write_bytes(pack(data) if suffix == ".csv.gz" else data)
  assert read(path) == rows


@pytest.mark.parametrize("name", REFUSED)
def test_hostile_tables_are_refused(tmp_path, name):
  data, words = REFUSED[name]
  path = tmp_path / "t.csv"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=words):
    read(path)


CUT = pack(PLAIN.encode() * 9999)
# The last are 1,000 times as large as the file: in one line, in lines of NUL,
# in short rows, in blank lines and in long ones.
GZIPS = {
  "truncated": (CUT[: len(CUT) // 2], "cannot be read: EOFError"),
  "more after its end": (pack(b"a,b\n") + b"x", "cannot be read: BadGzipFile"),
  "no gzip": (PLAIN.encode(), "cannot be read: BadGzipFile"),
  "wrong checksum": (pack(b"a,b\n")[:-8] + bytes(8), "cannot be read: BadGzip"),
  "twice": (pack(pack(PLAIN.encode())), "not UTF-8"),
  "a line": (pack(b"a,b\n" + b"x" * 2**26), "row of 1048576"),
  "NUL": (pack(b"a,b\n" + bytes(2**26)), "row of 1048576"),
  "rows": (pack(b"a,b\n" + b"1,2\n" * 2**18), "more than 50000 rows"),
  "blank lines": (pack(b"a,b\n1,2\n" + b"\n" * 2**20), "or 500000 lines"),
  "long rows": (
    pack(b"a,b\n" + (b'"' + b"\n" * 9999 + b'",2\n') * 40),
    "larger than 300000 characters",
  ),
}


@pytest.mark.parametrize("name", GZIPS)
def test_hostile_gzip(tmp_path, monkeypatch, name):
  monkeypatch.setattr(labels, "MAX_ROWS", 50_000)
  monkeypatch.setattr(labels, "MAX_LINES", 500_000)
  if name == "long rows":
    monkeypatch.setattr(labels, "MAX_TEXT", 300_000)
  data, words = GZIPS[name]
  path = tmp_path / "t.csv.gz"
  path.write_bytes(data)
  with pytest.raises(ValueError, match=words):
    read(path)


def test_things_that_are_no_files(tmp_path):
  (tmp_path / "t.csv").mkdir()
  with pytest.raises(ValueError, match="cannot be read: IsADirectoryError"):
    read(tmp_path / "t.csv")
  (tmp_path / "u.csv").symlink_to(tmp_path / "none")
  with pytest.raises(ValueError, match="does not exist"):
    read(tmp_path / "u.csv")
  (tmp_path / "v.csv").symlink_to("v.csv")
  with pytest.raises(ValueError, match="cannot be read: OSError"):
    read(tmp_path / "v.csv")
  os.mkfifo(tmp_path / "w.csv")
  # A source's own tables are looked for among files alone.
  for pattern in ("t.csv", "u.csv", "v.csv", "w.csv", "*.csv"):
    assert labels.find_table([tmp_path], pattern) is None


VALUES = ["2", "-2", "nan", "NaN", "yes", "true", "0.5", "=1", "1,0", "1e0"]
VALUES += ["+1", "0x1", "1_0", "--1", "\uff11", "\u0661", "1\u200b", "1;DROP"]


@pytest.mark.parametrize("number", range(len(VALUES)))
def test_label_values_that_are_none(tmp_path, number):
  path = tmp_path / "t.csv"
  path.write_text(f'file,Edema\nx.png,1.0 \nx.png,"{VALUES[number]}"\n')
  options = table.TableOptions("file", label_columns=("Edema",), split="test")
  with pytest.raises(ValueError, match="Edema") as error:
    table.plan(tmp_path, path, "ours", options)
  assert str(error.value) == (
    "table t.csv row 2 column 'Edema' is none of 1, 0, -1 or blank"
  )


LISTS = {
  "labels:unparseable": [
    "__import__('os').system('touch SECRET')",
    "[__import__('os').system('touch SECRET')]",
    "['normal' for _ in iter(int, 1)]",
    "['normal'] * 10**9",
    "[f'{1}']",
    "[b'normal']",
    "['nor\\x6dal']",
    "[" * 9_000,
    "[" * 100 + "]" * 100,
    "-" * 9_000 + "1",
    "[" + "9" * 9_000 + "]",
    "['normal'" * 1_000,
    "['normal', " * 800,
    "[" + "'normal'," * 20_000 + "]",
    "['normal'",
    "{'normal'}",
    "[None]",
  ],
  "labels:null": ["nan", " None ", "[]", "['', ' ']"],
  "labels:exclude": ["['EXCLUDE ']", "['normal', 'exclude']"],
}


@pytest.mark.parametrize("reason", LISTS)
def test_lists_that_are_none_are_counted(tmp_path, monkeypatch, reason):
  monkeypatch.chdir(tmp_path)
  start = time.monotonic()
  for cell in LISTS[reason]:
    assert padchest.parse_labels(cell) == reason
  assert time.monotonic() - start < MAX_SECONDS
  assert not any(tmp_path.iterdir())


BLANK = " " * 9_900


@pytest.mark.parametrize(
  "cell",
  [
    f"['a'{BLANK}x",
    f"['a'{BLANK},x",
    f"['a',{BLANK}x",
    f"[{BLANK}x",
    "['a'" + " , 'a'" * 1_600 + "x",
  ],
)
def test_lists_of_blanks_take_no_time(cell):
  start = time.process_time()
  for _ in range(10):
    assert padchest.parse_labels(cell) == "labels:unparseable"
  assert time.process_time() - start < 1


@pytest.mark.parametrize(
  ("row", "message"),
  [
    ("a.png,p1,s1,train", r"1 row\(s\) of ours repeat an image"),
    ("b.png,p1,s2,test", r"1 patient id\(s\) stand in more than one split"),
    ("a.png,p2,s2,test", r"1 image id\(s\) stand in more than one split"),
  ],
)
def test_rows_that_contradict_each_other(tmp_path, row, message):
  path = tmp_path / "t.csv"
  path.write_text(f"file,patient,study,split\na.png,p1,s1,train\n{row}\n")
  options = table.TableOptions(
    "file",
    text_column="file",
    patient_column="patient",
    study_column="study",
    split_column="split",
  )
  plan = table.plan(tmp_path, path, "ours", options)
  with pytest.raises(ValueError, match=message) as error:
    build.check_plan(plan)
  for raw_id in ("p1", "p2", "s1", "a.png"):
    assert raw_id not in str(error.value)


IMAGES = {
  "sound": ("images/a.png", ""),
  "blank in front": (" images/a.png ", ""),
  "upwards": ("../SECRET.png", "path:outside_source_dir"),
  "upwards within": ("images/../../SECRET.png", "path:outside_source_dir"),
  "absolute": ("/etc/passwd", "path:outside_source_dir"),
  "a link that leads out": ("images/out.png", "path:outside_source_dir"),
  "a folder that leads out": (
    "images/out/SECRET.png",
    "path:outside_source_dir",
  ),
  "a link in a circle": ("images/circle.png", "image:missing"),
  "backslashes": ("..\\SECRET.png", "image:missing"),
  "a drive": ("C:\\SECRET.png", "image:missing"),
  "a URL": ("http://localhost/a.png", "image:missing"),
  "a home": ("~/a.png", "image:missing"),
  "a pattern": ("images/*.png", "image:missing"),
  "a folder": ("images", "image:missing"),
  "a pipe": ("images/pipe.png", "image:missing"),
  "no file": ("images/none.png", "image:missing"),
  "a name too long": ("x" * 5_000 + ".png", None),
  "a command": ("=HYPERLINK(1)|calc", "image:missing"),
}


def test_paths_do_not_lead_out_of_the_source(tmp_path):
  source = tmp_path / "source"
  (source / "images").mkdir(parents=True)
  picture = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16))
  picture.save(source / "images" / "a.png")
  picture.save(tmp_path / "SECRET.png")
  (source / "images" / "out.png").symlink_to(tmp_path / "SECRET.png")
  (source / "images" / "out").symlink_to(tmp_path)
  (source / "images" / "circle.png").symlink_to("circle.png")
  os.mkfifo(source / "images" / "pipe.png")
  path = tmp_path / "t.csv"
  lines = [f'"{image}",1\n' for image, _ in IMAGES.values()]
  path.write_text("".join(["file,Edema\n", *lines]))
  options = table.TableOptions("file", label_columns=("Edema",), split="test")
  plan = table.plan(source, path, "ours", options)
  assert len(plan.items) == len(IMAGES)
  for item, (name, (_, reason)) in zip(plan.items, IMAGES.items(), strict=True):
    outcome = convert.convert_item(item, plan.root, 16, "voi")
    assert (outcome.data is None) == (reason != ""), name
    if reason is not None:
      assert outcome.reason == reason, name
    assert "SECRET" not in outcome.reason
