#!/usr/bin/env bash
# tools/slurm_batch.sh over its time limit under a real Slurm: tests/slurm/time_limit.sh [FOLDER]
# As run.sh, on a Debian machine as root. The training is a stand-in that answers signals as ours
# does (exit code 143, a checkpoint), so that Slurm's part is seen in three minutes:
#   1  Slurm sends TERM before the limit, and not to the batch script;
#   2  the job is requeued, starts again with --resume and ends by itself with 0;
#   3  a job that fails (exit code 1) is not requeued.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
FOLDER=$(realpath -m "${1:-$(mktemp -d)}")
mkdir -p "$FOLDER"
cd "$FOLDER"
if ! command -v slurmctld >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
fi

cat >"$FOLDER/training" <<'STUB'
#!/usr/bin/env bash
# Called as: python -u train.py CONFIG --launcher slurm --work-dir DIR --resume
echo "start of task $SLURM_PROCID: $*"
[ "$3" = fails.py ] && exit 1
[ -f "$7/last_checkpoint" ] && echo "resumed from $(cat "$7/last_checkpoint")" && exit 0
trap 'sleep 2; mkdir -p "$7"; echo "$7/interrupted.pth" >"$7/last_checkpoint"; exit 143' TERM
while true; do sleep 0.2; done
STUB
chmod +x "$FOLDER/training"
bash "$HERE/start_slurm.sh" "$FOLDER/slurm"
trap 'bash "$HERE/stop_slurm.sh" "$FOLDER/slurm"' EXIT
export SLURM_CONF=$FOLDER/slurm/slurm.conf PYTHON=$FOLDER/training TOOLS=$ROOT/tools

submit() { # CONFIG WORK_DIR
    CONFIG=$1 WORK_DIR=$FOLDER/$2 sbatch --parsable --partition=cpu --ntasks=2 \
        --ntasks-per-node=2 --cpus-per-task=1 --gres=none --time=1 --signal=TERM@20 \
        --output="$FOLDER/$2.log" "$ROOT/tools/slurm_batch.sh"
}
wait_for() { # FILE PATTERN
    for _ in $(seq 240); do
        if grep -q "$2" "$1" 2>/dev/null; then return 0; fi
        sleep 1
    done
    echo "FAILED: no \"$2\" in $1" >&2
    cat "$1" >&2
    exit 1
}

ID=$(submit config.py limited)
wait_for "$FOLDER/limited.log" "the job queues again and goes on from .*interrupted.pth"
until scontrol update JobId="$ID" StartTime=now 2>/dev/null; do sleep 1; done # not in two minutes
wait_for "$FOLDER/limited.log" "resumed from .*interrupted.pth"
echo "ok: signalled before the limit, requeued and resumed"
ID=$(submit fails.py failing)
wait_for "$FOLDER/failing.log" "start of task"
while squeue -h -j "$ID" 2>/dev/null | grep -q .; do sleep 1; done
grep -q "queues again" "$FOLDER/failing.log" && { echo "FAILED: a failure was requeued" >&2; exit 1; }
echo "ok: a failed job stays ended"
