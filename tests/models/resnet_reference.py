"""Makes `testdata/resnet.npz`: stages of Hugging Face's ResNet, in PyTorch.

Weights are drawn from a seed under BioViL's names (torchvision's behind a
prefix), so that only outputs are stored, computed in float64: of the stem
after its pooling, of every stage and of the projector, with running statistics
("eval_...") and with those of the batch ("train_..."); and the running
statistics after that one training step, with the number of values ("....count")
that each norm saw. The projector is four layers of torch as in hi-ml. Needs
torch and transformers, which the project does not: run it by hand with

  python tests/models/resnet_reference.py
"""

import pathlib

import numpy as np

WIDTH, STAGE_SIZES, IMAGE_SIZE, EMBED_DIM = 8, (1, 2, 1, 1), 64, 6
IMAGES = np.random.default_rng(1).integers(
  0, 256, (4, IMAGE_SIZE, IMAGE_SIZE), np.uint8
)
PATH = pathlib.Path(__file__).parent / "testdata" / "resnet.npz"
PREFIX = "encoder.encoder."


def weights() -> dict[str, np.ndarray]:
  """Returns float32 tensors under BioViL's names, from a seed."""
  rng = np.random.default_rng(0)
  tensors = {}

  def conv(name, out, into, size):
    scale = np.sqrt(2 / (into * size * size))
    tensors[name + ".weight"] = rng.normal(0, scale, (out, into, size, size))

  def norm(name, width):
    tensors[name + ".weight"] = rng.uniform(0.5, 1, width)
    tensors[name + ".bias"] = rng.normal(0, 0.2, width)
    tensors[name + ".running_mean"] = rng.normal(0, 0.2, width)
    tensors[name + ".running_var"] = rng.uniform(0.5, 1.5, width)

  conv(PREFIX + "conv1", WIDTH, 3, 7)
  norm(PREFIX + "bn1", WIDTH)
  into = WIDTH
  for stage, size in enumerate(STAGE_SIZES):
    width = WIDTH * 2**stage
    for i in range(size):
      block = f"{PREFIX}layer{stage + 1}.{i}."
      conv(block + "conv1", width, into, 1)
      conv(block + "conv2", width, width, 3)
      conv(block + "conv3", 4 * width, width, 1)
      norm(block + "bn1", width)
      norm(block + "bn2", width)
      norm(block + "bn3", 4 * width)
      if i == 0:
        conv(block + "downsample.0", 4 * width, into, 1)
        norm(block + "downsample.1", 4 * width)
      into = 4 * width
  conv("projector.model.0", EMBED_DIM, into, 1)
  norm("projector.model.1", EMBED_DIM)
  conv("projector.model.3", EMBED_DIM, EMBED_DIM, 1)
  tensors["projector.model.3.bias"] = rng.normal(0, 0.2, EMBED_DIM)
  return {name: value.astype(np.float32) for name, value in tensors.items()}


def _hugging_face_name(name: str) -> str:
  """Returns the key in ResNetModel of a tower's key."""
  module, leaf = name.removeprefix(PREFIX).rsplit(".", 1)
  if "." not in module:
    return f"embedder.embedder.{_PARTS[module[:-1]]}.{leaf}"
  layer, i, rest = module.split(".", 2)
  block = f"encoder.stages.{int(layer[5:]) - 1}.layers.{i}"
  if rest.startswith("downsample"):
    part = "convolution" if rest.endswith("0") else "normalization"
    return f"{block}.shortcut.{part}.{leaf}"
  return f"{block}.layer.{int(rest[-1]) - 1}.{_PARTS[rest[:-1]]}.{leaf}"


_PARTS = {"conv": "convolution", "bn": "normalization"}


def main():
  import torch  # pyright: ignore
  import transformers
  from torch import nn  # pyright: ignore

  tensors = {name: torch.tensor(value) for name, value in weights().items()}
  tower = transformers.ResNetModel(
    transformers.ResNetConfig(
      embedding_size=WIDTH,
      hidden_sizes=[4 * WIDTH * 2**i for i in range(4)],
      depths=list(STAGE_SIZES),
      layer_type="bottleneck",
    )
  )
  projector = nn.Sequential(
    nn.Conv2d(32 * WIDTH, EMBED_DIM, 1, bias=False),
    nn.BatchNorm2d(EMBED_DIM),
    nn.ReLU(),
    nn.Conv2d(EMBED_DIM, EMBED_DIM, 1),
  )
  tower.load_state_dict(
    {
      _hugging_face_name(name): value
      for name, value in tensors.items()
      if name.startswith(PREFIX)
    }
  )
  projector.load_state_dict(
    {
      name.removeprefix("projector.model."): value
      for name, value in tensors.items()
      if name.startswith("projector.")
    }
  )
  tower.double()
  projector.double()
  grey = torch.tensor(IMAGES.astype(np.float64) / 255)
  pixels = grey[:, None].repeat(1, 3, 1, 1)
  stored, counts = {}, {}

  def count(module, inputs):
    counts[module.running_mean] = inputs[0].numel() / inputs[0].shape[1]

  for module in (*tower.modules(), *projector.modules()):
    if isinstance(module, nn.BatchNorm2d):
      module.register_forward_pre_hook(count)
  for mode in ("eval", "train"):
    tower.train(mode == "train")
    projector.train(mode == "train")
    with torch.no_grad():
      states = tower(pixels, output_hidden_states=True).hidden_states
      for name, value in zip(
        ("stem", *(f"stage_{i}" for i in range(4)), "projected"),
        (*states, projector(states[-1])),
        strict=True,
      ):
        stored[f"{mode}_{name}"] = value.permute(0, 2, 3, 1)[:2, ..., ::2]
  after = dict(tower.named_buffers())
  after |= dict(projector.named_buffers(prefix="projector"))
  for name in tensors:
    if "running" in name:
      key = (
        _hugging_face_name(name)
        if name.startswith(PREFIX)
        else name.replace("model.", "")
      )
      stored[name] = after[key]
      if name.endswith("running_mean"):
        stored[name.replace("running_mean", "count")] = torch.tensor(
          counts[after[key]]
        )
  np.savez_compressed(PATH, **{k: v.float().numpy() for k, v in stored.items()})


if __name__ == "__main__":
  main()
