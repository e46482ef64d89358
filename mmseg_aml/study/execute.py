"""Train and test the runs of a study: here, side by side, or as a Slurm array."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..engine.atomic_files import write_atomically
from .plan import Run, Study

STOPPED = 128 + signal.SIGTERM  # train.py saved everything and left


class RunError(OSError):
    """A tool of a run failed; the text names its log."""


class Executor:
    """Runs of one study, with the tools in one folder.

    A run whose scores are there is done; one that was stopped goes on from its newest
    checkpoint. Output of the tools goes to ``output.txt`` of the run's folder.

    Args:
        study: The plan.
        tools: Folder of ``train.py`` and ``test.py``.
    """

    def __init__(self, study: Study, tools: Path) -> None:
        self.study, self.tools = study, tools

    def prepare(self, out: Path) -> None:
        """Make the data, once."""
        step = self.study.prepare
        if step is not None and not Path(step.unless).exists():
            self._tool(step.command, out / 'prepare.txt')

    def scores(self, run: Run) -> dict[str, dict[str, float]] | None:
        """``{split: {metric: percent}}`` of a run that is done.

        Raises:
            ValueError: If the folder holds a run of other settings, or lacks a metric.
        """
        folder = Path(run.folder)
        self._check_settings(run)
        files = {split: folder / f'{split}.json' for split in self.study.splits}
        if not all(file.is_file() for file in files.values()):
            return None
        return {split: self._metrics(file) for split, file in files.items()}

    def execute(self, run: Run) -> None:
        """Train and test one run, as far as that has not been done.

        Raises:
            RunError: If a tool fails.
        """
        folder = Path(run.folder)
        if self.scores(run) is not None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'settings.json').write_text(json.dumps(run.settings, indent=1) + '\n')
        log, done = folder / 'output.txt', folder / 'trained.txt'
        options = ['--cfg-options', *(f'{key}={value}' for key, value in run.options.items())]
        if not done.is_file():
            work = ['--work-dir', run.folder, '--resume', *self.study.train]
            self._tool([*self._trainer(run), *work, *options], log, port_of(run))
            write_atomically(str(done), self._checkpoint(folder).encode())
        checkpoint = str(folder / done.read_text())
        for split in self.study.splits:
            found = folder / f'{split}.json'
            if not found.is_file():
                where = ['--split', split, '--json', str(found), '--work-dir', f'{folder}/test']
                self._tool(['test.py', run.config, checkpoint, *where, *options], log)

    def execute_all(self, runs: Sequence[Run], jobs: int) -> list[str]:
        """Execute runs side by side, with a bar; failures do not stop the others, but are told."""
        failed = []
        with ThreadPoolExecutor(jobs) as pool:
            waiting = {pool.submit(self.execute, run): run for run in runs}
            for future in tqdm(as_completed(waiting), total=len(runs), unit='run', desc='study'):
                if isinstance(error := future.exception(), RunError):
                    failed.append(f'{waiting[future].cell}, seed {waiting[future].seed}: {error}')
                elif error is not None:
                    raise error
        return failed

    def _trainer(self, run: Run) -> list[str]:
        if self.study.processes == 1:
            return ['train.py', run.config]
        return ['dist_train.sh', run.config, str(self.study.processes)]

    def _checkpoint(self, folder: Path) -> str:
        """Name of the checkpoint that is tested."""
        if self.study.checkpoint == 'last':
            return Path((folder / 'last_checkpoint').read_text().strip()).name
        best = sorted(folder.glob('best_*.pth'), key=lambda path: path.stat().st_mtime)
        if not best:
            raise RunError(f'no best_*.pth in {folder}: the config saves none')
        return best[-1].name

    def _check_settings(self, run: Run) -> None:
        file = Path(run.folder) / 'settings.json'
        if not file.is_file():
            return
        stored = json.loads(file.read_text())
        changed = [key for key, value in run.settings.items() if stored.get(key) != value]
        if changed:
            raise ValueError(
                f'{run.folder} holds a run with another {" and ".join(changed)}: give another '
                '--out-dir, or remove that folder'
            )

    def _metrics(self, file: Path) -> dict[str, float]:
        found: Mapping[str, Any] = json.loads(file.read_text())
        scores = {}
        for metric in self.study.metrics:
            keys = [key for key in found if key.endswith(f'/{self.study.protocol}/{metric}')]
            if not keys:
                raise ValueError(f'{file} has no {self.study.protocol}/{metric}, only {[*found]}')
            scores[metric] = found[keys[0]]
        return scores

    def _tool(self, command: Sequence[str], log: Path, port: int = 29500) -> None:
        name, *arguments = command
        start = ['bash'] if name.endswith('.sh') else [sys.executable]
        settings = dict(PYTHON=sys.executable, PORT=str(port), **self.study.environment)
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open('a') as stream, left_to_the_child():
            done = subprocess.run(
                [*start, str(self.tools / name), *arguments],
                env={**os.environ, **settings},
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        if done.returncode == STOPPED:
            sys.exit(STOPPED)
        if done.returncode:
            last = log.read_text(errors='replace').strip().splitlines()[-1:]
            raise RunError(
                f'{name} ended with exit code {done.returncode} ({"".join(last)[:300]}); see {log}'
            )


@contextmanager
def left_to_the_child() -> Iterator[None]:
    """Outlive TERM, which Slurm sends to the child too: it saves, and its exit code is taken."""
    try:
        # Not SIG_IGN, which the child would inherit.
        before = signal.signal(signal.SIGTERM, lambda *_: None)
    except ValueError:  # a thread of :meth:`Executor.execute_all`, which no Slurm stops
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def port_of(run: Run) -> int:
    """A port of the run's own, for those that run side by side."""
    return 20000 + sum(run.folder.encode()) % 20000


ARRAY = """\
#!/usr/bin/env bash
#SBATCH --job-name={name} --array={array}
#SBATCH --output={out}/slurm_%A_%a.txt --open-mode=append
#SBATCH --requeue --signal=TERM@300
{settings}
srun --kill-on-bad-exit=1 {command} --run "$SLURM_ARRAY_TASK_ID"
CODE=$?
# Told to stop before its time is over, a run has saved everything: it queues again.
if [ "$CODE" -eq {stopped} ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$CODE"
"""


def array_script(
    name: str, numbers: Sequence[int], out: Path, command: Sequence[str], settings: Sequence[str]
) -> str:
    """A batch script that executes the runs of these numbers as a Slurm array.

    Args:
        name: Of the job.
        numbers: Of the runs, in the order of the plan.
        out: Folder of the study.
        command: What executes run ``--run N``.
        settings: Options of sbatch, such as ``--partition=gpu``.
    """
    return ARRAY.format(
        name=shlex.quote(name),
        array=','.join(map(str, numbers)),
        out=out,
        command=shlex.join(command),
        settings='\n'.join(f'#SBATCH {setting}' for setting in settings),
        stopped=STOPPED,
    )
