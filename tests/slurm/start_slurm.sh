#!/usr/bin/env bash
# A real Slurm of one node without systemd, for tests: tests/slurm/start_slurm.sh FOLDER
# Needs root and Debian's slurmctld, slurmd, slurm-client and munge. Then:
#   export SLURM_CONF=FOLDER/slurm.conf
set -euo pipefail
FOLDER=$(realpath -m "$1")
CPUS=$(nproc --all) # plain nproc obeys OMP_NUM_THREADS
HOST=$(hostname -s)
MEMORY=$(awk '/MemTotal/ { print int($2 / 1024 * 0.9) }' /proc/meminfo)
mkdir -p "$FOLDER"/state "$FOLDER"/spool
chmod 755 "$FOLDER" "$FOLDER"/state "$FOLDER"/spool
: >"$FOLDER/pids"

# No cgroups and no accounting: linuxproc follows processes, so that any container will do.
cat >"$FOLDER/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=$HOST(127.0.0.1)
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
ReturnToService=2
StateSaveLocation=$FOLDER/state
SlurmdSpoolDir=$FOLDER/spool
SlurmctldPidFile=$FOLDER/slurmctld.pid
SlurmdPidFile=$FOLDER/slurmd.pid
SlurmctldLogFile=$FOLDER/slurmctld.log
SlurmdLogFile=$FOLDER/slurmd.log
SlurmctldPort=16817
SlurmdPort=16818
SwitchType=switch/none
GresTypes=gpu
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$CPUS RealMemory=$MEMORY Gres=gpu:$CPUS State=UNKNOWN
PartitionName=cpu Nodes=$HOST Default=YES MaxTime=INFINITE State=UP OverSubscribe=YES
CONF
# Make-believe GPUs, so that --gres=gpu:N is granted: plain files stand for the devices.
for number in $(seq 0 $((CPUS - 1))); do touch "$FOLDER/gpu$number"; done
echo "NodeName=$HOST Name=gpu File=$FOLDER/gpu[0-$((CPUS - 1))]" >"$FOLDER/gres.conf"
echo "CgroupPlugin=cgroup/v1" >"$FOLDER/cgroup.conf" # unused; keeps slurmd from asking systemd

install -d -o munge -g munge -m 0755 /run/munge
if ! runuser -u munge -- munge -n >/dev/null 2>&1; then
    runuser -u munge -- /usr/sbin/munged
    sleep 0.5
    cat /run/munge/munged.pid >>"$FOLDER/pids"
fi
slurmctld -f "$FOLDER/slurm.conf"
slurmd -f "$FOLDER/slurm.conf"
export SLURM_CONF="$FOLDER/slurm.conf"
for _ in $(seq 50); do
    if sinfo -h -o %T 2>/dev/null | grep -q idle; then break; fi
    sleep 0.2
done
cat "$FOLDER/slurmctld.pid" "$FOLDER/slurmd.pid" >>"$FOLDER/pids"
sinfo
