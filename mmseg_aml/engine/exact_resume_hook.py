"""Resuming in the middle gives the weights that an uninterrupted run gives."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import DataLoader, Sampler

from mmseg_aml.engine.randomness import seed_everything
from mmseg_aml.registry import HOOKS

_DATA, _MODEL = 0, 1  # two streams an iteration


class _ResumedSampler(Sampler):
    """A sampler whose first pass leaves out ``skip`` samples and then calls ``on_start``.

    Data loaders ask their sampler only after drawing the workers' base seed, so that
    ``on_start`` sees the random state in which the first sample is loaded.
    """

    def __init__(self, sampler: Any, skip: int, on_start: Any) -> None:
        self.sampler = sampler
        self.skip = skip
        self.on_start = on_start

    def __iter__(self) -> Iterator[int]:
        skip, self.skip = self.skip, 0
        indices = islice(iter(self.sampler), skip, None)
        if skip:
            self.on_start()
        return indices

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)


class _AlreadySkipped:
    """A loop's data iterator whose first ``count`` draws load nothing.

    ``IterBasedTrainLoop`` draws and drops every batch of the past, or asks an iterator that can to
    ``skip_iter`` (or not even that, ``fast_forward_on_resume``); the sampler has skipped them.
    """

    def __init__(self, iterator: Any, count: int) -> None:
        self.iterator = iterator
        self.count = 0 if hasattr(iterator, 'skip_iter') else count

    def __iter__(self) -> _AlreadySkipped:
        return self

    def __next__(self) -> Any:
        if self.count:
            self.count -= 1
            return None
        return next(self.iterator)

    def skip_iter(self, count: int) -> None:
        """Nothing: the past is skipped."""


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make every iteration a function of (weights, optimizer, seed, rank, iteration number).

    * Random states (Python, NumPy, PyTorch, CUDA) are set from (seed, rank, iteration) before
      each iteration's batch is drawn, so checkpoints need not hold them and a validation in
      between changes nothing.
    * A run that stopped inside an epoch goes on with the next batch. The samples of the past are
      skipped in the sampler, without loading them.

    What is random inside data loader workers must depend on (seed, epoch, index) only, which
    this package's samplers and transforms do.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        # Whether there is a train loop does not tell: EarlyStoppingHook builds it in every mode.
        self._trains = False

    def before_train(self, runner: Runner) -> None:
        self._trains = True

    def after_train(self, runner: Runner) -> None:
        self._trains = False

    def before_train_epoch(self, runner: Runner) -> None:
        """Seed; when resumed, continue behind the last batch."""
        self._seed(runner, runner.iter)
        skip = self._batches_done(runner)
        if skip:
            self._skip(runner, skip)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed for the model: batches may have drawn random numbers in this process or not."""
        self._seed(runner, runner.iter, _MODEL)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Seed for drawing the next batch."""
        self._seed(runner, runner.iter + 1)

    def before_val_epoch(self, runner: Runner) -> None:
        """Seed, so that a validation that a resumed run makes up for is the one it missed."""
        if self._trains:
            self._seed(runner, runner.iter)

    def after_val(self, runner: Runner) -> None:
        """Forget what validation drew."""
        if self._trains:
            self._seed(runner, runner.iter)

    def _seed(self, runner: Runner, iteration: int, stream: int = _DATA) -> None:
        seed_everything(runner.seed or 0, get_rank(), iteration, stream)

    def _batches_done(self, runner: Runner) -> int:
        loop: Any = runner.train_loop
        if isinstance(loop, IterBasedTrainLoop):
            return loop.iter
        done = loop.iter - loop.epoch * len(loop.dataloader)
        if 0 <= done <= len(loop.dataloader):
            return done
        runner.logger.warning(
            f'iteration {loop.iter} is not inside epoch {loop.epoch} of {len(loop.dataloader)} '
            'batches: the data or the batch size changed since the checkpoint. The epoch starts '
            'from its beginning'
        )
        return 0

    def _skip(self, runner: Runner, batches: int) -> None:
        loop: Any = runner.train_loop
        loader: DataLoader = loop.dataloader
        batch_sampler: Any = loader.batch_sampler
        if not hasattr(batch_sampler, 'sampler') or not hasattr(batch_sampler, 'batch_size'):
            raise TypeError(
                f'cannot resume inside an epoch with {type(batch_sampler).__name__}: it needs '
                'the attributes sampler and batch_size, as torch.utils.data.BatchSampler has'
            )
        sampler = batch_sampler.sampler
        if isinstance(sampler, _ResumedSampler):
            sampler = sampler.sampler
        batch_sampler.sampler = _ResumedSampler(
            sampler,
            batches * batch_sampler.batch_size,
            on_start=lambda: self._seed(runner, loop.iter),
        )
        if isinstance(loop, IterBasedTrainLoop):
            fresh: Any = type(loop.dataloader_iterator)(loader)
            stand_in: Any = _AlreadySkipped(fresh, batches)
            loop.dataloader_iterator = stand_in
