"""BERT text tower: embeddings and post-norm Transformer blocks.

Source: Devlin et al., "BERT", 2019. Parameter names follow the parts of
Hugging Face's `BertModel`, whose weights `pretrained.py` maps onto them; the
pooler is left out.
"""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from tier_jax.models import attention, layers

# Instead of -inf, of which a row with nothing left would make NaN.
_LOWEST = float(jnp.finfo(jnp.float32).min)


@dataclasses.dataclass(frozen=True)
class BertConfig:
  """The text tower's shape; the first eight as in Hugging Face's config.json.

  Attributes:
    vocab_size: number of word-pieces; 0 stands for the tokenizer's, which
      training fills in.
    hidden_size, num_hidden_layers, num_attention_heads, intermediate_size:
      sizes of the Transformer.
    max_position_embeddings: longest text, in tokens.
    type_vocab_size: segments; reports use only the first.
    layer_norm_eps: 1e-12 in BERT.
    activation: "gelu" is the exact (erf) form, which pretrained weights need;
      "relu" is faster on CPUs, for towers trained from scratch.
    dropout_rate: of hidden states, while training.
    attention_dropout_rate: of the attention's weights, while training.
    dtype: of the activations; parameters and norms stay float32.
    attention, remat, scan_layers: as in `vit.ViTConfig`.
  """

  vocab_size: int = 30522
  hidden_size: int = 768
  num_hidden_layers: int = 12
  num_attention_heads: int = 12
  intermediate_size: int = 3072
  max_position_embeddings: int = 512
  type_vocab_size: int = 2
  layer_norm_eps: float = 1e-12
  activation: str = "gelu"
  dropout_rate: float = 0.0
  attention_dropout_rate: float = 0.0
  dtype: str = "float32"
  attention: str = "xla"
  remat: str = "none"
  scan_layers: bool = False

  def __post_init__(self):
    if self.vocab_size < 0:
      raise ValueError(f"text.vocab_size is {self.vocab_size}, expected >= 0")
    for field in (
      "hidden_size",
      "num_hidden_layers",
      "num_attention_heads",
      "intermediate_size",
      "max_position_embeddings",
      "type_vocab_size",
    ):
      if getattr(self, field) < 1:
        raise ValueError(
          f"text.{field} is {getattr(self, field)}, expected >= 1"
        )
    if self.hidden_size % self.num_attention_heads:
      raise ValueError(
        f"text.hidden_size {self.hidden_size} is not a multiple of "
        f"text.num_attention_heads {self.num_attention_heads}"
      )
    for field in ("dropout_rate", "attention_dropout_rate"):
      if not 0 <= getattr(self, field) < 1:
        raise ValueError(
          f"text.{field} is {getattr(self, field)}, expected 0 <= rate < 1"
        )
    layers.check_activation("text", self.activation)
    layers.check_dtype("text", self.dtype)
    layers.check_remat("text", self.remat)
    attention.check_kind("text", self.attention)


class Bert(nn.Module):
  """Returns token features (B, T, W) of input_ids (B, T).

  `attention_mask` (B, T) is 0 on padding. Dropout needs the "dropout" rng.
  """

  config: BertConfig

  @nn.compact
  def __call__(
    self,
    input_ids: jax.Array,
    attention_mask: jax.Array,
    *,
    deterministic: bool = True,
  ) -> jax.Array:
    config = self.config
    if not config.vocab_size:
      raise ValueError("text.vocab_size is 0, expected the tokenizer's size")
    length = input_ids.shape[1]
    if length > config.max_position_embeddings:
      raise ValueError(
        f"texts of {length} tokens, expected at most "
        f"text.max_position_embeddings {config.max_position_embeddings}"
      )
    dtype = jnp.dtype(config.dtype)

    def embed(count, name):
      return nn.Embed(
        count,
        config.hidden_size,
        embedding_init=nn.initializers.normal(0.02),
        name=name,
      )

    # Cast after the look-up: before it, whole tables would be cast each step.
    x = embed(config.vocab_size, "word_embeddings")(input_ids)  # (B, T, W)
    x += embed(config.max_position_embeddings, "position_embeddings")(
      jnp.arange(length)
    )
    x += embed(config.type_vocab_size, "token_type_embeddings")(
      jnp.zeros((), jnp.int32)
    )
    x = x.astype(dtype)
    x = nn.LayerNorm(
      config.layer_norm_eps, dtype=dtype, name="norm_embeddings"
    )(x)
    x = nn.Dropout(config.dropout_rate)(x, deterministic=deterministic)
    mask = attention_mask.astype(bool)
    rngs = None
    if not deterministic and (
      config.dropout_rate or config.attention_dropout_rate
    ):
      rngs = jax.random.split(
        self.make_rng("dropout"), config.num_hidden_layers
      )
    return layers.run_blocks(
      self,
      functools.partial(Block, config),
      [f"layer_{i}" for i in range(config.num_hidden_layers)],
      x,
      mask,
      rngs=rngs,
      remat=config.remat,
      scan=config.scan_layers,
    )


class Block(nn.Module):
  """Post-norm Transformer block; with an rng key it drops out."""

  config: BertConfig

  @nn.compact
  def __call__(
    self, x: jax.Array, rng: jax.Array | None, mask: jax.Array
  ) -> jax.Array:
    config = self.config
    dtype = jnp.dtype(config.dtype)
    rngs = [None] * 3 if rng is None else jax.random.split(rng, 3)

    def drop(y, rate, i):
      return nn.Dropout(rate, deterministic=rng is None)(y, rng=rngs[i])

    def dense(features, name):
      return layers.Dense(features, dtype, name=name)

    def norm(name):
      return nn.LayerNorm(config.layer_norm_eps, dtype=dtype, name=name)

    def heads(y):
      return y.reshape(*y.shape[:2], config.num_attention_heads, -1)

    query, key, value = (
      dense(config.hidden_size, name)(x) for name in ("query", "key", "value")
    )
    if config.attention_dropout_rate and rng is not None:
      # Written out: the fused forms have no dropout.
      query, key, value = (heads(y) for y in (query, key, value))
      logits = jnp.einsum(
        "bthd,bshd->bhts", query, key, preferred_element_type=jnp.float32
      )
      logits = logits / query.shape[-1] ** 0.5
      logits = jnp.where(mask[:, None, None], logits, _LOWEST)
      weights = nn.softmax(logits).astype(dtype)
      weights = drop(weights, config.attention_dropout_rate, 0)
      y = jnp.einsum("bhts,bshd->bthd", weights, value).reshape(x.shape)
    else:
      y = attention.attend(
        query,
        key,
        value,
        config.num_attention_heads,
        mask=mask,
        kind=config.attention,
      )
    y = dense(config.hidden_size, "attention_out")(y)
    y = drop(y, config.dropout_rate, 1)
    x = norm("norm_attention")(x + y)

    y = dense(config.intermediate_size, "mlp_in")(x)
    y = layers.activate(y, config.activation)
    y = dense(config.hidden_size, "mlp_out")(y)
    return norm("norm_mlp")(x + drop(y, config.dropout_rate, 2))
