"""A handful of the failure drill's scenarios on two real ranks, and its recorded whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HANDFUL = (
    'slow-write-train',
    'signal-to-torchrun-validate',
    'stale-newest-train',
    'dead-rank-write',
)


def test_a_handful(root):
    """SIGTERM while writing takes seconds, or in a validation; a stale disk; a dead rank."""
    done = subprocess.run(
        [sys.executable, str(HERE / 'drill.py'), '--only', *HANDFUL, '2-1-2-ranks-accumulate'],
        env={**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr[-3000:]
    assert '5 of 5 passed' in done.stdout


def test_the_table_in_the_docs_has_every_scenario(root, monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    from drill import MOMENTS, scenarios

    text = (root / 'docs/cluster.md').read_text()
    rows = {
        cells[0]: cells[1:]
        for line in re.findall(r'^\| (.* (?:passed|FAILED).*) \|$', text, re.M)
        for cells in [line.split(' | ')]
    }
    expected = {f'{s.fault}' for s in scenarios()}
    assert len(scenarios()) >= 30 and set(rows) == expected
    assert all(len(cells) == len(MOMENTS) and '' not in cells for cells in rows.values())


@pytest.mark.parametrize('code, requeued', [(143, True), (1, False), (0, False)])
def test_the_batch_script_requeues_what_was_told_to_stop(root, tmp_path, code, requeued):
    """srun and scontrol stand for Slurm's; tests/slurm/time_limit.sh asks the real ones."""
    for name, body in (('srun', f'exit {code}'), ('scontrol', 'echo "$@" >scontrol.log')):
        (tmp_path / name).write_text(f'#!/bin/bash\n{body}\n')
        (tmp_path / name).chmod(0o755)
    (tmp_path / 'last_checkpoint').write_text('interrupted.pth')
    environment = {
        'PATH': f'{tmp_path}:{os.environ["PATH"]}',
        'CONFIG': 'config.py',
        'WORK_DIR': str(tmp_path),
        'SLURM_JOB_ID': '7',
        'SLURM_SUBMIT_DIR': str(root),
    }
    done = subprocess.run(
        ['bash', str(root / 'tools/slurm_batch.sh')], env=environment, cwd=tmp_path
    )
    assert done.returncode == code
    log = tmp_path / 'scontrol.log'
    assert log.exists() == requeued and (not requeued or log.read_text() == 'requeue 7\n')
