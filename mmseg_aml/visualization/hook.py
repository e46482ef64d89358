"""Pictures of chosen samples during validation and test."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.hooks.hook import DATA_BATCH
from mmengine.logging import print_log
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from mmseg.structures import SegDataSample
from torch.utils.data import DataLoader

from mmseg_aml.datasets.transforms.images import read_rgb
from mmseg_aml.registry import HOOKS

from .visualizer import RISVisualizer


def spread(samples: int, images: int) -> Counter[int]:
    """How many of ``samples`` pictures to draw of each of ``images`` images, evenly spread."""
    return Counter(np.linspace(0, images - 1, samples).round().astype(int).tolist())


def chosen_sentences(
    samples: Sequence[SegDataSample], wanted: Counter[int], first: int
) -> list[SegDataSample]:
    """The samples to draw of a batch.

    Args:
        samples: The flat expressions of the batch.
        wanted: How many of each image, by its place in the process' share.
        first: Place of the batch's first image.
    """
    groups: dict[int, list[SegDataSample]] = {}
    for sample in samples:
        groups.setdefault(first + sample.get('image_index'), []).append(sample)
    chosen = []
    for position, group in groups.items():
        # Not always an image's first sentence; and no sentence twice.
        start, count = position % len(group), min(wanted[position], len(group))
        chosen += (group[start:] + group[:start])[:count]
    return chosen


@HOOKS.register_module()
class RISVisualizationHook(Hook):
    """Write one picture per chosen expression in val and test, to the visualizer's backends.

    Pictures are called ``{val|test}_{sent_id}`` and come from the main process' share of the set.

    Args:
        num_samples: this many expressions, spread evenly over the images.
        sent_ids: exactly these expressions instead.
        interval: draw at every ``interval``-th validation of a training run.

    Raises:
        TypeError: At the start of a run, if the visualizer is no :class:`RISVisualizer`.
    """

    priority = 'LOW'

    def __init__(
        self, num_samples: int = 8, sent_ids: Sequence[int] | None = None, interval: int = 1
    ) -> None:
        if num_samples < 1 or interval < 1:
            raise ValueError(
                f'num_samples and interval must be positive, got {num_samples} and {interval}'
            )
        self.num_samples = num_samples
        self.sent_ids = None if sent_ids is None else frozenset(sent_ids)
        self.interval = interval
        self._missing: set[int] = set()
        self._wanted: Counter[int] = Counter()

    def before_run(self, runner: Runner) -> None:
        if not isinstance(runner.visualizer, RISVisualizer):
            raise TypeError(
                f'RISVisualizationHook draws with mmseg_aml.RISVisualizer, but the visualizer is '
                f'{type(runner.visualizer).__name__}: set visualizer.type in the config'
            )

    def before_val_epoch(self, runner: Runner) -> None:
        self._choose(runner.val_dataloader, self._is_due(runner))

    def before_test_epoch(self, runner: Runner) -> None:
        self._choose(runner.test_dataloader, due=True)

    def _is_due(self, runner: Runner) -> bool:
        """By the runner's own count, so that a resumed run draws when an unbroken one would."""
        loop = runner._train_loop
        if not isinstance(loop, BaseLoop):
            return True  # validation alone, outside training
        done = runner.epoch if isinstance(loop, EpochBasedTrainLoop) else runner.iter
        return -(-done // runner.val_interval) % self.interval == 0

    def _choose(self, dataloader: DataLoader, due: bool) -> None:
        self._missing = set(self.sent_ids or ()) if due else set()
        evenly = due and self.sent_ids is None
        images = len(dataloader.sampler)  # pyright: ignore[reportArgumentType]
        self._wanted = spread(self.num_samples, images) if evenly else Counter()

    def after_val_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        self._draw(runner, 'val', runner.val_dataloader, batch_idx, outputs or ())

    def after_test_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: DATA_BATCH = None,
        outputs: Sequence[SegDataSample] | None = None,
    ) -> None:
        self._draw(runner, 'test', runner.test_dataloader, batch_idx, outputs or ())

    def after_val_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._report_missing('val')

    def after_test_epoch(self, runner: Runner, metrics: dict | None = None) -> None:
        self._report_missing('test')

    def _draw(
        self,
        runner: Runner,
        mode: str,
        dataloader: DataLoader,
        batch_idx: int,
        outputs: Sequence[SegDataSample],
    ) -> None:
        if not is_main_process():
            return
        first = batch_idx * (dataloader.batch_size or 1)  # this batch's images count on from it
        for sample in self._chosen(first, outputs):
            image = read_rgb(sample.get('img_path'), sample.get('ori_shape'))
            name = f'{mode}_{sample.get("sent_id")}'
            runner.visualizer.add_datasample(name, image, sample, step=runner.iter)

    def _chosen(self, first: int, outputs: Sequence[SegDataSample]) -> list[SegDataSample]:
        if self.sent_ids is not None:
            found = [s for s in outputs if s.get('sent_id') in self._missing]
            self._missing -= {s.get('sent_id') for s in found}
            return found
        return chosen_sentences(outputs, self._wanted, first)

    def _report_missing(self, mode: str) -> None:
        if self._missing:
            print_log(
                f'RISVisualizationHook: sent_ids {sorted(self._missing)} did not occur in the main '
                f"process' share of the {mode} set: no picture of them",
                logger='current',
                level=logging.WARNING,
            )
