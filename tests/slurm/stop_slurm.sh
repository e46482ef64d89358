#!/usr/bin/env bash
# Ends exactly the daemons that start_slurm.sh FOLDER started.
set -euo pipefail
tac "$1/pids" | while read -r pid; do kill "$pid" 2>/dev/null || true; done
