"""What the ranks of ``drill.py`` run: a small training, a log of its samples, and one fault."""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import torch.distributed as dist
from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner
from toy_training import ToyData, toy_config

from mmseg_aml.engine import atomic_files, resume_choice, saving
from mmseg_aml.engine.distributed import prepare_launcher

SAMPLES, BATCH, EPOCHS = 24, 2, 3
CUT = {'train': 8, 'accumulate': 9}
"""Iteration of the fault, inside epoch 2. With windows of five the second one cuts a window."""


@DATASETS.register_module(force=True)
class DrillData(ToyData):
    """Says which samples a batch has."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {**super().__getitem__(index), 'item': index}


@HOOKS.register_module(force=True)
class SampleLog(Hook):
    """One line an iteration: launch, rank, epoch, iteration before it, its samples, its rate."""

    def __init__(self, path: str, launch: int) -> None:
        self.path, self.launch = path, launch

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        wrapper: Any = runner.optim_wrapper
        self.rate = wrapper.get_lr()['lr'][0]

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        items = [int(item) for item in data_batch['item']]
        line = dict(launch=self.launch, rank=runner.rank, epoch=runner.epoch, iter=runner.iter)
        line.update(items=items, lr=self.rate)
        with open(f'{self.path}.{runner.rank}', 'a') as file:
            file.write(json.dumps(line) + '\n')


@HOOKS.register_module(force=True)
class Fault(Hook):
    """One fault at one moment.

    action: signal, kill, die, full or none. moment: train, accumulate, validate or write.
    target: who gets the signal: 'launcher' (as torchrun or a scheduler does) or a rank.
    slow: seconds that writing a checkpoint takes from the fault on. iteration: instead of CUT.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        action: str,
        moment: str,
        target: str = 'launcher',
        slow: float = 0.0,
        iteration: int | None = None,
    ) -> None:
        self.action, self.moment, self.target, self.slow = action, moment, target, slow
        self.iteration = iteration or CUT.get(moment)

    def before_train(self, runner: Runner) -> None:
        self.pids = all_gather_object(os.getpid())
        self.launcher = os.getppid()
        self.rank = runner.rank
        if self.moment == 'write':
            self._fault_in_write('epoch_2.pth')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if runner.iter + 1 == self.iteration:
            self.happen()

    def after_val_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if self.moment == 'validate' and runner.epoch == 2 and batch_idx == 1:
            self.happen()

    def happen(self) -> None:
        """On every rank, at the same iteration."""
        dist.barrier()
        if self.slow:
            self._slow_writes()
        if self.action == 'die' and self.rank == 1:
            os._exit(9)
        if self.action == 'full':
            self._fill_disk()
        if self.rank == 0 and self.action in ('signal', 'usr1', 'kill'):
            self._strike()
        if self.action in ('signal', 'usr1', 'kill'):
            time.sleep(0.3)  # it arrives before the next iteration

    def _strike(self) -> None:
        if self.action == 'kill':
            os.killpg(0, signal.SIGKILL)
        number = signal.SIGUSR1 if self.action == 'usr1' else signal.SIGTERM
        os.kill(self.launcher if self.target == 'launcher' else self.pids[int(self.target)], number)

    def _fault_in_write(self, name: str) -> None:
        """Half of the bytes are on the disk when it happens."""
        real = atomic_files.os.fsync

        def fsync(descriptor: int) -> None:
            if os.readlink(f'/proc/self/fd/{descriptor}').endswith(f'/.{name}.tmp'):
                os.ftruncate(descriptor, os.fstat(descriptor).st_size // 2)
                atomic_files.os.fsync = real
                if self.action == 'die':
                    os.kill(self.pids[1], signal.SIGKILL)
                elif self.action == 'full':
                    raise OSError(errno.ENOSPC, 'No space left on device')
                else:
                    self._strike()
                if self.action in ('die', 'kill'):
                    time.sleep(60)
                if self.slow:
                    time.sleep(self.slow)
                raise _WholeAgain
            real(descriptor)

        write = saving.write_atomically

        def write_again(path: Any, content: Any) -> None:
            try:
                write(path, content)
            except _WholeAgain:  # the process lived: it writes on
                write(path, content)

        if self.rank == 0:
            atomic_files.os.fsync = fsync
            saving.write_atomically = write_again

    def _slow_writes(self) -> None:
        write = saving.write_atomically

        def slowly(path: Any, content: Any) -> None:
            time.sleep(self.slow)
            write(path, content)

        saving.write_atomically = slowly

    def _fill_disk(self) -> None:
        def fsync(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, 'No space left on device')

        atomic_files.os.fsync = fsync


class _WholeAgain(Exception):
    pass


def hide_from_rank_one(name: str, looks: int) -> None:
    """A stale view: rank 1 does not see the file for so many looks."""
    read, left = resume_choice.read_checkpoint, [looks]

    def stale(path: Any) -> Any:
        if dist.get_rank() == 1 and Path(path).name == name and left[0] > 0:
            left[0] -= 1
            raise FileNotFoundError(f'no checkpoint {path}')
        return read(path)

    resume_choice.read_checkpoint = stale
    resume_choice.PAUSE = 0.1


def train(folder: str, launch: int, options: dict[str, Any]) -> None:
    """One rank of one launch. Keys of options: windows, fault, stale, rescale, ranks."""
    prepare_launcher('pytorch')
    if 'stale' in options:
        hide_from_rank_one(*options['stale'])
    config = drill_config(Path(folder), launch, options)
    Runner.from_cfg(config).train()


def drill_config(folder: Path, launch: int, options: dict[str, Any]) -> dict[str, Any]:
    """Three epochs of six iterations (on two ranks), validated and saved after each."""
    loader = dict(
        batch_size=BATCH,
        num_workers=0,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='DrillData', size=SAMPLES),
    )
    steps = EPOCHS * SAMPLES // BATCH // 2
    config = toy_config(
        folder,
        train_dataloader=loader,
        val_dataloader=dict(loader, sampler=dict(type='DefaultSampler', shuffle=False)),
        val_evaluator=dict(type='ToyMetric', collect_device='gpu'),
        train_cfg=dict(by_epoch=True, max_epochs=EPOCHS, val_interval=1),
        param_scheduler=dict(type='PolyLR', power=0.9, begin=0, end=steps, by_epoch=False),
        auto_scale_lr=dict(enable=True, base_batch_size=2 * BATCH),
        model_wrapper_cfg=dict(type='mmseg_aml.AnyDeviceDDP'),
        launcher='pytorch',
        resume=launch > 0,
        custom_hooks=[dict(type='SampleLog', path=str(folder / 'samples'), launch=launch)],
    )
    config['optim_wrapper']['accumulative_counts'] = options.get('windows', 1)
    hooks = config['default_hooks']
    hooks['param_scheduler'].update(rescale=options.get('rescale', False))
    hooks['checkpoint'].update(
        save_best='score', rule='greater', max_keep_ckpts=2, patience=options.get('patience', 0.2)
    )
    if 'fault' in options:
        config['custom_hooks'].append(dict(type='Fault', **options['fault']))
    return config
