import json
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom import pixels, uid

from data_prep import dicom, images
from launch import benchmark

SCRIPT = Path(__file__).parents[2] / "launch" / "benchmark.py"


def _run(*arguments):
  return subprocess.run(
    [sys.executable, SCRIPT, *arguments],
    capture_output=True,
    text=True,
    timeout=300,
    check=False,
  )


def test_data_prep_on_tiny_files(tmp_path):
  output = tmp_path / "figures.json"
  done = _run(
    "data_prep",
    "--syntaxes=native",
    "--num_files=2",
    "--size=64",
    "--short_side=32",
    "--rounds=2",
    f"--json={output}",
  )
  assert done.returncode == 0, done.stderr
  results = json.loads(output.read_text("utf-8"))
  assert "native" in done.stdout
  (entry,) = results["syntaxes"].values()
  rates = entry["rates"]
  assert list(rates) == [cell for cell, _, _ in benchmark.CELLS]
  for values in rates.values():
    assert len(values) == 2
    assert min(values) > 0
  assert entry["median"]["rates"]["whole"] == statistics.median(rates["whole"])
  assert results["start_s"] > 0


def test_ratios_are_taken_within_rounds_and_of_the_best():
  rates = {cell: [1.0, 1.0, 1.0] for cell, _, _ in benchmark.CELLS}
  # The second and third rounds were disturbed, each in another cell.
  rates |= {"whole_2": [8.0, 4.0, 6.0], "bare_2": [10.0, 8.0, 2.0]}
  found = benchmark.summarise(rates)
  assert found["median"]["rates"]["bare_2"] == 8
  assert found["median"]["ratios"]["whole_2 / bare_2"] == 0.8  # .8, .5, 3
  assert found["best"]["ratios"]["whole_2 / bare_2"] == 0.8
  assert found["median"]["ratios"]["whole_2 / whole"] == 6
  assert found["best"]["ratios"]["whole_2 / whole"] == 8
  del rates["least"], rates["least_2"]
  found = benchmark.summarise(rates)["median"]["ratios"]
  assert list(found) == [
    "whole / bare",
    "whole_2 / bare_2",
    "whole / grey",
    "whole_2 / whole",
    "bare_2 / bare",
  ]


@pytest.mark.parametrize(
  ("flag", "message"),
  [
    ("--syntaxes=native,jpeg", "syntaxes has 'jpeg', expected native,"),
    ("--num_files=0", "num_files is 0, expected at least 1"),
    ("--rounds=0", "rounds is 0, expected at least 1"),
    ("--size=4", "size is 4, expected at least 8"),
  ],
)
def test_bad_flags_end_with_one_line(capsys, flag, message):
  assert benchmark.main(["data_prep", flag]) == 2
  assert message in capsys.readouterr().err


@pytest.mark.parametrize("name", benchmark.SYNTAXES)
def test_files_are_what_they_claim(tmp_path, name):
  paths = benchmark.make_files(tmp_path, name, 64, 2)
  first, second = (dicom.read_image(path) for path in paths)
  assert not np.array_equal(first, second)
  dataset = pydicom.dcmread(paths[0])
  syntax = dataset.file_meta.TransferSyntaxUID
  assert (
    syntax
    == {
      "native": uid.ExplicitVRLittleEndian,
      "jpeg_lossless": uid.JPEGLosslessSV1,
      "jpeg_2000": uid.JPEG2000Lossless,
    }[name]
  )
  assert (dataset.BitsAllocated, dataset.BitsStored) == (16, 12)
  drawn = benchmark.draw(0, 64)
  assert drawn.max() > 2**11
  assert drawn.max() < 2**12
  # An independent decoder, pydicom's own choice.
  plugin = "" if name == "native" else "gdcm"
  np.testing.assert_array_equal(
    pixels.pixel_array(paths[0], decoding_plugin=plugin, raw=True),
    drawn,
  )


def test_stored_values_shrink_as_grey_ones_do():
  drawn = benchmark.draw(0, 64)
  small = images.shrink(drawn, 16)
  blocks = drawn.reshape(16, 4, 16, 4).mean(axis=(1, 3))
  assert small.dtype == np.uint16
  # Stored values are whole numbers: means are rounded to them.
  np.testing.assert_allclose(small, blocks, atol=0.5)
