#!/usr/bin/env bash
# The checks of run.sh under a real Slurm of two nodes: tests/multinode/slurm.sh [FOLDER]
# As root on Debian; installs Slurm where it is missing. Each of the two network namespaces has its
# own slurmd, the first one the controller, too; tools/slurm_train.sh takes one task on each:
#   1  an uninterrupted job trains on two nodes and evaluates;
#   2  a job that loses a node (power cut) is requeued by Slurm, and resumes by itself when the node
#      is back;
#   3  it ends with the weights of the uninterrupted job, bit for bit.
# About five minutes on two cores.
set -euo pipefail
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
if ! command -v slurmctld >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends slurmctld slurmd slurm-client munge
fi
# shellcheck source=tests/multinode/common.sh
source "$HERE/common.sh"
export SLURM_CONF=$FOLDER/slurm.conf
mkdir -p "$FOLDER/state"

# No cgroups and no accounting: linuxproc follows processes, so that any container will do. A node
# that does not answer is down after ten seconds, its job is requeued at once.
cat >"$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=ris-a(10.77.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SchedulerType=sched/backfill
SwitchType=switch/none
ReturnToService=2
SlurmdTimeout=10
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool.%n
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.%n.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.%n.log
NodeName=ris-a NodeAddr=10.77.0.1 CPUs=1 RealMemory=1000 State=UNKNOWN
NodeName=ris-b NodeAddr=10.77.0.2 CPUs=1 RealMemory=1000 State=UNKNOWN
PartitionName=cpu Nodes=ris-a,ris-b Default=YES MaxTime=INFINITE State=UP
CONF
echo "CgroupPlugin=cgroup/v1" >"$FOLDER/cgroup.conf" # unused; keeps slurmd from asking systemd

install -d -o munge -g munge -m 0755 /run/munge
MUNGED=''
if ! runuser -u munge -- munge -n >/dev/null 2>&1; then
    runuser -u munge -- /usr/sbin/munged
    sleep 0.5
    MUNGED=$(cat /run/munge/munged.pid)
fi
clean_up() {
    remove_nodes # and with them all that runs there
    if [ -n "$MUNGED" ]; then kill "$MUNGED"; fi
}
trap clean_up EXIT
slurmd_on() { # NODE
    mkdir -p "$FOLDER/spool.$1"
    node "$1" slurmd
}
on_a() { node ris-a "$@"; }
wait_node() { # NODE STATE
    for _ in $(seq 120); do
        if [ "$(on_a sinfo -h -n "$1" -o %T)" = "$2" ]; then return 0; fi
        sleep 0.5
    done
    on_a sinfo
    fail "$1 is not $2" slurmctld
}
on_a slurmctld
slurmd_on ris-a
slurmd_on ris-b
wait_node ris-a idle
wait_node ris-b idle
on_a sinfo

submit() { # NAME -> job number
    cat >"$FOLDER/$1.sbatch" <<BATCH
#!/usr/bin/env bash
#SBATCH --job-name=$1 --nodes=2 --ntasks=2 --cpus-per-task=1 --requeue --open-mode=append
#SBATCH --output=$FOLDER/$1.log --chdir=/
bash "$ROOT/tools/slurm_train.sh" cpu $1 "$CONFIG" --work-dir "$FOLDER/work_$1" --cfg-options \
    train_cfg.max_epochs=3 train_cfg.val_interval=1 train_dataloader.batch_size=4 \
    default_hooks.logger.interval=1 env_cfg.dist_cfg.timeout=20
BATCH
    on_a sbatch --parsable "$FOLDER/$1.sbatch"
}
wait_end() { # JOB
    while on_a squeue -h -j "$1" 2>/dev/null | grep -q .; do sleep 1; done
}
export GPUS=2 GPUS_PER_NODE=0 CPUS_PER_TASK=1 SRUN_ARGS='--ntasks-per-node=1'

JOB=$(submit whole)
wait_end "$JOB"
check "trained on two nodes" test -f "$FOLDER/work_whole/epoch_3.pth"
check "evaluated" grep -q "ris/original/mIoU" "$FOLDER/whole.log"

JOB=$(submit lost)
wait_for lost "Epoch(train) \[2\]"
lose ris-b
for _ in $(seq 120); do
    if on_a squeue -h -j "$JOB" -o %T | grep -q PENDING; then break; fi
    sleep 1
done
check "requeued when ris-b was lost" bash -c "node() { ip netns exec ris-a \"\$@\"; }; \
    node squeue -h -j $JOB -o %T | grep -q PENDING"
bring_back ris-b
slurmd_on ris-b
wait_node ris-b idle
on_a scontrol update JobId="$JOB" StartTime=now # not in two minutes
wait_for lost "resumed epoch"
wait_end "$JOB"
check "resumed and finished" test -f "$FOLDER/work_lost/epoch_3.pth"
"$PYTHON" "$ROOT/tests/slurm/compare.py" "$FOLDER"/work_{whole,lost}/epoch_3.pth
echo "all checks on a Slurm of two nodes passed; logs are in $FOLDER"
