"""Compares exports in transformers with ours; needs PyTorch, so run by hand.

In the project's environment, then in one that has torch and transformers:

  python -m tests.export_parity write DIR
  python tests/export_parity.py check DIR

The first writes an export of every family of towers and what ours makes of
fixed inputs; the second loads the exports with transformers, puts the heads on
top in plain PyTorch, and prints the largest difference of each output. It ends
with an error if one is above 1e-5.
"""

import json
import sys
from pathlib import Path

import numpy as np

SIZE, LENGTH = 16, 8
OUTPUTS = ("image_embeds", "patch_embeds", "text_embeds", "token_embeds")


def images(size):
  return np.random.default_rng(1).integers(0, 256, (3, size, size), np.uint8)


def tokens():
  rng = np.random.default_rng(2)
  attention = np.arange(LENGTH)[None] < np.array([[8], [5], [3]])
  return rng.integers(5, 200, (3, LENGTH)) * attention, attention.astype(int)


def write(directory: Path) -> None:
  import jax

  from tests import export_test
  from tier_jax import export
  from tier_jax.models import dual_encoder

  for family, image in export_test.TOWERS.items():
    if family == "biovil_resnet50":
      continue  # no class of transformers
    model = export_test.make_model(image)
    export.write(model, directory / family, directory)
    ids, attention = tokens()
    output = dual_encoder.DualEncoder(model.config.model).apply(
      model.encoder.variables,
      images(SIZE),
      ids,
      attention,
      np.tile(np.arange(LENGTH), (3, 1)),
    )
    np.savez(
      directory / family / "expected.npz",
      pooling=image.get("pooling", "mean"),
      registers=image.get("num_registers", 0),
      **{name: jax.device_get(getattr(output, name)) for name in OUTPUTS},
    )


def check(directory: Path) -> None:
  import safetensors.torch  # pyright: ignore
  import torch  # pyright: ignore
  import transformers

  def head(x, weights, prefix):
    def dense(x, name):
      kernel = weights[f"{prefix}/{name}/kernel"]
      return x @ kernel + weights[f"{prefix}/{name}/bias"]

    x = torch.nn.functional.gelu(dense(x, "dense"))
    x = torch.nn.functional.layer_norm(
      x,
      x.shape[-1:],
      weights[f"{prefix}/norm/scale"],
      weights[f"{prefix}/norm/bias"],
      1e-12,
    )
    return dense(x, "out")

  def unit(x):
    return x / x.norm(dim=-1, keepdim=True)

  worst = 0.0
  for path in sorted(directory.iterdir()):
    want = np.load(path / "expected.npz")
    pooling, registers = str(want["pooling"]), int(want["registers"])
    heads = safetensors.torch.load_file(path / "heads.safetensors")
    image_tower = transformers.AutoModel.from_pretrained(path / "image_tower")
    text_tower = transformers.AutoModel.from_pretrained(path / "text_tower")
    about = json.loads(
      (path / "image_tower/preprocessor_config.json").read_text()
    )
    grey = torch.tensor(images(SIZE))[:, None].float() / 255
    pixels = (
      grey.repeat(1, 3, 1, 1) - torch.tensor(about["image_mean"])[:, None, None]
    ) / torch.tensor(about["image_std"])[:, None, None]
    with torch.no_grad():
      seen = image_tower.eval()(pixel_values=pixels)
      hidden = seen.last_hidden_state
      first = 0 if "siglip" in path.name else 1 + registers
      patches = head(hidden[:, first:], heads, "image_head")
      if pooling == "mean":
        pooled = patches.mean(1)
      else:
        vector = hidden[:, 0] if pooling == "class" else seen.pooler_output
        pooled = head(vector, heads, "image_head")
      ids, attention = (torch.tensor(x) for x in tokens())
      texts = text_tower.eval()(input_ids=ids, attention_mask=attention)
      token_embeds = unit(head(texts.last_hidden_state, heads, "text_head"))
    got = dict(
      zip(
        OUTPUTS,
        (unit(pooled), unit(patches), token_embeds[:, 0], token_embeds),
        strict=True,
      )
    )
    kept = tokens()[1].astype(bool)
    for name, value in got.items():
      a, b = value.numpy(), want[name]
      if name == "token_embeds":  # padding sees what it likes
        a, b = a[kept], b[kept]
      difference = float(np.abs(a - b).max())
      worst = max(worst, difference)
      print(f"{path.name} {name}: {difference:.1e}")
  if worst > 1e-5:
    sys.exit(f"error: the largest difference is {worst:.1e}, expected 1e-5")


if __name__ == "__main__":
  {"write": write, "check": check}[sys.argv[1]](Path(sys.argv[2]))
