"""An ImageNet ViT-B/16 and CXR-BERT on MIMIC-CXR: the flagship.

Every field is named, so that each can be a flag. `:smoke` shrinks it to seconds
on a CPU, on whatever data_dir holds. Steps may be "3 epochs" or "100_000
examples" as well.
"""

import math

import ml_collections

_SMOKE = {
  "data": {"tokenizer": "bundled", "max_length": 32, "num_threads": 2},
  "init": {"image": "", "text": ""},
  "model": {
    "image": {
      "variant": "",
      "width": 32,
      "depth": 2,
      "num_heads": 2,
      "mlp_dim": 64,
      "image_size": 32,
      "patch_size": 8,
      "dtype": "float32",
    },
    "text": {
      "vocab_size": 0,  # the tokenizer's
      "hidden_size": 32,
      "num_hidden_layers": 2,
      "num_attention_heads": 2,
      "intermediate_size": 64,
      "max_position_embeddings": 32,
      "dropout_rate": 0.1,
      "dtype": "float32",
    },
  },
  "optim": {"warmup_steps": "1 step"},
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
  """Returns the flagship, or its small form for arg "smoke"."""
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
    "section_choice": "first",
    "sentence_probability": 0.0,
    "num_threads": 16,
    "num_workers": 0,
    "max_corrupt": 0,
    "feature_cache": "",
  }
  config.augment = {
    "min_area": 0.6,
    "max_area": 1.0,
    "min_ratio": 0.9,
    "max_ratio": 1.0,
    "degrees": 10.0,
    "shift": 0.05,
    "scale": 0.05,
    "brightness": 0.2,
    "contrast": 0.2,
  }
  config.model = {
    "embed_dim": 128,
    "init_logit_scale": math.log(1 / 0.07),
    "init_logit_bias": 0.0,
    "patch_dropout": 0.0,
    "merge_wordpieces": False,
    # Parts and sizes are read from the weights where init names some.
    "image": {
      "tower": "vit",
      "variant": "B",
      "image_size": 224,
      "patch_size": 16,
      "pooling": "mean",
      "dtype": "bfloat16",
      "width": 0,  # the variant's, as the next three
      "depth": 0,
      "num_heads": 0,
      "mlp_dim": 0,
      "class_token": False,
      "num_registers": 0,
      "layer_scale": False,
      "activation": "gelu",
      "layer_norm_eps": 1e-6,
      "mean": (0.485, 0.456, 0.406),
      "std": (0.229, 0.224, 0.225),
      # Of the estimated cycles of a step on TPUs, XLA's takes a third more.
      "attention": "fused",
      "scan_layers": False,
      "remat": "none",
    },
    "text": {
      "dropout_rate": 0.1,
      "attention_dropout_rate": 0.0,
      "dtype": "bfloat16",
      "vocab_size": 30522,
      "hidden_size": 768,
      "num_hidden_layers": 12,
      "num_attention_heads": 12,
      "intermediate_size": 3072,
      "max_position_embeddings": 512,
      "type_vocab_size": 2,
      "layer_norm_eps": 1e-12,
      "activation": "gelu",
      "attention": "fused",
      "scan_layers": False,
      "remat": "none",
    },
  }
  # Hub names or local directories of safetensors; launch/convert_weights.py
  # makes these of older files. The ViT's own mean and std go with it.
  config.init = {
    "image": "google/vit-base-patch16-224-in21k",
    "text": "microsoft/BiomedVLP-CXR-BERT-general",
    "heads": "",
  }
  # Placeholders inside the range that the authors searched; their choice is
  # unknown.
  config.loss = {
    "infonce_weight": 1.0,
    "siglip_weight": 0.0,
    "image_image_weight": 0.0,
    "local_weight": 0.0,
    "positives": "pair",
    "ring": False,
    "local_attention_temperature": 0.25,
    "local_token_temperature": 0.2,
    "local_logit_temperature": 0.1,
    "local_chunk_size": 8,
    "token_entropy_weight": 0.2,
    "patch_entropy_weight": 0.1,
    "penalty_temperature": 1.0,
    "reduction": "per_report",
    "normalize_entropy": False,
    "mask_special_tokens": True,
    "mask_padding": True,
    "eps_after_softmax": 0.0,
    "compat": "none",
  }
  config.optim = {
    "optimizer": "adamw",
    "schedule": "cosine",
    "learning_rate": 1e-4,
    "warmup_steps": "1000 steps",
    "weight_decay": 0.05,
    "b1": 0.9,
    "b2": 0.999,
    "eps": 1e-8,
    "clip_norm": 1.0,
    "frozen": (),
    "layer_decay": 1.0,
    "ema_decay": 0.0,
  }
  config.mesh = {"data": -1, "fsdp": 1}
  config.train = {
    "batch_size": 1024,
    "accumulate": 1,
    "num_steps": "10_000 steps",
    "log_every": "50 steps",
    "eval_every": "500 steps",
    "checkpoint_every": "500 steps",
    "diagnostics_every": "200 steps",
    "checkpoint_minutes": 0.0,
    "eval_batch_size": 256,
    "eval_benchmark": "chexpert",
    "on_nonfinite": "abort",
    "max_faults": 10,
    "watchdog_minutes": 10.0,
  }
  if arg == "smoke":
    config.update(_SMOKE)
  return config
