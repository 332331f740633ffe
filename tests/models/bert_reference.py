"""Makes `testdata/bert.npz`: hidden states of Hugging Face's BertModel.

The weights are drawn from a seed, so that only outputs are stored. Needs
torch and transformers, which the project does not: run it by hand with

  python tests/models/bert_reference.py
"""

import pathlib

import numpy as np

CONFIG = {
  "model_type": "bert",
  "vocab_size": 60,
  "hidden_size": 32,
  "num_hidden_layers": 2,
  "num_attention_heads": 4,
  "intermediate_size": 64,
  "max_position_embeddings": 16,
  "type_vocab_size": 2,
  "layer_norm_eps": 1e-12,
  "hidden_act": "gelu",
}
INPUT_IDS = np.array([[2, 11, 42, 7, 59, 3, 0], [2, 30, 3, 0, 0, 0, 0]])
ATTENTION_MASK = np.array([[1, 1, 1, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]])
PATH = pathlib.Path(__file__).parent / "testdata" / "bert.npz"


def weights() -> dict[str, np.ndarray]:
  """Returns float32 tensors under Hugging Face's names, from a seed."""
  rng = np.random.default_rng(0)
  width, inner = CONFIG["hidden_size"], CONFIG["intermediate_size"]
  shapes = {
    "embeddings.word_embeddings.weight": (CONFIG["vocab_size"], width),
    "embeddings.position_embeddings.weight": (
      CONFIG["max_position_embeddings"],
      width,
    ),
    "embeddings.token_type_embeddings.weight": (2, width),
    "embeddings.LayerNorm.weight": (width,),
    "embeddings.LayerNorm.bias": (width,),
    "pooler.dense.weight": (width, width),
    "pooler.dense.bias": (width,),
  }
  for i in range(CONFIG["num_hidden_layers"]):
    for name, out, into in (
      ("attention.self.query", width, width),
      ("attention.self.key", width, width),
      ("attention.self.value", width, width),
      ("attention.output.dense", width, width),
      ("intermediate.dense", inner, width),
      ("output.dense", width, inner),
    ):
      shapes[f"encoder.layer.{i}.{name}.weight"] = (out, into)
      shapes[f"encoder.layer.{i}.{name}.bias"] = (out,)
    for name in ("attention.output", "output"):
      shapes[f"encoder.layer.{i}.{name}.LayerNorm.weight"] = (width,)
      shapes[f"encoder.layer.{i}.{name}.LayerNorm.bias"] = (width,)
  return {
    name: (rng.normal(size=shape) * 0.2 + ("LayerNorm.weight" in name)).astype(
      np.float32
    )
    for name, shape in shapes.items()
  }


def main():
  import torch  # pyright: ignore
  import transformers

  model = transformers.BertModel(transformers.BertConfig(**CONFIG)).eval()
  tensors = {name: torch.tensor(value) for name, value in weights().items()}
  model.load_state_dict(tensors)
  with torch.no_grad():
    output = model(
      torch.tensor(INPUT_IDS),
      torch.tensor(ATTENTION_MASK),
      output_hidden_states=True,
    )
  np.savez(PATH, *(h.numpy() for h in output.hidden_states))


if __name__ == "__main__":
  main()
