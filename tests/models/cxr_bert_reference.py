"""Makes `testdata/cxr_bert.npz`: what CXR-BERT's projection head returns.

The head is written in torch from the description of CXR-BERT-specialized:
linear, gelu, layer norm with eps 1e-12, linear, of every last hidden state.
Tower and head are small, with weights drawn from a seed. Needs torch and
transformers, which the project does not: run it by hand with

  python -m tests.models.cxr_bert_reference
"""

import pathlib

import numpy as np

from tests.models import bert_reference

EMBED_DIM = 16
CONFIG = {
  **bert_reference.CONFIG,
  "model_type": "cxr-bert",
  "projection_size": EMBED_DIM,
  "architectures": ["CXRBertModel"],
  "auto_map": {
    "AutoConfig": "configuration_cxrbert.CXRBertConfig",
    "AutoModel": "modeling_cxrbert.CXRBertModel",
  },
}
PATH = pathlib.Path(__file__).parent / "testdata" / "cxr_bert.npz"
HEAD = "cls_projection_head."


def weights() -> dict[str, np.ndarray]:
  """Returns float32 tensors under CXR-BERT's names, from a seed."""
  tensors = {f"bert.{k}": v for k, v in bert_reference.weights().items()}
  tensors["cls.predictions.bias"] = np.zeros(60, np.float32)
  rng = np.random.default_rng(3)
  width = bert_reference.CONFIG["hidden_size"]
  for name, shape in {
    "dense_to_hidden.weight": (EMBED_DIM, width),
    "dense_to_hidden.bias": (EMBED_DIM,),
    "LayerNorm.weight": (EMBED_DIM,),
    "LayerNorm.bias": (EMBED_DIM,),
    "dense_to_output.weight": (EMBED_DIM, EMBED_DIM),
    "dense_to_output.bias": (EMBED_DIM,),
  }.items():
    tensors[HEAD + name] = rng.normal(0, 0.3, shape).astype(np.float32)
  return tensors


def main():
  import torch  # pyright: ignore
  import transformers
  from torch import nn  # pyright: ignore

  tensors = {name: torch.tensor(value) for name, value in weights().items()}
  tower = transformers.BertModel(
    transformers.BertConfig(**bert_reference.CONFIG)
  ).eval()
  tower.load_state_dict(
    {k.removeprefix("bert."): v for k, v in tensors.items() if k[:5] == "bert."}
  )
  head = nn.Sequential(
    nn.Linear(bert_reference.CONFIG["hidden_size"], EMBED_DIM),
    nn.GELU(),
    nn.LayerNorm(EMBED_DIM, eps=1e-12),
    nn.Linear(EMBED_DIM, EMBED_DIM),
  )
  for i, name in (
    (0, "dense_to_hidden"),
    (2, "LayerNorm"),
    (3, "dense_to_output"),
  ):
    head[i].load_state_dict(
      {leaf: tensors[f"{HEAD}{name}.{leaf}"] for leaf in ("weight", "bias")}
    )
  with torch.no_grad():
    states = tower(
      torch.tensor(bert_reference.INPUT_IDS),
      torch.tensor(bert_reference.ATTENTION_MASK),
    ).last_hidden_state
    np.savez(PATH, projected=head(states).numpy())


if __name__ == "__main__":
  main()
