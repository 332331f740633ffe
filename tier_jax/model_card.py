"""The page that goes with an exported model: what it is, what it scored."""

from collections.abc import Iterable
from pathlib import Path

from tier_jax import inference
from tier_jax.evaluators import runs, wording


def text(
  model: inference.Model, tower: str, use: Iterable[str], workdir: Path
) -> str:
  """Returns the card, made of the run's own record alone.

  Args:
    model: a restored training.
    tower: what the image tower is called.
    use: lines that say how to load what the card goes with.
    workdir: of the training; its metrics.json, where there is one, goes into
      the card.

  Raises:
    ValueError: if metrics.json is not what `launch/eval.py` writes.
  """
  config, rendering = model.config, model.rendering
  image, bert, loss = config.model.image, config.model.text, config.loss
  optim, train = config.optim, config.train
  weights = {
    name: value
    for name, value in sorted(vars(loss).items())
    if name.endswith("_weight") and value
  }

  def origin(value):
    # A directory's name says what it was; the rest of its path is nobody's
    # business.
    return (Path(value).name or "weights without a name") if value else "random"

  rows = {
    "image tower": f"{tower}, {image.image_size} px",
    "pixels": f"in [0, 1], less {_numbers(image.mean)}, "
    f"divided by {_numbers(image.std)}",
    "files read by": f"recipe {rendering.recipe}, to {rendering.short_side} px",
    "text tower": f"bert, {bert.num_hidden_layers} layers of "
    f"{bert.hidden_size}",
    "word-pieces": "of one word are averaged before projection"
    if config.model.merge_wordpieces
    else "are projected one by one",
    "joint space": f"{config.model.embed_dim} dimensions",
    "image tower started from": origin(config.init.image),
    "text tower started from": origin(config.init.text),
    "heads started from": origin(config.init.heads),
    "trained on": ", ".join(config.data.datasets),
    "steps, pairs a step": f"{model.step} of {train.num_steps}, "
    f"{train.batch_size}",
    "seed": config.seed,
    "loss": ", ".join(f"{name} {value:g}" for name, value in weights.items()),
    "positives": loss.positives,
    "penalties": f"compat {loss.compat}, reduction {loss.reduction}, "
    f"temperature {loss.penalty_temperature:g}, "
    f"eps {loss.eps_after_softmax:g}, normalised {loss.normalize_entropy}",
    "optimiser": f"{optim.optimizer}, learning rate {optim.learning_rate:g} "
    f"({optim.schedule}, {optim.warmup_steps} steps of warm-up), "
    f"weight decay {optim.weight_decay:g}, layer decay {optim.layer_decay:g}",
    "frozen": ", ".join(optim.frozen) or "nothing",
    "parameters": {
      "ema": f"their moving average, decay {optim.ema_decay:g}",
      "raw": "those of the last step",
    }[model.params_kind],
    "parameters sha256": model.params_digest,
  }
  return "\n".join(
    [
      "---",
      "library_name: tier_jax",
      "tags: [radiology, chest-x-ray, zero-shot, image-text]",
      "---",
      "",
      "# Chest x-ray dual encoder",
      "",
      "**Research software, not for clinical use.** Weights that were trained",
      "on licensed data stay under that data's terms.",
      "",
      *_table(("", ""), rows.items()),
      "",
      "## Scores",
      "",
      *_scores(model, workdir),
      "",
      "## Use",
      "",
      *use,
      "",
    ]
  )


def _scores(model, workdir) -> list[str]:
  """Lines of the card: what this very checkpoint scored, if it was scored."""
  path = workdir / "metrics.json"
  if not path.is_file():
    return ["Not evaluated."]
  metrics = runs.read("", workdir, workdir).metrics
  try:
    if metrics.get("params_sha256") != model.params_digest:
      return [
        "Not evaluated: what the work directory holds is of other weights."
      ]
    rows = [
      (
        name,
        entry["split"],
        entry["rows"],
        wording.interval(entry["macro_auroc"]),
      )
      for name, entry in metrics["benchmarks"].items()
    ]
  except (AttributeError, KeyError, TypeError, ValueError) as error:
    raise ValueError(
      f"{path.name} is not what launch/eval.py writes: {error!r}"
    ) from error
  return [
    "Zero-shot, macro AUROC [95 % interval over patients]:",
    "",
    *_table(("benchmark", "split", "rows", "macro AUROC"), rows),
  ]


def _table(head, rows) -> list[str]:
  """Lines of a table; a regular expression's | ends no cell."""
  return [
    "| " + " | ".join(str(cell).replace("|", r"\|") for cell in row) + " |"
    for row in (head, ("---",) * len(head), *rows)
  ]


def _numbers(values) -> str:
  return ", ".join(f"{value:g}" for value in values)
