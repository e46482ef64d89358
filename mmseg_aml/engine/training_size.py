"""How long a training is and in which steps: what changes with the number of processes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mmengine.dist import get_world_size
from mmengine.runner import IterBasedTrainLoop, Runner


@dataclass(frozen=True)
class TrainingSize:
    """Sizes of one training run; what a checkpoint keeps of them is ``vars()``.

    processes: ranks. batch_size: samples of a rank and iteration; None if its loader has no such
    number. epoch_length, max_iters: iterations. max_epochs: epochs. by_epoch: whether the loop
    counts epochs. lr_scale: the factor of ``auto_scale_lr``.
    """

    processes: int
    batch_size: int | None
    epoch_length: int
    max_iters: int
    max_epochs: int
    by_epoch: bool
    lr_scale: float

    @classmethod
    def of(cls, runner: Runner) -> TrainingSize:
        """The sizes of a Runner whose training loop is built."""
        loop: Any = runner.train_loop
        batch_size = loop.dataloader.batch_size
        scaling = runner.auto_scale_lr or {}
        samples = get_world_size() * (batch_size or 1)
        return cls(
            processes=get_world_size(),
            batch_size=batch_size,
            epoch_length=len(loop.dataloader),
            max_iters=loop.max_iters,
            max_epochs=loop.max_epochs,
            by_epoch=not isinstance(loop, IterBasedTrainLoop),
            lr_scale=samples / scaling['base_batch_size'] if scaling.get('enable') else 1.0,
        )

    @property
    def step(self) -> int | None:
        """Samples of one iteration, over all ranks."""
        return None if self.batch_size is None else self.processes * self.batch_size

    def differences(self, other: TrainingSize) -> list[str]:
        """What makes iterations mean another thing in ``other``: ``name: here -> there``."""
        names = ['max_epochs' if self.by_epoch else 'max_iters']
        if self.by_epoch:
            names.append('epoch_length')
        if self.step != other.step:
            names += ['processes', 'batch_size']
        pairs = [(name, getattr(self, name), getattr(other, name)) for name in names]
        return [f'{name}: {here} -> {there}' for name, here, there in pairs if here != there]

    def iteration_in(self, other: TrainingSize, epoch: int, iteration: int) -> tuple[int, int]:
        """Where ``other`` stands after the samples of ``iteration`` iterations here.

        Returns:
            Its iteration, and the samples that were seen and will be seen again, because an
            iteration of ``other`` is not cut.
        """
        ratio = self.step / other.step if self.step and other.step else None
        if not self.by_epoch:
            ratio = ratio or 1.0
            return int(iteration * ratio), _rest(self, other, iteration)
        done = iteration - epoch * self.epoch_length
        start = epoch * other.epoch_length
        if done in (0, self.epoch_length):
            return start + (other.epoch_length if done else 0), 0
        same_data = ratio and abs(self.epoch_length * ratio - other.epoch_length) < 1 + ratio
        if not same_data:
            return start, done * (self.step or 1)
        there = min(done * (self.step or 1) // (other.step or 1), other.epoch_length)
        return start + there, _rest(self, other, done)


def _rest(here: TrainingSize, there: TrainingSize, iterations: int) -> int:
    return iterations * here.step % there.step if here.step and there.step else 0


@dataclass(frozen=True)
class Clock:
    """Which step of a schedule belongs to which iteration (or epoch) of the training.

    From ``(begin, begin_step)`` to ``(end, end_step)`` the steps are spread evenly; usually there
    is one step an iteration.
    """

    begin: int
    begin_step: int
    end: int
    end_step: int

    def step_at(self, count: int) -> int:
        """Steps made after ``count`` iterations."""
        steps, length = self.end_step - self.begin_step, self.end - self.begin
        if steps == length or length <= 0:
            return self.begin_step + count - self.begin
        return self.begin_step + (count - self.begin) * steps // length

    def spread(self, count: int, new_count: int, new_end: int) -> Clock:
        """The steps left after ``count``, over what is left from ``new_count`` to ``new_end``."""
        return replace(self, begin=new_count, begin_step=self.step_at(count), end=new_end)
