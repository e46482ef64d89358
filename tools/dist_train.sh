#!/usr/bin/env bash
# Train on the GPUs (or CPU processes) of one or several nodes with torchrun.
#   tools/dist_train.sh CONFIG PROCESSES [options of train.py]
# Several nodes: run it on each with NNODES, NODE_RANK (0 ...), MASTER_ADDR and PORT set.
# Told to stop, torchrun waits TORCH_ELASTIC_SHUTDOWN_TIMEOUT seconds (300) for its processes to
# save; where `torchrun --help` does not show --shutdown-timeout it waits 30, whatever is set.
set -euo pipefail
export TORCH_ELASTIC_SHUTDOWN_TIMEOUT=${TORCH_ELASTIC_SHUTDOWN_TIMEOUT:-300}
if [ $# -lt 2 ]; then
    echo "usage: $0 CONFIG PROCESSES_PER_NODE [train.py options]" >&2
    exit 2
fi
CONFIG=$1 PROCESSES=$2
shift 2
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$PROCESSES" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$HERE/train.py" "$CONFIG" --launcher pytorch "$@"
