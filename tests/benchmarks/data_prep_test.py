import numpy as np
import pydicom
import pytest
from pydicom import pixels, uid

from data_prep import dicom, images
from tier_jax.benchmarks import data_prep


@pytest.mark.parametrize("name", data_prep.SYNTAXES)
def test_files_are_what_they_claim(tmp_path, name):
  paths = data_prep.make_files(tmp_path, name, 64, 2)
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
  drawn = data_prep.draw(0, 64)
  assert drawn.max() > 2**11
  assert drawn.max() < 2**12
  # An independent decoder, pydicom's own choice.
  plugin = "" if name == "native" else "gdcm"
  np.testing.assert_array_equal(
    pixels.pixel_array(paths[0], decoding_plugin=plugin, raw=True),
    drawn,
  )


def test_stored_values_shrink_as_grey_ones_do():
  drawn = data_prep.draw(0, 64)
  small = images.shrink(drawn, 16)
  blocks = drawn.reshape(16, 4, 16, 4).mean(axis=(1, 3))
  assert small.dtype == np.uint16
  # Stored values are whole numbers: means are rounded to them.
  np.testing.assert_allclose(small, blocks, atol=0.5)
