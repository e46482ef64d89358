#!/usr/bin/env bash
# Test on the GPUs (or CPU processes) of one or several nodes with torchrun.
#   tools/dist_test.sh CONFIG WEIGHTS PROCESSES [options of test.py]
# Several nodes: as in dist_train.sh.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 CONFIG WEIGHTS PROCESSES_PER_NODE [test.py options]" >&2
    exit 2
fi
CONFIG=$1 WEIGHTS=$2 PROCESSES=$3
shift 3
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "${PYTHON:-python}" -m torch.distributed.run \
    --nnodes "${NNODES:-1}" --node_rank "${NODE_RANK:-0}" --nproc_per_node "$PROCESSES" \
    --master_addr "${MASTER_ADDR:-127.0.0.1}" --master_port "${PORT:-29500}" \
    "$HERE/test.py" "$CONFIG" "$WEIGHTS" --launcher pytorch "$@"
