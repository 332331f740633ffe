import csv
import json
import subprocess
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag

from data_prep import __main__ as main

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


def _mark_every_string(path):
  """Puts the mark into every text tag, a private tag and the preamble."""
  dataset = pydicom.dcmread(path)
  for tag in DicomDictionary:
    keyword = keyword_for_tag(tag)
    if tag >> 16 < 8 or tag >> 16 == 0x28 or not keyword:
      continue
    if dictionary_VR(tag) in ("LO", "PN", "SH", "ST", "LT", "UT", "UC", "CS"):
      setattr(dataset, keyword, MARK)
  dataset.SpecificCharacterSet = "ISO_IR 192"
  dataset.BurnedInAnnotation = "NO"
  dataset.private_block(0x11, MARK, create=True).add_new(1, "LO", MARK)
  dataset.preamble = (MARK * 16).encode()
  dataset.save_as(path)


def test_planted_identifiers_come_out_nowhere(tmp_path, capfd, write_dicom):
  rng = np.random.default_rng(0)
  rows = []
  for number in range(6):
    name = f"{MARK}_{number}.dcm"
    path = write_dicom(
      tmp_path / "raw" / MARK / name,
      rng.integers(0, 4096, (24, 24), np.uint16),
    )
    _mark_every_string(path)
    if number == 1:  # cut in the pixels
      path.write_bytes(path.read_bytes()[:-100])
    if number == 2:  # a value that is no number
      dataset = path.read_bytes()
      place = (
        dataset.index(b"\x28\x00\x50\x10")
        if (b"\x28\x00\x50\x10" in dataset)
        else len(dataset) // 2
      )
      path.write_bytes(dataset[:place] + MARK.encode() + dataset[place:])
    rows.append([f"{MARK}/{name}", f"{MARK}{number}", f"{MARK}s{number}", "1"])
  rows.append([f"{MARK}/none.dcm", f"{MARK}9", f"{MARK}s9", "1"])
  with (tmp_path / f"{MARK}.csv").open("w", newline="") as handle:
    csv.writer(handle).writerows([["file", "patient", "study", "Edema"], *rows])
  flags = [
    "table",
    "--name=ours",
    f"--table={tmp_path / f'{MARK}.csv'}",
    f"--source_dir={tmp_path / 'raw'}",
    f"--output_dir={tmp_path / 'out' / 'ours'}",
    "--image_column=file",
    "--label_columns=Edema",
    "--patient_column=patient",
    "--study_column=study",
    "--split=test",
    "--num_workers=2",
  ]
  assert run(*flags) == 0
  printed = capfd.readouterr()
  output = tmp_path / "out" / "ours"
  produced = [printed.out.encode(), printed.err.encode()]
  for path in output.iterdir():
    produced += [path.name.encode(), path.read_bytes()]
  for data in produced:
    assert MARK.encode() not in data
    assert MARK.lower().encode() not in data
  manifest = json.loads((output / "manifest.json").read_text())
  assert manifest["splits"]["test"]["records"] >= 4
  assert manifest["rejects"]["image:missing"] == 1
  assert manifest["rejects"]["dicom:pixels"] >= 1
