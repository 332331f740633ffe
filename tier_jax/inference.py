"""A trained model in Python: numpy in, numpy out."""

from pathlib import Path

import jax

from tier_jax import checkpointing, sharding
from tier_jax import config as config_lib
from tier_jax.data import tokenizer
from tier_jax.evaluators import encoder
from tier_jax.models import dual_encoder
from tier_jax.train_state import params_digest


class Model(encoder.Encoder):
  """A restored dual encoder; see `encoder.Encoder` for what it embeds.

  Attributes:
    config: of the training.
    step: updates made.
    params_kind: "ema", the moving average of the parameters, or "raw".
    params_digest: SHA-256 of the parameters.
  """

  config: config_lib.Config
  step: int
  params_kind: str
  params_digest: str


def parse_step(text: str | None) -> int | str | None:
  """Returns the `step` of `load` that a flag names.

  Raises:
    ValueError: if it is neither a number nor "best".
  """
  if text in (None, "best"):
    return text
  if not (text.isascii() and text.isdecimal()):
    raise ValueError(f"--step is {text!r}, expected a number or best")
  return int(text)


def load(
  workdir: str | Path, step: int | str | None = None, params: str | None = None
) -> Model:
  """Returns the model of a checkpoint, from the workdir alone.

  Args:
    workdir: of a training.
    step: a saved step, or "best" for the one that the newest sound step says
      was the best; by default the newest sound step itself.
    params: "ema" for the moving average of the parameters or "raw" for
      themselves; by default the average if the training kept one. Batch
      statistics are running means either way.

  Raises:
    ValueError: if there is no such checkpoint, it is damaged, or there is no
      moving average in it.
  """
  if params not in (None, "ema", "raw"):
    raise ValueError(f"params is {params!r}, expected ema or raw")
  checkpointer = checkpointing.Checkpointer(workdir, read_only=True)
  step = _find(checkpointer, step)
  meta = checkpointer.restore_meta(step)
  checkpointer.close()
  config = config_lib.build(meta["config"])
  kind = params or ("ema" if config.optim.ema_decay else "raw")
  if kind == "ema" and not config.optim.ema_decay:
    raise ValueError(
      f"params is 'ema', but {workdir} was trained with optim.ema_decay 0, "
      "expected raw"
    )
  tokenize = tokenizer.Tokenizer.from_json(
    meta["tokenizer"], config.data.max_length
  )
  network = dual_encoder.DualEncoder(config.model)
  # Evaluation takes all devices, whatever the training's mesh was.
  mesh = sharding.make_mesh(sharding.MeshConfig())
  abstract = jax.eval_shape(
    lambda: dual_encoder.init_variables(
      network, jax.random.key(0), tokenize.max_length
    )
  )
  variables = checkpointing.restore_variables(
    workdir,
    step,
    jax.tree.map(
      lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s),
      abstract,
      sharding.state_sharding(abstract, mesh),
    ),
    averaged=kind == "ema",
  )
  model = Model(network, variables, tokenize, mesh)
  model.config, model.step = config, step
  model.params_kind = kind
  model.params_digest = params_digest(variables["params"])
  return model


def _find(checkpointer: checkpointing.Checkpointer, step) -> int:
  """Returns the number of a step that is sound."""
  directory = checkpointer.directory
  if step in (None, "best"):
    newest = checkpointer.latest_sound()
    if newest is None:
      raise ValueError(f"{directory} holds no sound checkpoint")
    if step is None:
      return newest
    best = checkpointer.restore_progress(newest).get("best")
    if best is None:
      raise ValueError(
        f"step is 'best', but step {newest} in {directory} says of none that "
        "it was the best, expected a number"
      )
    step = best["step"]
    if step == newest:
      return newest
  steps = checkpointer.all_steps()
  if step not in steps:
    raise ValueError(
      f"{directory} holds no checkpoint of step {step}, expected one of {steps}"
    )
  checkpointer.verify(step)
  return step
