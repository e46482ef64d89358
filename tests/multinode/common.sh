# What run.sh and slurm.sh share, to be sourced: two nodes, a data set on their shared disk, checks.
ROOT=$(cd "$HERE/../.." && pwd)
FOLDER=$(realpath -m "${1:-$(mktemp -d)}")
PYTHON=${PYTHON:-$ROOT/.venv/bin/python}
CONFIG=${CONFIG:-$ROOT/configs/aml/aml_segformer_r18-mini_1xb8-8e_ref-shapes-64x64.py}
export PYTHON OMP_NUM_THREADS=1 PYTHONPATH=$ROOT REF_SHAPES_ROOT=$FOLDER/ref_shapes
unset PYTHONDONTWRITEBYTECODE
mkdir -p "$FOLDER"/local-{0,1}

# Two "nodes" of one machine: network namespaces with addresses and host names of their own, joined
# by a pair of virtual Ethernet devices.
NODES=(ris-a ris-b)

make_nodes() {
    remove_nodes
    for number in 0 1; do
        local name=${NODES[number]}
        ip netns add "$name"
        mkdir -p "/etc/netns/$name" # ip netns exec puts these files over those in /etc
        printf '127.0.0.1 localhost\n10.77.0.1 ris-a\n10.77.0.2 ris-b\n' >"/etc/netns/$name/hosts"
    done
    ip link add eth0 netns ris-a type veth peer name eth0 netns ris-b
    for number in 0 1; do
        ip -n "${NODES[number]}" addr add "10.77.0.$((number + 1))/24" dev eth0
        ip -n "${NODES[number]}" link set lo up
        ip -n "${NODES[number]}" link set eth0 up
    done
}
node() { # NAME COMMAND...
    ip netns exec "$1" unshare --uts bash -c 'hostname "$0" && exec "$@"' "$@"
}
lose() { # NAME: as by a power cut: first the cable, so that no farewell gets through
    ip -n "$1" link set eth0 down
    ip netns pids "$1" | xargs -r kill -KILL
}
bring_back() { # NAME
    ip -n "$1" link set eth0 up
}
remove_nodes() {
    for name in "${NODES[@]}"; do
        if [ -e "/run/netns/$name" ]; then
            ip netns pids "$name" | xargs -r kill -KILL
            ip netns del "$name"
        fi
        rm -rf "/etc/netns/$name"
    done
}

fail() { # MESSAGE LOG...
    echo "FAILED: $1" >&2
    for log in "${@:2}"; do tail -n 30 "$FOLDER/$log.log" >&2; done
    exit 1
}
check() { # DESCRIPTION COMMAND...
    if "${@:2}"; then echo "ok: $1"; else fail "$1"; fi
}
wait_for() { # LOG PATTERN: until the log holds it
    for _ in $(seq 600); do
        if grep -q "$2" "$FOLDER/$1.log" 2>/dev/null; then return 0; fi
        sleep 0.5
    done
    fail "no \"$2\" in $FOLDER/$1.log" "$1"
}

if ! command -v ip >/dev/null; then
    apt-get update -qq
    apt-get install -y -qq --no-install-recommends iproute2
fi
if [ ! -d "$REF_SHAPES_ROOT" ]; then
    "$PYTHON" "$ROOT/tools/dataset_converters/ref_shapes.py" "$REF_SHAPES_ROOT" \
        --train 48 --val 8 --testA 8 --testB 8 >/dev/null 2>&1
fi
make_nodes
