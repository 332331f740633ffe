import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_prep import convert, dicom, images, items
from tier_jax import image_files
from tier_jax.data import records, transforms

RENDERING = transforms.Rendering("voi", 30)


def _write(path, height=40, width=32):
  """Writes a PNG of its own for each name, and returns its path."""
  path.parent.mkdir(parents=True, exist_ok=True)
  rng = np.random.default_rng(sum(path.name.encode()))
  Image.fromarray(rng.integers(256, size=(height, width), dtype=np.uint8)).save(
    path, format="PNG"
  )
  return str(path)


def test_folders_are_searched_for_images(tmp_path):
  want = [
    _write(tmp_path / "b.PNG"),
    _write(tmp_path / "inner" / "deep" / "a.jpeg"),
    str(tmp_path / "inner" / "z.dcm"),
  ]
  Path(want[-1]).write_bytes(b"whatever it holds")
  bare = tmp_path / "inner" / "1.2.840.9"  # a DICOM's usual name
  bare.write_bytes(bytes(128) + b"DICM")
  os.mkfifo(tmp_path / "pipe")
  (tmp_path / "notes.txt").write_text("x")
  (tmp_path / "short").write_bytes(b"DICM")
  _write(tmp_path / "._b.png")
  _write(tmp_path / ".hidden" / "a.png")
  found = image_files.find([str(tmp_path)], "path")
  assert list(found) == [want[0], str(bare), want[2], want[1]]
  assert all(path == name for path, name in found.items())


def test_tables_give_paths_as_they_call_them(tmp_path):
  table = tmp_path / "set" / "list.csv"
  table.parent.mkdir()
  elsewhere = str(tmp_path / "x.png")
  table.write_text(
    f'id,file\n1,a.png\n2,"b, c.png"\n3,{elsewhere}\n4,a.png\n5,\n'
  )
  found = image_files.find([str(table), elsewhere, "gone.png"], "file")
  inside = str(table.parent)
  assert found == {
    f"{inside}/a.png": "a.png",
    f"{inside}/b, c.png": "b, c.png",
    elsewhere: elsewhere,
    f"{inside}/": "",
    "gone.png": "gone.png",
  }


def test_what_has_no_image_is_refused(tmp_path):
  table = tmp_path / "list.csv"
  table.write_text("file\na.png\n")
  with pytest.raises(ValueError, match=r"list\.csv .*'path'"):
    image_files.find([str(table)], "path")
  with pytest.raises(ValueError, match=r"gone\.csv does not exist"):
    image_files.find([str(tmp_path / "gone.csv")], "path")
  (tmp_path / "empty").mkdir()
  with pytest.raises(ValueError, match="no image was found in .*empty, expec"):
    image_files.find([str(tmp_path / "empty")], "path")


def test_pictures_come_in_order_whatever_their_files_are(tmp_path):
  paths = [
    _write(tmp_path / f"{i}.png", height=30 + 7 * i, width=90 - 5 * i)
    for i in range(9)
  ]
  Path(paths[2]).write_bytes(Path(paths[2]).read_bytes()[:-40])
  Path(paths[5]).write_bytes(bytes(128) + b"DICM")
  paths[7] = str(tmp_path / "gone.png")
  paths[8] = str(tmp_path)
  reasons = {
    2: "image:does_not_decode",
    5: "dicom:no_transfer_syntax",
    7: convert.MISSING,
    8: convert.MISSING,
  }
  with image_files.Reader(
    paths, 24, RENDERING, preview_side=40, ahead=2, num_workers=2
  ) as reader:
    found = list(reader)
  assert [picture.path for picture in found] == paths
  for i, picture in enumerate(found):
    assert picture.reason == reasons.get(i, "")
    if i in reasons:
      assert picture.square is picture.preview is None
      continue
    image = images.read_image(Path(paths[i]))
    stored = images.shrink(image, 30)
    np.testing.assert_array_equal(
      picture.square, transforms.eval_image(stored, 24)
    )
    np.testing.assert_array_equal(picture.preview, images.shrink(image, 40))


def test_reading_is_ahead_by_a_bounded_number_of_files(tmp_path):
  path = _write(tmp_path / "a.png")
  taken = itertools.count()
  paths = (path for _ in range(100) if next(taken) >= 0)
  with image_files.Reader(
    paths, 16, RENDERING, ahead=3, num_workers=1
  ) as reader:
    pictures = [next(reader) for _ in range(5)]
    assert next(taken) == 9  # 5 taken, 4 on their way
  assert all(picture.preview is None for picture in pictures)


@pytest.mark.parametrize("recipe", dicom.RECIPES)
def test_a_file_is_read_as_data_prep_stores_it(tmp_path, recipe):
  path = tmp_path / "a.png"
  pixels = np.random.default_rng(0).integers(2**16, size=(90, 70))
  Image.fromarray(pixels.astype(np.uint16)).save(path)
  item = items.Item(
    image_id="i",
    split="test",
    study_id="s",
    patient_id="p",
    image_paths=("a.png",),
    findings="x",
  )
  data = convert.convert_item(item, tmp_path, short_side=40, recipe=recipe).data
  assert data is not None
  stored = records.decode(data).image
  rendering = transforms.Rendering(recipe, 40)
  with image_files.Reader([str(path)], 24, rendering) as reader:
    square = next(reader).square
  np.testing.assert_array_equal(square, transforms.eval_image(stored, 24))
  bare = transforms.eval_image(images.read_image(path), 24)
  assert not np.array_equal(square, bare)


def test_monochrome1_is_bright_where_the_body_is_dense():
  folder = Path(__file__).parents[2] / "shared" / "data" / "dicom" / "chest"
  if not folder.is_dir():
    pytest.skip("../shared is not here")
  names = ("966_fixed.dcm", "CR-MONO1-10-chest.dcm", "RG1_J2KI.dcm")
  with image_files.Reader(
    [str(folder / name) for name in names], 64, RENDERING
  ) as reader:
    pictures = list(reader)
  for picture in pictures:
    assert not picture.reason and picture.square is not None
    # The spine, and the lungs beside it.
    middle = picture.square[24:40, 28:36].mean()
    sides = [
      picture.square[24:40, left : left + 10].mean() for left in (10, 44)
    ]
    assert middle > max(sides)
