"""Which files are read, and what is said of those that are not."""

import json

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tier_jax.models import weight_files

TENSORS = {
  "a": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.array([1.5, -2.0], np.float32),
}
INDEX = "model.safetensors.index.json"


def shard(directory, names=("a", "b")):
  for i, name in enumerate(names):
    safetensors.numpy.save_file(
      {name: TENSORS[name]}, directory / f"model-{i}.safetensors"
    )
  weight_map = {"a": "model-0.safetensors", "b": "model-1.safetensors"}
  (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))


def test_whole_sharded_and_single_files_are_alike(tmp_path):
  shard(tmp_path)
  sharded = weight_files.read(str(tmp_path), "init.image")
  path = tmp_path / "model.safetensors"
  safetensors.numpy.save_file(TENSORS, path)
  whole = weight_files.read(str(tmp_path), "init.image")
  alone = weight_files.read(str(path), "init.image")
  for tensors in (sharded, whole, alone):
    assert tensors.keys() == TENSORS.keys()
    for key, value in TENSORS.items():
      np.testing.assert_array_equal(tensors[key], value)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_is_read(dtype, tmp_path):
  path = tmp_path / "x.safetensors"
  half = {key: value.astype(dtype) for key, value in TENSORS.items()}
  safetensors.numpy.save_file(half, path)
  for key, value in weight_files.read(str(path), "init.image").items():
    np.testing.assert_array_equal(value.astype(np.float32), TENSORS[key])


def test_a_missing_shard_is_named(tmp_path):
  shard(tmp_path, names=("a",))
  with pytest.raises(ValueError, match="holds no model-1.safetensors"):
    weight_files.read(str(tmp_path), "init.image")


@pytest.mark.parametrize("text", ["{", "{}", "[]", '{"weight_map": 3}'])
def test_a_broken_index_is_named(text, tmp_path):
  (tmp_path / INDEX).write_text(text)
  with pytest.raises(ValueError, match=f"its {INDEX} cannot be read"):
    weight_files.read(str(tmp_path), "init.image")


def test_what_lies_there_instead_is_named(tmp_path):
  with pytest.raises(ValueError, match="init.text .* but nothing"):
    weight_files.read(str(tmp_path), "init.text")
  (tmp_path / "config.json").write_text("{}")
  with pytest.raises(ValueError, match="but config.json"):
    weight_files.read(str(tmp_path), "init.text")
  (tmp_path / "pytorch_model.bin").write_bytes(b"x")
  with pytest.raises(
    ValueError, match="pytorch_model.bin; launch/convert_weights.py"
  ):
    weight_files.read(str(tmp_path), "init.text")
  with pytest.raises(ValueError, match="launch/convert_weights.py makes one"):
    weight_files.read(str(tmp_path / "pytorch_model.bin"), "init.text")


def test_a_cut_file_is_named(tmp_path):
  path = tmp_path / "model.safetensors"
  safetensors.numpy.save_file(TENSORS, path)
  path.write_bytes(path.read_bytes()[:-5])
  with pytest.raises(ValueError, match="its model.safetensors cannot be read"):
    weight_files.read(str(tmp_path), "init.image")


def test_a_name_that_is_none_is_an_error():
  with pytest.raises(ValueError, match="init.image 'a b' is neither"):
    weight_files.read("a b", "init.image")
