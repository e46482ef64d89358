"""The report of what ``SkipFaults`` left out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_aml.registry import HOOKS


@HOOKS.register_module()
class DataFaultHook(Hook):
    """After each epoch and at the end, report the items that ``mmseg_aml.SkipFaults`` left out.

    The list is in ``{work_dir}/data_faults_rank{r}.json``. Without ``SkipFaults`` nothing is left
    out, and there is nothing to do. A training without a single batch is refused.
    """

    def before_train(self, runner: Runner) -> None:
        """Look at the length of the data loader.

        Raises:
            ValueError: If it has no batch: with ``drop_last`` the rest of an epoch is left out.
        """
        loop: Any = runner.train_loop
        loader = loop.dataloader
        if len(loader) == 0:
            size = loader.batch_sampler.batch_size
            raise ValueError(
                f'nothing to train on: a batch of train_dataloader takes {size}, and the data set '
                f'has {len(loader.sampler)} samples for this process. Lower '
                'train_dataloader.batch_size, or set train_dataloader.drop_last=False'
            )

    def after_train_epoch(self, runner: Runner) -> None:
        """Write the list."""
        self._write(runner)

    def after_train(self, runner: Runner) -> None:
        """Say the count, also if it is none."""
        faults = self._write(runner)
        if faults is not None:
            runner.logger.warning(
                f'{len(faults)} faulty items were left out of the training: {self._path(runner)}'
            )

    def _write(self, runner: Runner) -> dict[int, str] | None:
        loop: Any = runner.train_loop
        report = getattr(loop.dataloader.dataset, 'faults', None)
        if report is None:
            return None
        faults = report()
        self._path(runner).write_text(json.dumps(faults, indent=1), encoding='utf-8')
        return faults

    def _path(self, runner: Runner) -> Path:
        return Path(runner.work_dir) / f'data_faults_rank{get_rank()}.json'
