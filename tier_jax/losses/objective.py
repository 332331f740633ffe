"""All terms of the loss, put together."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from tier_jax.losses import contrastive, entropy, local, ring, statistics

# What of the batch is equal in two pairs that are no negatives of each other.
POSITIVES = {"pair": "", "study": "study_hash", "text": "text_hash"}

# What the released code does.
_AUTHORS = {
  "reduction": "per_token",
  "eps_after_softmax": 1e-7,
  "mask_special_tokens": False,
  "mask_padding": False,
}


@dataclasses.dataclass(frozen=True)
class LossConfig:
  """The weights of all terms, and their switches.

  A contrastive term of weight 0 is not computed. The two entropies always are,
  for the log.

  Attributes:
    infonce_weight: of `contrastive.infonce`, images with texts.
    siglip_weight: of `contrastive.siglip`; give model.init_logit_scale and
      model.init_logit_bias its starting values too.
    image_image_weight: of `contrastive.image_image`, between two augmentations
      of each image; in training only.
    local_weight: of `local.local_contrastive`, all patches with all tokens.
    positives: who is no negative of an image besides its own text: "pair" no
      one, "study" the texts of other images of its study, "text" every text
      that says the same, see `texts.normalise`. Likewise for texts, and for
      images among themselves. Where every image of a study has the same text,
      "text" takes in "study".
    ring: compute InfoNCE, SigLIP and the image-image loss by `ring`: for
      batches whose (B, B) logits do not fit. The numbers are the same but for
      rounding. There is no such form of the local loss.
    local_attention_temperature, local_token_temperature,
      local_logit_temperature, local_chunk_size: see `local.local_logits`.
    token_entropy_weight: multiplies the entropy of each token over patches.
      0.2 lies in the range that the authors searched, but their choice is
      unknown: it is a placeholder, not their value.
    patch_entropy_weight: multiplies the entropy of each patch over tokens;
      0.1 likewise.
    penalty_temperature: > 0, divides the cosines; 1.0 is the paper's.
    reduction: "per_report" or "per_token", see `entropy.similarity_entropies`.
    eps_after_softmax: added to each probability; 1e-7 in the released code.
    mask_special_tokens: leave [CLS] and [SEP] out.
    mask_padding: leave [PAD] out.
    normalize_entropy: divide by the log of the number of outcomes, so that
      a uniform row counts 1.
    compat: "authors" reproduces the released code: both masks off, flat mean,
      eps 1e-7. It overrides those four fields. "none" changes nothing.
  """

  infonce_weight: float = 1.0
  siglip_weight: float = 0.0
  image_image_weight: float = 0.0
  local_weight: float = 0.0
  positives: str = "pair"
  ring: bool = False
  local_attention_temperature: float = 0.25
  local_token_temperature: float = 0.2
  local_logit_temperature: float = 0.1
  local_chunk_size: int = 8
  token_entropy_weight: float = 0.2
  patch_entropy_weight: float = 0.1
  penalty_temperature: float = 1.0
  reduction: str = "per_report"
  eps_after_softmax: float = 0.0
  mask_special_tokens: bool = True
  mask_padding: bool = True
  normalize_entropy: bool = False
  compat: str = "none"

  def __post_init__(self):
    for field, choices in {
      "positives": POSITIVES,
      "reduction": entropy.REDUCTIONS,
      "compat": ("none", "authors"),
    }.items():
      if getattr(self, field) not in choices:
        raise ValueError(
          f"loss.{field} is {getattr(self, field)!r}, expected one of "
          f"{', '.join(choices)}"
        )
    if self.compat == "authors":
      for field, value in _AUTHORS.items():
        object.__setattr__(self, field, value)
    for field in dataclasses.fields(self):
      name, value = field.name, getattr(self, field.name)
      if name.endswith("_weight") or name == "eps_after_softmax":
        if not value >= 0:
          raise ValueError(f"loss.{name} is {value}, expected >= 0")
      elif name.endswith(("_temperature", "_chunk_size")) and not value > 0:
        raise ValueError(f"loss.{name} is {value}, expected > 0")
    if not self.infonce_weight + self.siglip_weight + self.local_weight:
      raise ValueError(
        "loss.infonce_weight, loss.siglip_weight and loss.local_weight are all "
        "0, expected one > 0: nothing else brings images and texts together"
      )
    if self.ring and self.local_weight:
      raise ValueError(
        f"loss.ring is True and loss.local_weight {self.local_weight}, "
        "expected 0: the local loss holds all (B, B) logits anyway"
      )


def compute_losses(
  output: Any,
  batch: Mapping[str, jax.Array],
  config: LossConfig,
  mesh: jax.sharding.Mesh | None = None,
) -> tuple[jax.Array, dict[str, jax.Array]]:
  """Returns the total loss and its parts, all () float32.

  Args:
    output: a `DualEncoderOutput`, or what has its attributes.
    batch: has `attention_mask`, `token_mask`, and for positives other than
      pairs `study_hash` and `text_hash`, see `loader.train_iterator`.
    config: weights and switches.
    mesh: over whose devices the batch is split; `config.ring` needs it.

  Returns:
    total: `contrastive_loss` and the weighted entropies. A weight of 0 leaves
      its entropy out: with both 0 the total is the contrastive loss, bit for
      bit, and no gradient passes through the penalties.
    metrics: `loss` (the total); `contrastive_loss`, the weighted sum of the
      terms whose weight is not 0, and each of them before its weight, in nats:
      `infonce_loss`, `siglip_loss`, `local_loss`, `image_image_loss`; the last
      is left out of both where `second_image_embeds` is None, as in
      evaluation. Entropies, their gaps to uniform, and
      `statistics.similarity_statistics`.

  Raises:
    ValueError: if shapes do not fit, or the ring has no mesh.
  """
  mask = output.first_pieces & entropy.counted_tokens(
    batch["attention_mask"],
    batch["token_mask"],
    mask_special_tokens=config.mask_special_tokens,
    mask_padding=config.mask_padding,
  )
  terms = _contrastive_terms(output, batch, mask, config, mesh)
  contrastive_loss = jnp.zeros(())
  for name, value in terms.items():
    contrastive_loss += getattr(config, f"{name}_weight") * value

  sims = jnp.einsum(
    "btd,bpd->btp",
    output.token_embeds,
    output.patch_embeds,
    preferred_element_type=jnp.float32,
  )  # (B, T, P)
  token_entropy, patch_entropy = entropy.similarity_entropies(
    sims,
    mask,
    temperature=config.penalty_temperature,
    reduction=config.reduction,
    eps=config.eps_after_softmax,
    normalize=config.normalize_entropy,
  )
  total = contrastive_loss
  if config.token_entropy_weight:
    total += config.token_entropy_weight * token_entropy
  if config.patch_entropy_weight:
    total += config.patch_entropy_weight * patch_entropy

  measured = statistics.similarity_statistics(jax.lax.stop_gradient(sims), mask)
  # What uniform similarities would give: the ceilings of the entropies.
  log_patches = math.log(max(sims.shape[2], 2))
  log_tokens = measured.pop("mean_log_tokens")
  token_ceiling, patch_ceiling, nats = log_patches, log_tokens, 1.0
  if config.normalize_entropy:
    token_ceiling, patch_ceiling, nats = 1.0, 1.0, log_patches
  metrics = {
    "loss": total,
    "contrastive_loss": contrastive_loss,
    **{f"{name}_loss": value for name, value in terms.items()},
    "token_entropy": token_entropy,
    "patch_entropy": patch_entropy,
    "token_entropy_gap": token_ceiling - token_entropy,
    "patch_entropy_gap": patch_ceiling - patch_entropy,
    "effective_patches": jnp.exp(token_entropy * nats),
    "logit_scale": output.logit_scale,
    **measured,
  }
  if config.siglip_weight:
    metrics["logit_bias"] = output.logit_bias
  return total, metrics


def _contrastive_terms(output, batch, mask, config, mesh):
  """The terms whose weight is not 0, by name, before their weights."""
  groups = positives = None
  if POSITIVES[config.positives]:
    groups = batch[POSITIVES[config.positives]]
  if config.ring:
    if mesh is None:
      raise ValueError("loss.ring is True, expected a mesh beside the config")
    form, negatives = ring, {"groups": groups, "mesh": mesh}
  else:
    if groups is not None:
      positives = contrastive.same_group(groups, groups)
    form, negatives = contrastive, {"positives": positives}
  terms = {}
  if config.infonce_weight:
    terms["infonce"] = form.infonce(
      output.image_embeds, output.text_embeds, output.logit_scale, **negatives
    )
  if config.siglip_weight:
    terms["siglip"] = form.siglip(
      output.image_embeds,
      output.text_embeds,
      output.logit_scale,
      output.logit_bias,
      **negatives,
    )
  if config.local_weight:
    terms["local"] = local.local_contrastive(
      output.patch_embeds,
      output.token_embeds,
      mask,
      attention_temperature=config.local_attention_temperature,
      token_temperature=config.local_token_temperature,
      logit_temperature=config.local_logit_temperature,
      chunk_size=config.local_chunk_size,
      positives=positives,
    )
  if config.image_image_weight and output.second_image_embeds is not None:
    terms["image_image"] = form.image_image(
      output.image_embeds,
      output.second_image_embeds,
      output.logit_scale,
      **negatives,
    )
  return terms
