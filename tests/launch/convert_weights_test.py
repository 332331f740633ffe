"""The converter: tensors pass, all else is refused and nothing is run."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import safetensors.numpy

from launch import convert_weights

WEIGHTS = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3)}


def test_paths_are_checked_first(tmp_path):
  (tmp_path / "x.bin").write_bytes(b"")
  (tmp_path / "there.safetensors").write_bytes(b"")
  with pytest.raises(ValueError, match="--input .*none.bin"):
    convert_weights.convert(tmp_path / "none.bin", tmp_path / "y.safetensors")
  with pytest.raises(ValueError, match="--output .*a new .safetensors"):
    convert_weights.convert(tmp_path / "x.bin", tmp_path / "there.safetensors")


def test_without_torch_the_error_says_so(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, "torch", None)
  (tmp_path / "x.bin").write_bytes(b"")
  with pytest.raises(ValueError, match="torch is not installed"):
    convert_weights.convert(tmp_path / "x.bin", tmp_path / "y.safetensors")


@pytest.mark.parametrize("wrapper", ["", "state_dict", "model"])
def test_tensors_pass_unchanged(tmp_path, wrapper):
  torch = pytest.importorskip("torch")
  tensors = {name: torch.tensor(value) for name, value in WEIGHTS.items()}
  tensors["tied.weight"] = tensors["a.weight"]
  tensors["turned.weight"] = tensors["a.weight"].T
  tensors["step"] = torch.tensor(7)
  loaded = {wrapper: tensors, "epoch": 3} if wrapper else tensors
  torch.save(loaded, tmp_path / "x.pt")
  convert_weights.convert(tmp_path / "x.pt", tmp_path / "y.safetensors")
  got = safetensors.numpy.load_file(tmp_path / "y.safetensors")
  assert got.keys() == tensors.keys()
  for name, value in tensors.items():
    np.testing.assert_array_equal(got[name], value.numpy())
    assert got[name].dtype == value.numpy().dtype
  assert sorted(path.name for path in tmp_path.iterdir()) == [
    "x.pt",
    "y.safetensors",
  ]


class Malicious:
  """Leaves a file where it is unpickled."""

  def __init__(self, path):
    self.path = path

  def __reduce__(self):
    return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("form", ["torch", "pickle"])
def test_code_is_refused_and_not_run(tmp_path, form):
  torch = pytest.importorskip("torch")
  source, mark = tmp_path / "x.bin", tmp_path / "mark"
  content = {"a.weight": torch.zeros(2), "b.weight": Malicious(mark)}
  if form == "torch":
    torch.save(content, source)
  else:
    source.write_bytes(pickle.dumps(content))
  with pytest.raises(ValueError, match="safe mode"):
    convert_weights.convert(source, tmp_path / "y.safetensors")
  assert not mark.exists()
  assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_what_is_no_tensor_is_named(tmp_path):
  torch = pytest.importorskip("torch")
  torch.save({"a": torch.zeros(2), "epoch": 3}, tmp_path / "x.bin")
  with pytest.raises(ValueError, match=r"'epoch' \(int\)"):
    convert_weights.convert(tmp_path / "x.bin", tmp_path / "y.safetensors")


def test_a_broken_file_is_refused(tmp_path):
  pytest.importorskip("torch")
  (tmp_path / "x.bin").write_bytes(b"not a zip")
  with pytest.raises(ValueError, match="cannot be read in torch's safe mode"):
    convert_weights.convert(tmp_path / "x.bin", tmp_path / "y.safetensors")


def test_tensors_that_are_not_plain_are_named(tmp_path):
  torch = pytest.importorskip("torch")
  whole = torch.ones(2, 2)
  torch.save(
    {
      "good": whole,
      "sparse": whole.to_sparse(),
      "rows": whole.to_sparse_csr(),
      "shape": torch.empty(2, device="meta"),
      "eighth": torch.quantize_per_tensor(whole, 0.1, 0, torch.qint8),
      "complex": whole.to(torch.complex64),
    },
    tmp_path / "x.bin",
  )
  with pytest.raises(ValueError) as error:
    convert_weights.convert(tmp_path / "x.bin", tmp_path / "y.safetensors")
  assert str(error.value).partition("plain tensors: ")[2] == (
    "'sparse' (torch.sparse_coo), 'rows' (torch.sparse_csr), "
    "'shape' (meta: a shape without values), 'eighth' (torch.qint8), "
    "'complex' (torch.complex64)"
  )
  assert [path.name for path in tmp_path.iterdir()] == ["x.bin"]


def test_an_error_is_one_line(tmp_path):
  command = [sys.executable, convert_weights.__file__, "--input=none.bin"]
  done = subprocess.run(
    [*command, f"--output={tmp_path / 'y.safetensors'}"],
    capture_output=True,
    text=True,
    check=False,
  )
  assert done.returncode == 1
  assert done.stderr.startswith("error: --input 'none.bin': expected a file")
  assert len(done.stderr.splitlines()) == 1
