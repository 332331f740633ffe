#!/bin/bash
# Trains on a Cloud TPU slice without Kubernetes, from the root of this
# repository:
#
#   launch/tpu_vm.sh create|setup|train|delete [--config.FIELD=VALUE ...]
#
# `create` rents the slice, `setup` brings code and data to all of its hosts,
# `train` starts or resumes the training on all of them and stays until it
# ends, `delete` gives the slice back. DRY_RUN=1 prints the commands instead.

set -euo pipefail

# Fill in, here or in the environment. The bucket holds the prepared datasets
# in data/ and gets the runs in runs/.
NAME=${NAME:-tier}
PROJECT=${PROJECT:-my-project}
ZONE=${ZONE:-us-west4-a}
ACCELERATOR=${ACCELERATOR:-v5litepod-256}
IMAGE=${IMAGE:-v2-alpha-tpuv5-lite}
BUCKET=${BUCKET:-my-bucket}
CONFIG=${CONFIG:-configs/vit_b16.py}
RUN=${RUN:-vit_b16}

tpu() {
  ${DRY_RUN:+echo} gcloud compute tpus tpu-vm "$@" \
    --project="$PROJECT" --zone="$ZONE"
}

everywhere() {
  tpu ssh "$NAME" --worker=all --command="$1"
}

command=${1:-}
shift || true
case $command in
  create)
    tpu create "$NAME" --accelerator-type="$ACCELERATOR" --version="$IMAGE"
    ;;
  setup)
    archive=$(mktemp --suffix=.tar.gz)
    trap 'rm -f "$archive"' EXIT
    git archive --output="$archive" HEAD
    tpu scp "$archive" "$NAME:tier_jax.tar.gz" --worker=all
    # Shards are read at random: a copy on each host, not the mounted bucket.
    # The images' own Python is too old. gcsfuse must be there.
    everywhere "
      set -e
      mkdir -p tier_jax data bucket
      tar -xzf tier_jax.tar.gz -C tier_jax
      python3 -m pip install --quiet --user uv
      .local/bin/uv venv --quiet --allow-existing --python 3.12 venv
      .local/bin/uv pip install --quiet --python venv/bin/python \
        -e 'tier_jax[tpu]'
      gcloud storage rsync --recursive gs://$BUCKET/data data
      mountpoint -q bucket || gcsfuse --implicit-dirs $BUCKET bucket"
    ;;
  train)
    # The hosts find each other through the slice's metadata.
    everywhere "
      cd tier_jax && ../venv/bin/python launch/train.py \
        --config=$CONFIG \
        --config.data.data_dir=\$HOME/data \
        --workdir=\$HOME/bucket/runs/$RUN${*:+ ${*@Q}}"
    ;;
  delete)
    tpu delete "$NAME" --quiet
    ;;
  *)
    echo "expected create, setup, train or delete, got '$command'" >&2
    exit 2
    ;;
esac
