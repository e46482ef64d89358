"""What a newcomer sees of a tool that runs: its progress, and warnings that mean something."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

# The frameworks' own, known and without consequence here.
HARMLESS = re.compile(
    r'FileClient|HardDiskBackend|'
    r'OMP_NUM_THREADS|MKL_NUM_THREADS|broadcast_buffers|pkg_resources|prefix is not set|socket|'
    r'resume: no checkpoint'
)
WARNING = re.compile(r'\b(?:WARNING|ERROR|CRITICAL)\b|Warning:|Traceback')
PROGRESS = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*?\bloss: ([\d.]+)')
VALIDATED = re.compile(r'Epoch\(val\).*ris/original/mIoU: ([\d.]+)')


def told(line: str) -> str | None:
    """What the terminal shows of a line of the log; None for nothing."""
    progress, validated = PROGRESS.search(line), VALIDATED.search(line)
    if progress:
        epoch, step, steps, loss = progress.groups()
        return f'  epoch {epoch}, step {step} of {steps}, loss {float(loss):.3f}'
    if validated:
        return f'  validated: mIoU {float(validated[1]):.1f}'
    if WARNING.search(line) and not HARMLESS.search(line):
        return '  ' + line.rstrip()
    return None


def follow(process: subprocess.Popen[str], log: Path, *, quiet: bool = False) -> None:
    """Shows a log file while its process writes it; exits with its last lines if it fails.

    Args:
        quiet: Show warnings alone.
    """
    with open(log, errors='replace') as file:
        while True:
            ended = process.poll() is not None
            for line in file:
                shown = told(line)
                if shown and not (quiet and PROGRESS.search(line)):
                    print(shown, flush=True)
            if ended:
                break
            time.sleep(0.5)
    if process.returncode:
        print(log.read_text(errors='replace')[-3000:])
        sys.exit(f'it ended with exit code {process.returncode}; all of its output: {log}')
