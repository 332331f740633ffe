"""RAD-DINO (DINOv2 ViT-B/14 at 518 px) and CXR-BERT on MIMIC-CXR.

The image tower is frozen but for its last two blocks and norm, the text tower
but for its last four layers: what a strong image tower needs to speak. 1,369
patches a picture: where memory runs out, lower `train.batch_size` first.
`:smoke` shrinks it to seconds on a CPU.
"""

import ml_collections

_SMOKE = {
  "data": {"tokenizer": "bundled", "max_length": 32, "num_threads": 2},
  "init": {"image": "", "text": ""},
  "model": {
    "image": {
      "variant": "",
      "width": 32,
      "depth": 3,
      "num_heads": 2,
      "mlp_dim": 64,
      "image_size": 42,
      "dtype": "float32",
    },
    "text": {
      "vocab_size": 0,  # the tokenizer's
      "hidden_size": 32,
      "num_hidden_layers": 3,
      "num_attention_heads": 2,
      "intermediate_size": 64,
      "max_position_embeddings": 32,
      "dtype": "float32",
    },
  },
  "optim": {
    "warmup_steps": "1 step",
    # Of three layers the last trains.
    "frozen": (
      "image_tower/(patch_embed|position_embed|class_token|block_[01])(/.*)?",
      "text_tower/(.*_embeddings|layer_[01])/.*",
    ),
  },
  "train": {
    "batch_size": 8,
    "num_steps": "4 steps",
    "log_every": "1 step",
    "eval_every": "2 steps",
    "checkpoint_every": "2 steps",
    "diagnostics_every": "2 steps",
    "eval_batch_size": 8,
  },
}


def get_config(arg: str | None = None) -> ml_collections.ConfigDict:
  """Returns the run, or its small form for arg "smoke"."""
  if arg not in (None, "", "smoke"):
    raise ValueError(f"config argument {arg!r}, expected none or 'smoke'")
  config = ml_collections.ConfigDict()
  config.seed = 0
  config.data = {
    "data_dir": "data",
    "datasets": ("mimic_cxr",),
    "tokenizer": "microsoft/BiomedVLP-CXR-BERT-general",
    "max_length": 128,
    "sections": ("impression", "findings"),
    "section_choice": "random",
    "sentence_probability": 0.25,
    "num_threads": 16,
    "num_workers": 0,
  }
  config.augment = {"min_area": 0.6, "max_area": 1.0}
  config.model = {
    "embed_dim": 256,
    "image": {
      "variant": "B",
      "image_size": 518,
      "patch_size": 14,
      "class_token": True,
      "layer_scale": True,
      "pooling": "mean",
      "dtype": "bfloat16",
    },
    "text": {
      "vocab_size": 30522,
      "hidden_size": 768,
      "num_hidden_layers": 12,
      "num_attention_heads": 12,
      "intermediate_size": 3072,
      "max_position_embeddings": 512,
      "dropout_rate": 0.1,
      "dtype": "bfloat16",
    },
  }
  config.init = {
    "image": "microsoft/rad-dino",
    "text": "microsoft/BiomedVLP-CXR-BERT-general",
    "heads": "",
  }
  # Placeholders inside the range that the authors of the penalties searched.
  config.loss = {
    "positives": "text",
    "token_entropy_weight": 0.2,
    "patch_entropy_weight": 0.1,
  }
  config.optim = {
    "learning_rate": 1e-4,
    "warmup_steps": "500 steps",
    "weight_decay": 0.05,
    "clip_norm": 1.0,
    "layer_decay": 0.9,
    "ema_decay": 0.999,
    "frozen": (
      "image_tower/(patch_embed|position_embed|class_token|block_[0-9])(/.*)?",
      "text_tower/(.*_embeddings|layer_[0-7])/.*",
    ),
  }
  config.mesh = {"data": -1, "fsdp": 1}
  config.train = {
    "batch_size": 256,
    "num_steps": "20_000 steps",
    "log_every": "50 steps",
    "eval_every": "1_000 steps",
    "checkpoint_every": "1_000 steps",
    "diagnostics_every": "500 steps",
    "eval_batch_size": 256,
    "eval_benchmark": "chexpert",
  }
  if arg == "smoke":
    config.update(_SMOKE)
  return config
