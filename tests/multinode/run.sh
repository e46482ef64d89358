#!/usr/bin/env bash
# Train on two nodes, evaluate, lose one node in the middle, resume: tests/multinode/run.sh [FOLDER]
# As root on Linux, with iproute2. The nodes are two network namespaces of this machine with
# addresses, host names and working directories of their own; FOLDER is the disk they share. They run
# the project's own tools/dist_train.sh and dist_test.sh, one process each, and it is checked that
#   1  an uninterrupted training trains and evaluates;
#   2  when a node is gone without a word, the other one ends with an error, in the time limit set;
#   3  both together resume, and end with the weights of the uninterrupted training, bit for bit;
#   4  dist_test.sh gives the metrics of the training's last validation.
# tests/multinode/slurm.sh does the same with a Slurm of two nodes. About five minutes on two cores.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=tests/multinode/common.sh
source "$HERE/common.sh"

OPTIONS=(train_cfg.max_epochs=3 train_cfg.val_interval=1 train_dataloader.batch_size=4
    default_hooks.logger.interval=1 env_cfg.dist_cfg.timeout=20)
export MASTER_ADDR=ris-a NNODES=2

both() { # NAME SCRIPT ARGUMENT...: the same command on both nodes; logs NAME.0 and NAME.1
    for number in 0 1; do
        (
            cd "$FOLDER/local-$number" # a folder of this node alone
            export NODE_RANK=$number
            node "${NODES[number]}" bash "$ROOT/tools/$2" "${@:3}"
        ) >"$FOLDER/$1.$number.log" 2>&1 &
        PROCESSES[number]=$!
    done
}
train() { # NAME OPTIONS...
    both "$1" dist_train.sh "$CONFIG" 1 --work-dir "$FOLDER/work_$1" "${@:2}" \
        --cfg-options "${OPTIONS[@]}"
}
finish() { # NAME: both nodes end well
    for number in 0 1; do
        wait "${PROCESSES[number]}" || fail "${NODES[number]} failed" "$1.$number"
    done
}
PROCESSES=()
trap remove_nodes EXIT

train whole
finish whole
check "trained on two nodes" test -f "$FOLDER/work_whole/epoch_3.pth"
check "evaluated" grep -q "ris/original/mIoU" "$FOLDER/whole.0.log"

train lost
wait_for lost.0 "Epoch(train) \[2\]"
lose ris-b
SECONDS=0
if wait "${PROCESSES[0]}"; then fail "ris-a goes on without ris-b" lost.0; fi
echo "ok: ris-a ended $SECONDS s after ris-b was lost"
check "in the middle" test ! -f "$FOLDER/work_lost/epoch_3.pth"
bring_back ris-b
train lost --resume
finish lost
check "resumed" grep -q "resumed epoch" "$FOLDER/lost.0.log"
"$PYTHON" "$ROOT/tests/slurm/compare.py" "$FOLDER"/work_{whole,lost}/epoch_3.pth

both test dist_test.sh "$CONFIG" "$FOLDER/work_whole/epoch_3.pth" 1 \
    --work-dir "$FOLDER/work_test" --split val --json "$FOLDER/test.json"
finish test
"$PYTHON" "$ROOT/tests/slurm/compare.py" --metrics "$FOLDER/test.json" "$FOLDER/whole.0.log"
check "no file of the evaluation in the nodes' own folders" \
    test -z "$(find "$FOLDER"/local-* -type f)"
echo "all checks on two nodes passed; logs are in $FOLDER"
