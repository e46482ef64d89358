"""How far a test is."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.runner import Runner
from mmseg.structures import SegDataSample
from tqdm import tqdm

from ..progress import BAR


class ProgressHook(Hook):
    """A bar over the batches of a test, on the terminal of the main process."""

    def before_test_epoch(self, runner: Runner) -> None:
        options = {**BAR, **({} if is_main_process() else dict(disable=True))}
        total = len(runner.test_dataloader)
        self._bar = tqdm(desc='test', unit='batch', total=total, **options)

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        self._bar.update()

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._bar.close()
