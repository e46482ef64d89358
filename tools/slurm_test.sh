#!/usr/bin/env bash
# Test under Slurm.
#   tools/slurm_test.sh PARTITION JOB_NAME CONFIG WEIGHTS [options of test.py]
# Environment: as in slurm_train.sh.
set -euo pipefail
if [ $# -lt 4 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG WEIGHTS [test.py options]" >&2
    exit 2
fi
PARTITION=$1 JOB_NAME=$2 CONFIG=$3 WEIGHTS=$4
shift 4
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
PER_NODE=$((GPUS_PER_NODE > 0 && GPUS_PER_NODE < GPUS ? GPUS_PER_NODE : GPUS))
RESOURCES=(--ntasks "$GPUS" --ntasks-per-node "$PER_NODE" --cpus-per-task "${CPUS_PER_TASK:-5}")
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    RESOURCES+=(--gres "gpu:$PER_NODE")
fi
read -r -a SRUN_ARGS <<<"${SRUN_ARGS:-}"
exec srun --partition "$PARTITION" --job-name "$JOB_NAME" "${RESOURCES[@]}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS[@]+"${SRUN_ARGS[@]}"} \
    "${PYTHON:-python}" -u "$HERE/test.py" "$CONFIG" "$WEIGHTS" --launcher slurm "$@"
