"""What StableHLO exports hold, and that jax alone makes ours of them."""

import ast
import dataclasses
import json
import os
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import jax
import numpy as np
import pytest
import tokenizers
from jax import export as jax_export

from tests import export_test, stablehlo_parity
from tier_jax import checksums, stablehlo, stablehlo_loader
from tier_jax.data import tokenizer, transforms
from tier_jax.models import dual_encoder

pytestmark = pytest.mark.usefixtures("unoptimized")

# What jax needs, by its own record.
ONLY_JAX = ("jax", "jaxlib", "ml_dtypes", "numpy", "opt_einsum", "scipy")
FAMILIES = ("siglip_with_head", "biovil_resnet50")


@pytest.fixture(scope="module")
def exports(tmp_path_factory):
  """Of the towers that have most of their own."""
  directory = tmp_path_factory.mktemp("exports")
  stablehlo_parity.write(directory, families=FAMILIES)
  return directory


def test_jax_alone_embeds_as_ours_does(exports, tmp_path):
  packages = Path(sysconfig.get_path("purelib"))
  for name in ONLY_JAX:
    for part in (name, f"{name}.libs"):
      if (packages / part).is_dir():
        (tmp_path / part).symlink_to(packages / part)
  done = subprocess.run(
    [sys.executable, "-S", stablehlo_parity.__file__, "check", exports],
    env={
      "PATH": os.environ["PATH"],
      "PYTHONPATH": str(tmp_path),
      "PYTHONDONTWRITEBYTECODE": "1",
      "JAX_PLATFORMS": "cpu",
      "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
    },
    capture_output=True,
    text=True,
    check=False,
  )
  assert not done.returncode, done.stderr
  lines = done.stdout.splitlines()
  starts = [f"{family}, {n}:" for family in sorted(FAMILIES) for n in (1, 7)]
  assert [line.partition(": ")[0] + ":" for line in lines[1:]] == starts


def test_programs_are_of_every_platform_and_call_no_kernel(tmp_path):
  model = export_test.make_model(export_test.VIT)
  change = {
    "attention": "fused",
    "remat": "full",
    "scan_layers": True,
    "dtype": "bfloat16",
  }
  config = dataclasses.replace(
    model.config.model,
    image=dataclasses.replace(model.config.model.image, **change),
    text=dataclasses.replace(model.config.model.text, **change),
    merge_wordpieces=True,
  )
  model = dataclasses.replace(
    model, config=dataclasses.replace(model.config, model=config)
  )
  stablehlo.write(model, tmp_path / "export", tmp_path)
  tokens = model.encoder.tokenize(["pneumothorax zyx", "No zy."])
  images = stablehlo_parity.images(16)[:2]
  want = jax.jit(dual_encoder.DualEncoder(config).apply)(
    model.encoder.variables,
    images,
    *(tokens[n] for n in ("input_ids", "attention_mask", "word_starts")),
  )
  loaded = stablehlo_loader.Model(tmp_path / "export")
  got = (
    *loaded.embed_images(images),
    *loaded.embed_texts(["pneumothorax zyx", "No zy."]),
  )
  for name, value in zip(stablehlo_parity.OUTPUTS, got, strict=True):
    # bfloat16 has three digits, and what is fused is rounded elsewhere.
    np.testing.assert_allclose(value, getattr(want, name), atol=0.05)
  for name in ("image", "text"):
    data = (tmp_path / "export" / f"{name}_encoder.jax_export").read_bytes()
    exported = jax_export.deserialize(bytearray(data))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert not exported.disabled_safety_checks
    assert str(exported.in_avals[-1].shape[0]) == "b"
    text = str(exported.mlir_module())
    assert "bf16" in text
    # A refined shape is the export's own matter.
    targets = set(re.findall(r"custom_call @([\w.]+)", text))
    assert targets <= {"shape_assertion"}


def test_an_export_is_whole_and_says_what_it_takes(exports):
  export = exports / "siglip_with_head"
  checksums.verify(export)
  assert {path.name for path in export.iterdir()} == {
    "README.md",
    "SHA256SUMS",
    "image_encoder.jax_export",
    "image_encoder.npz",
    "load.py",
    "preprocessing.json",
    "text_encoder.jax_export",
    "text_encoder.npz",
    "tokenizer.json",
    "vendored",
  }
  about = json.loads((export / "preprocessing.json").read_text())
  assert about["image"]["size"] == 16 and about["image"]["grid"] == [2, 2]
  assert about["image"]["recipe"] == "voi"
  assert about["image"]["short_side"] == 256
  assert about["image"]["crop_fraction"] == 224 / 256
  assert about["text"]["max_length"] == 8
  card = (export / "README.md").read_text()
  model = export_test.make_model(export_test.TOWERS["siglip_with_head"])
  assert f"| parameters sha256 | {model.params_digest} |" in card
  assert "`load.py` needs jax" in card and "transformers" not in card


def test_the_same_model_is_written_to_the_same_bytes(exports, tmp_path):
  model = export_test.make_model(export_test.TOWERS["siglip_with_head"])
  stablehlo.write(model, tmp_path / "again", tmp_path)
  for name in ("image_encoder.npz", "text_encoder.npz", "tokenizer.json"):
    again = (tmp_path / "again" / name).read_bytes()
    assert again == (exports / "siglip_with_head" / name).read_bytes()


def test_parameters_are_all_there_bit_for_bit(exports):
  model = export_test.make_model(export_test.TOWERS["siglip_with_head"])
  found = {}
  for name in ("image_encoder", "text_encoder"):
    path = exports / "siglip_with_head" / f"{name}.npz"
    with np.load(path, allow_pickle=False) as file:
      found |= dict(file)
  leaves = jax.tree_util.tree_leaves_with_path(model.encoder.variables)
  assert len(found) == len(leaves)
  for path, value in leaves:
    name = "/".join(key.key for key in path)
    np.testing.assert_array_equal(found[name], value, strict=True)


def test_a_directory_that_is_there_is_left_alone(tmp_path):
  with pytest.raises(ValueError, match="exists, expected a new directory"):
    stablehlo.write(export_test.make_model(export_test.VIT), tmp_path, tmp_path)
  assert not [*tmp_path.iterdir()]


def test_the_loader_imports_jax_and_numpy_alone():
  path = Path(stablehlo_loader.__file__)
  names = set()
  for node in ast.walk(ast.parse(path.read_text("utf-8"))):
    if isinstance(node, ast.Import):
      names |= {alias.name.split(".")[0] for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      names.add(node.module.split(".")[0])
  assert names - sys.stdlib_module_names == {"jax", "numpy"}


def bert_tokenizer(**options):
  """One of BERT's, without ___."""
  words = tokenizer.BUNDLED_VOCABULARY.read_text("utf-8").split()
  vocabulary = {word: i for i, word in enumerate(words) if word != "___"}
  return tokenizers.BertWordPieceTokenizer(vocab=vocabulary, **options)


def json_of(backend):
  backend = tokenizers.Tokenizer.from_str(backend.to_str())
  return tokenizer.Tokenizer(backend, 24)


TOKENIZERS = {
  "bundled": lambda: tokenizer.Tokenizer.from_name("bundled", 24),
  "bert": lambda: json_of(bert_tokenizer(lowercase=True)),
  "cased": lambda: json_of(bert_tokenizer(lowercase=False)),
  "plain": lambda: json_of(
    bert_tokenizer(
      lowercase=True,
      strip_accents=False,
      handle_chinese_chars=False,
      clean_text=False,
    )
  ),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_texts_are_tokenised_as_by_ours(kind):
  ours = TOKENIZERS[kind]()
  texts = [
    *stablehlo_parity.TEXTS,
    "[MASK][PAD] ___ ____ XXXXX XXX _ __ XXXX/___ [UNK]x",
    # Each of Latin, Greek, Cyrillic and general signs, within a word.
    *(f"a{chr(i)}b" for i in (*range(1, 0x58B), *range(0x1E00, 0x2BFF))),
    *(f"A{chr(i)}B" for i in range(0x3000, 0x30000, 0x101) if i >> 11 != 27),
  ]
  if kind == "plain":  # control signs are then nobody's business
    texts = [text for text in texts if text.isprintable()]
  want = ours(texts)
  got = stablehlo_loader.Tokenizer(ours.to_json(), 24)(texts)
  for name, value in zip(
    ("input_ids", "attention_mask", "word_starts"), got, strict=True
  ):
    different = np.flatnonzero((value != want[name]).any(axis=1))
    assert not [ascii(texts[i]) for i in different]
    assert value.dtype == np.int32


def test_another_kind_of_tokenizer_is_refused():
  bert = json.loads(TOKENIZERS["bert"]().to_json())
  stablehlo_loader.Tokenizer(json.dumps(bert), 24)
  changes = [
    {"normalizer": None},
    {"pre_tokenizer": {"type": "Whitespace"}},
    {"post_processor": None},
    {"model": {"type": "BPE"}},
    {"added_tokens": [{**bert["added_tokens"][0], "lstrip": True}]},
  ]
  for change in changes:
    with pytest.raises(ValueError, match="not of BERT's kind"):
      stablehlo_loader.Tokenizer(json.dumps(bert | change), 24)


@pytest.mark.parametrize(
  "shape", [(40, 40), (9, 70), (97, 120), (301, 258), (1024, 768)]
)
def test_images_are_prepared_as_by_ours(exports, shape):
  model = stablehlo_loader.Model(exports / "siglip_with_head")
  rng = np.random.default_rng(0)
  image = rng.integers(0, 256, shape, np.uint8)
  for size in (16, 96):
    model.image_size = size
    want = transforms.eval_image(image, size)
    got = model.prepare(image)
    assert got.dtype == np.uint8 and got.shape == (size, size)
    difference = got.astype(int) - want
    assert np.abs(difference).max() <= 1
    if min(shape) > size / 0.875:  # OpenCV's enlargement rounds down
      assert abs(difference.mean()) < 0.03


def test_what_is_no_image_or_text_is_refused(exports):
  model = stablehlo_loader.Model(exports / "siglip_with_head")
  with pytest.raises(ValueError, match=r"float64 of shape \(40, 40\)"):
    model.prepare(np.zeros((40, 40)))
  with pytest.raises(ValueError, match=r"expected uint8 \(N, 16, 16\)"):
    model.embed_images(np.zeros((16, 16), np.uint8))
  with pytest.raises(ValueError, match="expected a list of texts"):
    model.embed_texts("Edema.")
