#!/usr/bin/env bash
# A training that outlives its time limit: copy this file, set the lines marked HERE, and sbatch it.
#SBATCH --job-name=ris --partition=gpu                                        # HERE
#SBATCH --ntasks=16 --ntasks-per-node=8 --gres=gpu:8 --cpus-per-task=5        # HERE
#SBATCH --time=24:00:00                                                       # HERE
# TERM goes to all tasks so many seconds before the limit: more than ten iterations (or validation
# batches) and one writing of a checkpoint take.
#SBATCH --signal=TERM@300
# Without requeue and append a second start would be refused, or overwrite the log of the first.
#SBATCH --requeue --open-mode=append --output=%x_%j.log

CONFIG=${CONFIG:?set CONFIG to a config file}
WORK_DIR=${WORK_DIR:?set WORK_DIR to a folder that all nodes see, one for each run}
TOOLS=${TOOLS:-$SLURM_SUBMIT_DIR/tools}

srun --kill-on-bad-exit=1 "${PYTHON:-python}" -u "$TOOLS/train.py" "$CONFIG" \
    --launcher slurm --work-dir "$WORK_DIR" --resume "$@"
CODE=$?

# 143: told to stop, and everything is saved. Anything else is a result or an error: leave it.
if [ "$CODE" -eq 143 ]; then
    echo "time is over: the job queues again and goes on from $(cat "$WORK_DIR/last_checkpoint")"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"
