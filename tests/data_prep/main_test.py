import base64
import csv
import json
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag

from data_prep import __main__ as main
from tier_jax.data import records, shards

MARK = "QZJXMARK"


def run(*flags):
  return main.main([str(flag) for flag in flags])


@pytest.mark.parametrize(
  "dataset",
  ["mimic_cxr", "chexpert", "padchest", "open_i", "table", "phantom"],
)
def test_help_shows_an_example(capsys, dataset):
  with pytest.raises(SystemExit) as exit_:
    run(dataset, "--help")
  assert exit_.value.code == 0
  assert f"python -m data_prep {dataset}" in capsys.readouterr().out


@pytest.mark.parametrize(
  "dataset", ["mimic_cxr", "chexpert", "padchest", "open_i"]
)
def test_empty_source_is_one_line_and_status_2(tmp_path, capsys, dataset):
  source = tmp_path / "source"
  source.mkdir()
  output = tmp_path / "out" / "x"
  for flags in ([source], [tmp_path / "none"]):
    status = run(dataset, "--source_dir", *flags, "--output_dir", output)
    assert status == 2
    message = capsys.readouterr().err
    assert "source_dir" in message
    assert message.count("\n") == 1
  assert not output.exists()


def test_table(tmp_path, capsys, picture):
  Image.fromarray(picture).save(tmp_path / "a.png")
  (tmp_path / "t.csv").write_text("file,note\na.png,Clear.\nb.png,Clear.\n")
  status = run(
    "table",
    "--name=ours",
    f"--table={tmp_path / 't.csv'}",
    f"--source_dir={tmp_path}",
    f"--output_dir={tmp_path / 'out' / 'ours'}",
    "--image_column=file",
    "--text_column=note",
    "--split=test",
    "--num_workers=1",
  )
  assert status == 0
  printed = capsys.readouterr().out
  assert "test              1        1        1" in printed
  assert "1  image:missing" in printed
  manifest = json.loads((tmp_path / "out/ours/manifest.json").read_text())
  assert manifest["settings"]["split"] == "test"


def test_dry_run_counts_and_writes_nothing(tmp_path, capsys):
  (tmp_path / "t.csv").write_text(
    "file,note,patient,split\n"
    "a.png,Clear.,1,train\nb.png,Clear.,1,test\nc.png,Clear.,2,train\n"
  )
  flags = ["table", "--name=ours", "--image_column=file", "--dry_run"]
  flags += ["--text_column=note", "--patient_column=patient"]
  flags += ["--split_column=split", f"--table={tmp_path / 't.csv'}"]
  flags += [f"--source_dir={tmp_path}", f"--output_dir={tmp_path}/out/ours"]
  assert run(*flags) == 2
  assert "1 patient id(s) stand in more than one" in capsys.readouterr().err
  (tmp_path / "deny.txt").write_text("a.png\n")
  assert run(*flags, f"--deny_list={tmp_path / 'deny.txt'}") == 0
  printed = capsys.readouterr().out
  assert "train             1        1        1" in printed
  assert "test              1        1        1" in printed
  assert "1  denied:deny_list" in printed
  assert not (tmp_path / "out").exists()


def test_ids_are_those_of_the_records(tmp_path, capsys, picture):
  Image.fromarray(picture).save(tmp_path / "a.png")
  (tmp_path / "t.csv").write_text("file,note\na.png,Clear.\n")
  flags = ["table", "--name=ours", "--image_column=file", "--split=test"]
  flags += ["--text_column=note", f"--table={tmp_path / 't.csv'}"]
  flags += [f"--source_dir={tmp_path}", f"--output_dir={tmp_path}/out/ours"]
  assert run(*flags, "--num_workers=1") == 0
  (tmp_path / "list.txt").write_text("a.png\n")
  key = f"--id_key_file={tmp_path}/out/id_key"
  capsys.readouterr()
  assert run("ids", "ours", key, f"--list={tmp_path}/list.txt") == 0
  lines = capsys.readouterr().out.splitlines()
  record = records.read_facts(
    shards.open_split(tmp_path / "out/ours", "test")[0]
  )
  assert lines == ["image,image_id", f"a.png,{record.image_id}"]
  # No key is made where there is none: it could match nothing.
  key = f"--id_key_file={tmp_path}/none"
  assert run("ids", "ours", key, f"--list={tmp_path}/list.txt") == 2
  assert "cannot be read" in capsys.readouterr().err


def test_every_process_writes_the_same_bytes(tmp_path, picture):
  Image.fromarray(picture).save(tmp_path / "a.png")
  Image.fromarray(picture.T).save(tmp_path / "b.png")
  (tmp_path / "t.csv").write_text("file,note\na.png,Clear.\nb.png,Clear.\n")
  flags = ["--name=ours", "--image_column=file", "--text_column=note"]
  flags += [f"--table={tmp_path / 't.csv'}", f"--source_dir={tmp_path}"]
  command = [sys.executable, "-m", "data_prep", "table", *flags, "--split=test"]
  written = []
  for workers in (1, 2):
    output = tmp_path / "out" / "ours"
    subprocess.run(
      [*command, f"--output_dir={output}", f"--num_workers={workers}"],
      check=True,
    )
    written.append({path.name: path.read_bytes() for path in output.iterdir()})
  assert written[0] == written[1]


# All that hold text or free bytes.
TEXT_VRS = (
  "AE",
  "CS",
  "LO",
  "LT",
  "OB",
  "PN",
  "SH",
  "ST",
  "UC",
  "UN",
  "UR",
  "UT",
)


def _mark_every_string(path):
  """Puts the mark wherever a DICOM file has room for it."""
  dataset = pydicom.dcmread(path)
  marked = pydicom.Dataset()
  for tag in DicomDictionary:
    keyword, vr = keyword_for_tag(tag), dictionary_VR(tag)
    # Not in the groups of the file itself, of the picture, and its pixels.
    if tag >> 16 < 8 or tag >> 16 in (0x28, 0x7FE0) or not keyword:
      continue
    if vr in TEXT_VRS:
      value = MARK.encode() if vr in ("OB", "UN") else MARK
      for target in (dataset, marked):
        setattr(target, keyword, value)
  for target in (dataset, marked):
    target.SpecificCharacterSet = "ISO_IR 192"
  dataset.add_new(0x00081140, "SQ", [marked])  # Referenced Image Sequence
  dataset.BurnedInAnnotation = "NO"
  for group in (0x6000, 0x6002):
    dataset.add_new(group << 16 | 0x22, "LO", MARK)
    dataset.add_new(group << 16 | 0x1500, "LO", MARK)
    dataset.add_new(group << 16 | 0x3000, "OW", (MARK * 9).encode())
  for group in (0x9, 0x11, 0x7FE1):
    block = dataset.private_block(group, MARK, create=True)
    block.add_new(1, "LO", MARK)
    block.add_new(2, "OB", MARK.encode())
  dataset.add_new(0xFFFCFFFC, "OB", (MARK * 3).encode())
  dataset.file_meta.SourceApplicationEntityTitle = MARK
  dataset.file_meta.ImplementationVersionName = MARK
  dataset.preamble = (MARK * 16).encode()
  dataset.save_as(path)
  assert path.read_bytes().count(MARK.encode()) > 1000


def _mark_pictures(directory, picture):
  """Writes a PNG and a JPEG with the mark in their comments."""
  notes = PngImagePlugin.PngInfo()
  notes.add_text(MARK, MARK)
  notes.add_itxt(MARK, MARK)
  Image.fromarray(picture).save(directory / f"{MARK}.png", pnginfo=notes)
  exif = Image.Exif()
  exif[0x010E] = MARK
  Image.fromarray(picture).save(
    directory / f"{MARK}.jpg", exif=exif, comment=MARK.encode()
  )


def test_planted_identifiers_come_out_nowhere(
  tmp_path, capfd, write_dicom, picture
):
  rng = np.random.default_rng(0)
  rows = []
  (tmp_path / "raw" / MARK).mkdir(parents=True)
  _mark_pictures(tmp_path / "raw" / MARK, picture)
  for number in range(6):
    name = f"{MARK}_{number}.dcm"
    path = write_dicom(
      tmp_path / "raw" / MARK / name,
      rng.integers(0, 4096, (24, 24), np.uint16),
      bits=12,
    )
    _mark_every_string(path)
    data = path.read_bytes()
    if number == 1:  # cut in the pixels
      path.write_bytes(data[: data.index(b"\xe0\x7f\x10\x00") + 100])
    if number == 2:  # an element that is none
      place = data.index(b"\x28\x00\x10\x00")
      path.write_bytes(data[:place] + MARK.encode() + data[place:])
    if number == 3:  # a number that is none
      path.write_bytes(data.replace(b"MONOCHROME2 ", (MARK + "    ").encode()))
    rows.append([f"{MARK}/{name}", f"{MARK}{number}"])
  rows += [[f"{MARK}/{MARK}.{end}", f"{MARK}{end}"] for end in ("png", "jpg")]
  rows.append([f"{MARK}/none.dcm", f"{MARK}9"])
  table = tmp_path / "labels.csv"

  def write_table(label):
    with table.open("w", newline="") as handle:
      csv.writer(handle).writerows(
        [
          ["file", "patient", "study", "Edema", "name"],
          *([*row, f"{MARK}s", label, MARK] for row in rows),
        ]
      )

  flags = [
    "table",
    "--name=ours",
    f"--table={table}",
    f"--source_dir={tmp_path / 'raw'}",
    f"--output_dir={tmp_path / 'out' / 'ours'}",
    "--image_column=file",
    "--label_columns=Edema",
    "--patient_column=patient",
    "--study_column=study",
    "--split=test",
    "--num_workers=2",
  ]
  write_table(MARK)
  assert run(*flags) == 2
  write_table("1")
  assert run(*flags, "--dry_run") == 0
  assert run(*flags, "--short_side=0") == 2
  assert run(*flags) == 0
  assert run("verify", tmp_path / "out" / "ours") == 0
  assert run("inspect", tmp_path / "out" / "ours") == 0
  printed = capfd.readouterr()
  assert "0 MB: as the manifest says" in printed.err
  produced = [printed.out.encode(), printed.err.encode()]
  for path in (tmp_path / "out").rglob("*"):
    produced.append(path.name.encode())
    produced.append(path.read_bytes() if path.is_file() else b"")
  assert len(produced) >= 20
  for data in produced:
    assert MARK.encode() not in data.upper()
    assert base64.b64encode(MARK.encode())[:-4] not in data
  output = tmp_path / "out" / "ours"
  manifest = json.loads((output / "manifest.json").read_text())
  assert manifest["splits"]["test"]["records"] == 5
  assert sum(manifest["rejects"].values()) == 4
  assert manifest["rejects"]["image:missing"] == 1
