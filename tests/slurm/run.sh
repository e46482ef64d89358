#!/usr/bin/env bash
# Train, evaluate, requeue, kill and resume under a real Slurm: tests/slurm/run.sh [FOLDER]
# On a Debian machine, as root. Installs Slurm where it is missing, starts one node, submits the
# project's own tools/slurm_train.sh with two CPU tasks, and checks:
#   1  an uninterrupted job trains and evaluates;
#   2  a job that is requeued (scontrol requeue) resumes by itself;
#   3  a job step that is killed (SIGKILL) and started again resumes;
#   4  both end with the weights of the uninterrupted job, bit for bit;
#   5  tools/slurm_test.sh gives the metrics of the training's last validation.
# Takes about five minutes on two cores.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
ROOT=$(cd "$HERE/../.." && pwd)
FOLDER=$(realpath -m "${1:-$(mktemp -d)}")
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
CONFIG=${CONFIG:-$ROOT/configs/aml/aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py}
export PYTHON OMP_NUM_THREADS=1 PYTHONPATH=$ROOT REF_SHAPES_ROOT=$FOLDER/ref_shapes
export GPUS=2 GPUS_PER_NODE=2 CPUS_PER_TASK=1
unset PYTHONDONTWRITEBYTECODE
mkdir -p "$FOLDER"
cd "$FOLDER" # not the checkout: the scripts work from any folder

if ! command -v slurmctld >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
fi
if [ ! -d "$REF_SHAPES_ROOT" ]; then
    "$PYTHON" "$ROOT/tools/dataset_converters/ref_shapes.py" "$REF_SHAPES_ROOT" \
        --train 48 --val 8 --testA 8 --testB 8 >/dev/null 2>&1
fi
bash "$HERE/start_slurm.sh" "$FOLDER/slurm"
trap 'bash "$HERE/stop_slurm.sh" "$FOLDER/slurm"' EXIT
export SLURM_CONF=$FOLDER/slurm/slurm.conf

OPTIONS=(--cfg-options train_cfg.max_epochs=3 train_cfg.val_interval=1
    train_dataloader.batch_size=4 default_hooks.logger.interval=1
    default_hooks.interrupt.interval=2)

job() { # NAME -> a batch script that runs our script as users do
    cat >"$FOLDER/$1.sbatch" <<BATCH
#!/usr/bin/env bash
#SBATCH --job-name=$1 --ntasks=2 --cpus-per-task=1 --gres=gpu:2 --requeue --open-mode=append
#SBATCH --output=$FOLDER/$1.log
bash "$ROOT/tools/slurm_train.sh" cpu $1 "$CONFIG" --work-dir "$FOLDER/work_$1" ${OPTIONS[*]}
BATCH
}
wait_for() { # NAME PATTERN [SECONDS]: until the job's log holds it
    for _ in $(seq "${3:-300}"); do
        if grep -q "$2" "$FOLDER/$1.log" 2>/dev/null; then return 0; fi
        sleep 1
    done
    echo "FAILED: no \"$2\" in $FOLDER/$1.log" >&2
    tail -30 "$FOLDER/$1.log" >&2
    exit 1
}
wait_end() { # JOB_ID
    while squeue -h -j "$1" 2>/dev/null | grep -q .; do sleep 1; done
}
submit() { sbatch --parsable "$FOLDER/$1.sbatch"; }
check() { # DESCRIPTION COMMAND...
    if "${@:2}"; then echo "ok: $1"; else
        echo "FAILED: $1" >&2
        exit 1
    fi
}

for name in whole requeued killed; do job "$name"; done

ID=$(submit whole)
wait_end "$ID"
check "trained on two tasks" test -f "$FOLDER/work_whole/epoch_3.pth"
check "evaluated" grep -q "ris/original/mIoU" "$FOLDER/whole.log"

ID=$(submit requeued)
wait_for requeued "Epoch(train) \[2\]"
scontrol requeue "$ID"
wait_for requeued "told to stop: .*interrupted.pth holds"
until scontrol update JobId="$ID" StartTime=now 2>/dev/null; do sleep 1; done # not in two minutes
wait_for requeued "resumed epoch"
wait_end "$ID"
check "the requeued job finished" test -f "$FOLDER/work_requeued/epoch_3.pth"

ID=$(submit killed)
wait_for killed "Epoch(train) \[2\]"
scancel --signal=KILL "$ID.0"
wait_end "$ID"
check "the killed job did not finish" test ! -f "$FOLDER/work_killed/epoch_3.pth"
ID=$(submit killed)
wait_end "$ID"
check "started again, it resumed" grep -q "resumed epoch" "$FOLDER/killed.log"

"$PYTHON" "$HERE/compare.py" "$FOLDER"/work_{whole,requeued,killed}/epoch_3.pth
GPUS=2 bash "$ROOT/tools/slurm_test.sh" cpu test "$CONFIG" "$FOLDER/work_whole/epoch_3.pth" \
    --work-dir "$FOLDER/work_test" --split val --json "$FOLDER/test.json" >"$FOLDER/test.log" 2>&1
"$PYTHON" "$HERE/compare.py" --metrics "$FOLDER/test.json" "$FOLDER/whole.log"
echo "all of Slurm's checks passed; logs are in $FOLDER"
