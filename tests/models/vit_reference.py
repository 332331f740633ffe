"""Makes `testdata/vit.npz`: what Hugging Face's ViT family makes of an image.

ViT, DINOv2, DINOv2 with registers and SigLIP's vision tower, small, with
weights drawn from a seed, so that only outputs are stored: of the embeddings,
every block, the final norm and SigLIP's pooling head, at the size that the
positions are for and at a larger one; and tables of positions as torch's
`interpolate` resizes them. Needs torch and transformers, which the project
does not: run it by hand with

  python tests/models/vit_reference.py
"""

import json
import pathlib
import tempfile

import numpy as np
import safetensors.numpy

PATH = pathlib.Path(__file__).parent / "testdata" / "vit.npz"
MEAN, STD = (0.48, 0.53, 0.45), (0.21, 0.26, 0.24)
WIDTH, DEPTH, INNER, SIZE, LARGER, PATCH = 24, 2, 40, 12, 20, 4
COMMON = {
  "hidden_size": WIDTH,
  "num_hidden_layers": DEPTH,
  "num_attention_heads": 3,
  "image_size": SIZE,
  "patch_size": PATCH,
}
CONFIGS = {
  "vit": COMMON | {"intermediate_size": INNER},
  "dinov2": COMMON | {"mlp_ratio": 2},
  "dinov2_with_registers": COMMON | {"mlp_ratio": 2, "num_register_tokens": 3},
  "siglip_vision_model": COMMON | {"intermediate_size": INNER},
}


RESIZES = ((3, 5), (7, 4), (8, 3))


def positions(side: int) -> np.ndarray:
  """Returns (1, 1 + side ** 2, 3) float32: a class token's and a grid's."""
  rng = np.random.default_rng(side)
  return rng.normal(size=(1, 1 + side**2, 3)).astype(np.float32)


def image() -> np.ndarray:
  """Returns (1, LARGER, LARGER) uint8."""
  rng = np.random.default_rng(7)
  return rng.integers(0, 256, (1, LARGER, LARGER), np.uint8)


def weights(kind: str) -> dict[str, np.ndarray]:
  """Returns float32 tensors under Hugging Face's names, from a seed."""
  rng = np.random.default_rng(0)
  count = (SIZE // PATCH) ** 2
  shapes = {}

  def dense(name, out, into):
    shapes[f"{name}.weight"] = (out, into)
    shapes[f"{name}.bias"] = (out,)

  def norm(name):
    shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (WIDTH,)

  if kind == "siglip_vision_model":
    patch = "embeddings.patch_embedding"
    shapes["embeddings.position_embedding.weight"] = (count, WIDTH)
    norm("post_layernorm")
    shapes["head.probe"] = (1, 1, WIDTH)
    shapes["head.attention.in_proj_weight"] = (3 * WIDTH, WIDTH)
    shapes["head.attention.in_proj_bias"] = (3 * WIDTH,)
    dense("head.attention.out_proj", WIDTH, WIDTH)
    norm("head.layernorm")
    dense("head.mlp.fc1", INNER, WIDTH)
    dense("head.mlp.fc2", WIDTH, INNER)
  else:
    patch = "embeddings.patch_embeddings.projection"
    shapes["embeddings.position_embeddings"] = (1, 1 + count, WIDTH)
    shapes["embeddings.cls_token"] = (1, 1, WIDTH)
    norm("layernorm")
  shapes[f"{patch}.weight"] = (WIDTH, 3, PATCH, PATCH)
  shapes[f"{patch}.bias"] = (WIDTH,)
  if kind == "vit":
    dense("pooler.dense", WIDTH, WIDTH)
  if kind.startswith("dinov2"):
    shapes["embeddings.mask_token"] = (1, WIDTH)
  if kind == "dinov2_with_registers":
    shapes["embeddings.register_tokens"] = (1, 3, WIDTH)
  for i in range(DEPTH):
    if kind == "siglip_vision_model":
      layer = f"encoder.layers.{i}"
      for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        dense(f"{layer}.self_attn.{name}", WIDTH, WIDTH)
      names = "layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2", INNER
    else:
      layer = f"encoder.layer.{i}"
      for name in ("query", "key", "value"):
        dense(f"{layer}.attention.attention.{name}", WIDTH, WIDTH)
      dense(f"{layer}.attention.output.dense", WIDTH, WIDTH)
      if kind == "vit":
        names = (
          "layernorm_before",
          "layernorm_after",
          "intermediate.dense",
          "output.dense",
          INNER,
        )
      else:
        for j in (1, 2):
          shapes[f"{layer}.layer_scale{j}.lambda1"] = (WIDTH,)
        names = "norm1", "norm2", "mlp.fc1", "mlp.fc2", 2 * WIDTH
    norm1, norm2, fc1, fc2, inner = names
    norm(f"{layer}.{norm1}")
    norm(f"{layer}.{norm2}")
    dense(f"{layer}.{fc1}", inner, WIDTH)
    dense(f"{layer}.{fc2}", WIDTH, inner)
  return {
    name: (
      rng.normal(size=shape) * 0.2
      + (len(shape) == 1 and not name.endswith("bias"))  # norms and scales
    ).astype(np.float32)
    for name, shape in sorted(shapes.items())
  }


def write(kind: str, directory: pathlib.Path) -> None:
  """Writes the model as Hugging Face would."""
  config = {"model_type": kind} | CONFIGS[kind]
  (directory / "config.json").write_text(json.dumps(config))
  (directory / "preprocessor_config.json").write_text(
    json.dumps({"image_mean": MEAN, "image_std": STD})
  )
  safetensors.numpy.save_file(weights(kind), directory / "model.safetensors")


def main():
  import torch  # pyright: ignore
  import transformers

  stored = {}
  for kind, name in (
    ("vit", "ViTModel"),
    ("dinov2", "Dinov2Model"),
    ("dinov2_with_registers", "Dinov2WithRegistersModel"),
    ("siglip_vision_model", "SiglipVisionModel"),
  ):
    with tempfile.TemporaryDirectory() as directory:
      write(kind, pathlib.Path(directory))
      model, info = getattr(transformers, name).from_pretrained(
        directory, output_loading_info=True
      )
    assert not any(info.values()), info  # no key missing, none unknown
    for size in (SIZE, LARGER):
      grey = image()[:, :size, :size, None].astype(np.float32) / 255
      pixels = (grey - np.float32(MEAN)) / np.float32(STD)
      options = {} if "dino" in kind else {"interpolate_pos_encoding": True}
      with torch.no_grad():
        output = model.eval()(
          torch.tensor(pixels.transpose(0, 3, 1, 2)),
          output_hidden_states=True,
          **options,
        )
      *stages, last = [*output.hidden_states, output.last_hidden_state]
      for i, stage in enumerate(stages[: DEPTH + 1]):
        stored[f"{kind}/{size}/{i}"] = stage.numpy()
      stored[f"{kind}/{size}/norm"] = last.numpy()
      if kind == "siglip_vision_model":
        stored[f"{kind}/{size}/pooled"] = output.pooler_output.numpy()
  for old, new in RESIZES:
    grid = positions(old)[:, 1:].reshape(1, old, old, 3).transpose(0, 3, 1, 2)
    for antialias in (False, True):
      stored[f"positions/{old}/{new}/{antialias}"] = (
        torch.nn.functional.interpolate(
          torch.tensor(grid),
          size=(new, new),
          mode="bicubic",
          align_corners=False,
          antialias=antialias,
        )
        .numpy()
        .transpose(0, 2, 3, 1)
        .reshape(1, new * new, 3)
      )
  np.savez_compressed(PATH, **stored)
  for key, value in stored.items():
    print(key, value.shape, f"standard deviation {value.std():.2f}")


if __name__ == "__main__":
  main()
