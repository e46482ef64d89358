#!/usr/bin/env bash
# Train under Slurm: from a login node, or as the last line of an sbatch script.
#   tools/slurm_train.sh PARTITION JOB_NAME CONFIG [options of train.py]
# Environment: GPUS (tasks in all, 8), GPUS_PER_NODE (8; 0 = no GPUs asked for), CPUS_PER_TASK (5),
# SRUN_ARGS (more options of srun), PYTHON. A requeued job goes on from its newest checkpoint,
# since --resume is always given; in an empty work folder that starts from the beginning.
set -euo pipefail
if [ $# -lt 3 ]; then
    echo "usage: $0 PARTITION JOB_NAME CONFIG [train.py options]" >&2
    exit 2
fi
PARTITION=$1 JOB_NAME=$2 CONFIG=$3
shift 3
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
GPUS=${GPUS:-8}
GPUS_PER_NODE=${GPUS_PER_NODE:-8}
PER_NODE=$((GPUS_PER_NODE > 0 && GPUS_PER_NODE < GPUS ? GPUS_PER_NODE : GPUS))
RESOURCES=(--ntasks "$GPUS" --ntasks-per-node "$PER_NODE" --cpus-per-task "${CPUS_PER_TASK:-5}")
if [ "$GPUS_PER_NODE" -gt 0 ]; then
    RESOURCES+=(--gres "gpu:$PER_NODE")
fi
RESUME=(--resume)
case " $* " in *" --resume"*) RESUME=() ;; esac
read -r -a SRUN_ARGS <<<"${SRUN_ARGS:-}"
exec srun --partition "$PARTITION" --job-name "$JOB_NAME" "${RESOURCES[@]}" \
    --kill-on-bad-exit=1 ${SRUN_ARGS[@]+"${SRUN_ARGS[@]}"} \
    "${PYTHON:-python}" -u "$HERE/train.py" "$CONFIG" --launcher slurm \
    ${RESUME[@]+"${RESUME[@]}"} "$@"
