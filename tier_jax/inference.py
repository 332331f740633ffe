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


def load(
  workdir: str | Path, step: int | None = None, params: str | None = None
) -> Model:
  """Returns the model of a checkpoint, from the workdir alone.

  Args:
    workdir: of a training.
    step: a saved step; the newest by default.
    params: "ema" for the moving average of the parameters or "raw" for
      themselves; by default the average if the training kept one. Batch
      statistics are running means either way.

  Raises:
    ValueError: if there is no such checkpoint, or no moving average in it.
  """
  if params not in (None, "ema", "raw"):
    raise ValueError(f"params is {params!r}, expected ema or raw")
  checkpointer = checkpointing.Checkpointer(workdir, read_only=True)
  steps = checkpointer.all_steps()
  if not steps or step not in (None, *steps):
    raise ValueError(
      f"{workdir} holds no checkpoint of step {step}, expected one of {steps}"
    )
  step = steps[-1] if step is None else step
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
