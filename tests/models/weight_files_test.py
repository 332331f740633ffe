"""Which files are read, and what is said of those that are not."""

import json

import huggingface_hub
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


@pytest.mark.parametrize("text", ["{", "[]", "null", '{"x": NaN}', "[" * 9999])
def test_a_broken_index_is_named(text, tmp_path):
  (tmp_path / INDEX).write_text(text)
  with pytest.raises(ValueError, match=f"its {INDEX} cannot be read"):
    weight_files.read(str(tmp_path), "init.image")


@pytest.mark.parametrize("values", [{}, {"weight_map": 3}, {"weight_map": {}}])
def test_an_index_without_files_is_named(values, tmp_path):
  (tmp_path / INDEX).write_text(json.dumps(values))
  with pytest.raises(ValueError, match=f"weight_map of its {INDEX} is"):
    weight_files.read(str(tmp_path), "init.image")


@pytest.mark.parametrize(
  "file", [3, None, "", "..", "../b.safetensors", "/b.safetensors", "b.bin"]
)
def test_an_index_leads_nowhere_else(file, tmp_path):
  shard(tmp_path)
  files = {"a": "model-0.safetensors", "b": file}
  (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
  with pytest.raises(ValueError, match=f"b in {file!r}, expected a plain name"):
    weight_files.read(str(tmp_path), "init.image")


def test_a_key_of_two_shards_is_named(tmp_path):
  shard(tmp_path)
  safetensors.numpy.save_file(TENSORS, tmp_path / "model-1.safetensors")
  with pytest.raises(
    ValueError, match="model-1.safetensors and an earlier shard both hold a$"
  ):
    weight_files.read(str(tmp_path), "init.image")


def test_a_key_that_the_index_promises_is_named(tmp_path):
  shard(tmp_path)
  files = {"a": "model-0.safetensors", "c": "model-1.safetensors"}
  (tmp_path / INDEX).write_text(json.dumps({"weight_map": files}))
  with pytest.raises(ValueError, match=f"{INDEX} names c, which no shard"):
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


@pytest.fixture
def cache(tmp_path, monkeypatch):
  """A hub cache, offline, of someone/bert, which has but a config.json."""
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
  monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
  root = tmp_path / "models--someone--bert"
  for path in ("refs", "snapshots/0123", ".no_exist/0123"):
    (root / path).mkdir(parents=True)
  (root / "refs/main").write_text("0123")
  (root / "snapshots/0123/config.json").write_text("{}")
  (root / ".no_exist/0123/processor_config.json").touch()
  return root


def test_offline_a_cache_knows_what_there_is_and_what_is_not(cache):
  found = weight_files.find("someone/bert", "config.json", "init.text")
  assert found == cache / "snapshots/0123/config.json"
  absent = weight_files.find("someone/bert", "processor_config.json", "init.x")
  assert absent is None
  with pytest.raises(ValueError, match="init.text 'someone/bert' is neither"):
    weight_files.find("someone/bert", "model.safetensors", "init.text")
  with pytest.raises(ValueError, match="init.text 'other/bert' is neither"):
    weight_files.find("other/bert", "config.json", "init.text")


def test_an_error_without_a_message_is_named(monkeypatch):
  def fail(*args):
    raise OSError

  monkeypatch.setattr(huggingface_hub, "hf_hub_download", fail)
  with pytest.raises(ValueError, match=r"can be fetched: OSError\(\)"):
    weight_files.find("someone/bert", "config.json", "init.text")
