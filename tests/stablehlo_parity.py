"""Compares exports as StableHLO, run by jax alone, with ours.

In the project's environment, then in one that has jax and nothing else:

  python -m tests.stablehlo_parity write DIR [WORKDIR]
  python tests/stablehlo_parity.py check DIR

The first writes an export of every family of towers, and one of the training in
WORKDIR, with what ours makes of fixed images and texts; the second runs them
by their load.py and prints the largest difference of each output. It ends with
an error if one is above 1e-5, or if a package of ours is there.
"""

import importlib.util
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import numpy as np

BATCHES = (1, 7)
OUTPUTS = ("image_embeds", "patch_embeds", "text_embeds", "token_embeds")
OURS = ("flatbuffers", "flax", "tier_jax", "tokenizers", "cv2")
TEXTS = (
  "Small left pleural effusion, unchanged since ___. No pneumothorax.",
  "",
  "COMPARISON: XXXX-XXXX.  Heart size is enlarged (3.5 cm)\tand\nstable!",
  "Épanchement pleural à gauche; naïve [UNK] œdème\u00a0— “grösser” als 胸部.",
  "pneumonoultramicroscopicsilicovolcanoconiosis " * 3,
  "a" * 101 + " zq\u200bx\u0301 5'3\" __/__ _ x___y ~ $5 [CLS] [sep]",
  "İ ΣΑΣ \ufb01brosis ½ \u2028 \x07\x00\ufffd 1\u20442 🫁",
)


def images(size):
  return np.random.default_rng(1).integers(0, 256, (7, size, size), np.uint8)


def write(
  directory: Path, workdir: str = "", families: Sequence[str] = ()
) -> None:
  import jax

  from tests import export_test
  from tier_jax import inference, stablehlo

  models = {
    family: export_test.make_model(export_test.TOWERS[family])
    for family in families or export_test.TOWERS
  }
  for model in models.values():  # a variance is not below 0
    stats = model.encoder.variables["batch_stats"]
    model.encoder.variables["batch_stats"] = jax.tree.map(np.abs, stats)
  if workdir:
    models["workdir"] = inference.load(workdir)
  for name, model in models.items():
    stablehlo.write(model, directory / name, Path(workdir or directory))
    texts = model.encoder.embed_texts(TEXTS)
    tokens = model.encoder.tokenize(TEXTS)
    vectors, patches = model.encoder.embed_images(
      images(model.encoder.image_size)
    )
    np.savez(
      directory / f"{name}.npz",
      image_embeds=vectors,
      patch_embeds=patches,
      text_embeds=texts.text_embeds,
      token_embeds=texts.token_embeds,
      input_ids=tokens["input_ids"],
      attention_mask=tokens["attention_mask"],
      word_starts=tokens["word_starts"],
    )


def load(directory: Path):
  """Returns an export's load.py, as a module."""
  spec = importlib.util.spec_from_file_location("load", directory / "load.py")
  assert spec and spec.loader
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def check(directory: Path) -> None:
  if there := [name for name in OURS if importlib.util.find_spec(name)]:
    sys.exit(f"error: {', '.join(there)} can be imported, expected jax alone")
  print(*sorted(f"{d.name} {d.version}" for d in metadata.distributions()))
  worst = 0.0
  exports = sorted(directory.glob("*.npz"))
  if not exports:
    sys.exit(f"error: {directory} holds no export")
  for path in exports:
    want = np.load(path)
    model = load(path.with_suffix("")).Model()
    names = ("input_ids", "attention_mask", "word_starts")
    for name, value in zip(names, model.tokenize(TEXTS), strict=True):
      if not np.array_equal(value, want[name]):
        sys.exit(f"error: {path.stem} has other {name}")
    for count in BATCHES:
      got = (
        *model.embed_images(images(model.image_size)[:count]),
        *model.embed_texts(TEXTS[:count]),
      )
      differences = {
        name: float(np.abs(value - want[name][:count]).max())
        for name, value in zip(OUTPUTS, got, strict=True)
      }
      worst = np.max([worst, *differences.values()])  # NaN if one is
      figures = " ".join(f"{n} {d:.1e}" for n, d in differences.items())
      print(f"{path.stem}, {count}: {figures}")
  if not 0 <= worst <= 1e-5:
    sys.exit(f"error: the largest difference is {worst:.1e}, expected 1e-5")


if __name__ == "__main__":
  {"write": write, "check": check}[sys.argv[1]](
    Path(sys.argv[2]), *sys.argv[3:]
  )
