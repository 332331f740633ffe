"""The two-core run of `make demo`: small towers from scratch on phantoms.

`:tier` has the penalties, `:plain` has not; nothing else differs. `:siglip`,
`:siglip_tier` and `:local` are the other objectives of `make objectives`.
"""

import math

import ml_collections

_TIER = {"token_entropy_weight": 0.2, "patch_entropy_weight": 0.1}
_PLAIN = {"token_entropy_weight": 0.0, "patch_entropy_weight": 0.0}
_SIGLIP = {"infonce_weight": 0.0, "siglip_weight": 1.0}
LOSSES = {
  "tier": _TIER,
  "plain": _PLAIN,
  "siglip": _SIGLIP | _PLAIN,
  "siglip_tier": _SIGLIP | _TIER,
  # As in GLoRIA, beside the global loss and not in its place.
  "local": {"local_weight": 1.0} | _PLAIN,
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the demo with the objective that `arg` names, by default tier."""
  arg = arg or "tier"
  if arg not in LOSSES:
    raise ValueError(
      f"config argument {arg!r}, expected one of {', '.join(LOSSES)}"
    )
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = {
    "data_dir": "runs/demo/data",
    "datasets": ("mimic_cxr",),
    "tokenizer": "bundled",
    "max_length": 40,
    "sections": ("impression", "findings"),
    # Prompts are single sentences: half of the texts should be too.
    "sentence_probability": 0.5,
    "num_threads": 2,
    "num_workers": 0,
  }
  config.augment = {
    "min_area": 0.85,
    "degrees": 6.0,
    "shift": 0.03,
    "scale": 0.02,
    "brightness": 0.1,
    "contrast": 0.15,
  }
  siglip = arg.startswith("siglip")  # has starting values of its own
  config.model = {
    "embed_dim": 128,
    "init_logit_scale": math.log(10 if siglip else 1 / 0.07),
    "init_logit_bias": -10.0 if siglip else 0.0,
    "image": {
      "image_size": 96,
      "patch_size": 12,
      "width": 96,
      "depth": 3,
      "num_heads": 3,
      "mlp_dim": 192,
      "activation": "relu",  # twice as fast as gelu on a CPU
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
  config.init = {"image": "", "text": "", "heads": ""}  # random
  config.loss = {
    "infonce_weight": 1.0,
    "siglip_weight": 0.0,
    "local_weight": 0.0,
    **LOSSES[arg],
  }
  config.optim = {
    "learning_rate": 1e-3,
    "warmup_steps": "50 steps",
    "weight_decay": 0.05,
  }
  config.train = {
    "batch_size": 64,
    "num_steps": "1350 steps",
    "log_every": "25 steps",
    "eval_every": "450 steps",
    "checkpoint_every": "450 steps",
    "diagnostics_every": "200 steps",
    "eval_batch_size": 64,
    "eval_benchmark": "chexpert",
  }
  return config
