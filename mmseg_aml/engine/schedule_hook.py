"""Schedules of a training that is resumed with other settings or another number of processes."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from mmengine.hooks import ParamSchedulerHook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mmseg_aml.engine.checkpoints import CheckpointError
from mmseg_aml.engine.rank_state import GRADIENTS
from mmseg_aml.engine.resume_settings import (
    IN_THE_CHECKPOINT,
    config_wins,
    describe,
    differences,
    scale_lr,
    settings_of,
    take_over,
)
from mmseg_aml.engine.training_size import Clock, TrainingSize
from mmseg_aml.registry import HOOKS

RECORD = 'training'
OPTION = 'default_hooks.param_scheduler'


@HOOKS.register_module()
class ScheduleHook(ParamSchedulerHook):
    """MMEngine's ``ParamSchedulerHook`` that knows what its schedule was made for.

    Checkpoints record the settings of the optimizer and of the schedules, the number of
    processes, the batch size and the length of the training. On resuming:

    * Other settings in the config: the checkpoint's win, with a warning that names both values.
      With ``config_wins`` the config's do: optimizer settings and schedules are those of the
      config, at the present step; the optimizer's moments are the checkpoint's.
    * Another number of processes, batch size or length: refused, since a schedule counts
      iterations. With ``rescale`` the training goes on after the same number of samples, the
      steps that are left of the schedule are spread over the iterations that are left, and
      learning rates follow ``auto_scale_lr``. With ``config_wins`` the config's schedule is
      taken as it is.

    Args:
        rescale: Spread the rest of the schedule.
        config_wins: Take the config's settings.

    Raises:
        ValueError: If both are wanted.
    """

    def __init__(self, rescale: bool = False, config_wins: bool = False) -> None:
        if rescale and config_wins:
            raise ValueError(
                f'{OPTION}: rescale keeps the schedule of the checkpoint and config_wins takes '
                'that of the config; set one of them'
            )
        self.rescale = rescale
        self.config_wins = config_wins
        self._iterations: Clock | None = None
        self._epochs: Clock | None = None

    def before_train(self, runner: Runner) -> None:
        """One step an iteration, unless a checkpoint said otherwise."""
        if self._iterations is None or self._epochs is None:
            self._set_clocks(TrainingSize.of(runner))

    def _set_clocks(self, size: TrainingSize) -> None:
        self._iterations = Clock(0, 0, size.max_iters, size.max_iters)
        self._epochs = Clock(0, 0, size.max_epochs, size.max_epochs)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """The steps that are due: usually one."""
        assert self._iterations is not None
        for _ in range(_due(self._iterations, runner.iter)):
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_train_epoch(self, runner: Runner) -> None:
        """The same for schedules that count epochs."""
        assert self._epochs is not None
        for _ in range(_due(self._epochs, runner.epoch)):
            super().after_train_epoch(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the record."""
        if self._iterations is None or self._epochs is None:
            return
        wrapper: Any = runner.optim_wrapper
        checkpoint['meta'][RECORD] = {
            'size': asdict(TrainingSize.of(runner)),
            'settings': settings_of(runner.cfg),
            'optimizer': type(getattr(wrapper, 'optimizer', wrapper)).__name__,
            'iterations': asdict(self._iterations),
            'epochs': asdict(self._epochs),
        }

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Compare, and change the checkpoint that is about to be resumed from.

        Raises:
            CheckpointError: If the schedule does not fit and nothing was asked for, if there is
                nothing left to train, or if the optimizer is another one.
        """
        wrapper: Any = runner.optim_wrapper
        if not runner._resume or not isinstance(wrapper, OptimWrapper):
            return
        record = checkpoint['meta'].get(RECORD)
        if record is None:
            runner.logger.warning(
                'resume: the checkpoint has no record of its settings (it was written without '
                'mmseg_aml.ScheduleHook), so they are not compared with the config: the learning '
                'rate and the schedule are those of the checkpoint'
            )
            return
        self._refuse_another_optimizer(wrapper, record, checkpoint)
        old, new = TrainingSize(**record['size']), TrainingSize.of(runner)
        self._iterations = Clock(**record['iterations'])
        self._epochs = Clock(**record['epochs'])
        settings = differences(record['settings'], settings_of(runner.cfg))
        sizes = old.differences(new)
        if sizes:
            self._refuse_unasked(runner, sizes)
            self._move(runner, checkpoint, old, new, sizes)
        self._choose_settings(runner, checkpoint, record['settings'], settings, bool(sizes))

    def _refuse_another_optimizer(self, wrapper: Any, record: dict, checkpoint: dict) -> None:
        ours, theirs = type(wrapper.optimizer).__name__, record['optimizer']
        groups = len(wrapper.optimizer.param_groups), len(checkpoint['optimizer']['param_groups'])
        if ours != theirs or groups[0] != groups[1]:
            raise CheckpointError(
                f'resume: the checkpoint is of {theirs} with {groups[1]} parameter groups, the '
                f'config has {ours} with {groups[0]}. Set the config back, or train from its '
                'weights alone: load_from=FILE and no --resume'
            )

    def _refuse_unasked(self, runner: Runner, sizes: list[str]) -> None:
        if self.rescale or self.config_wins:
            return
        raise CheckpointError(
            f'resume: the training has another size now ({", ".join(sizes)}; checkpoint -> now), '
            'and the schedule of the checkpoint counts its own iterations. Go back to that size, '
            f'or choose: {OPTION}.rescale=True spreads the rest of the schedule over the rest of '
            f"the training; {OPTION}.config_wins=True takes the config's schedule as it is. For "
            'learning rates by batch size add auto_scale_lr.enable=True'
        )

    def _move(
        self, runner: Runner, checkpoint: dict, old: TrainingSize, new: TrainingSize, sizes: list
    ) -> None:
        """To the iteration of the new size that comes after the same samples."""
        meta = checkpoint['meta']
        epoch, before = meta['epoch'], meta['iter']
        after, again = old.iteration_in(new, epoch, before)
        over = after > new.max_iters or (after == new.max_iters and before < old.max_iters)
        if over or (new.by_epoch and epoch > new.max_epochs):
            raise CheckpointError(
                f'resume: after the samples of the checkpoint the training stands at iteration '
                f'{after}, epoch {epoch}, but ends at iteration {new.max_iters}'
                + (f' (epoch {new.max_epochs})' if new.by_epoch else '')
                + '. Set train_cfg to the length you want'
            )
        assert self._iterations is not None and self._epochs is not None
        if self.rescale:
            self._iterations = self._iterations.spread(before, after, new.max_iters)
            self._epochs = self._epochs.spread(epoch, epoch, new.max_epochs)
            if old.lr_scale != new.lr_scale:
                scale_lr(checkpoint, new.lr_scale / old.lr_scale)
        else:
            self._set_clocks(new)
        meta['iter'] = after
        text = f'resume: {", ".join(sizes)}; iteration {before} is now {after} of {new.max_iters}'
        if again:
            text += f'; {again} samples are seen again'
        if checkpoint.pop(GRADIENTS, None) is not None:
            text += '; the gradients of an unfinished accumulation are left out'
        if self.rescale and old.lr_scale != new.lr_scale:
            text += f'; learning rates times {new.lr_scale / old.lr_scale:g} (auto_scale_lr)'
        runner.logger.warning(text)

    def _choose_settings(
        self, runner: Runner, checkpoint: dict, saved: dict, found: dict, moved: bool
    ) -> None:
        kept = {key: pair for key, pair in found.items() if key.startswith(IN_THE_CHECKPOINT)}
        other = {key: pair for key, pair in found.items() if key not in kept}
        if other:
            text = f"resume: the config's values are used: {describe(other)}"
            window = 'optim_wrapper.accumulative_counts' in other
            if window and checkpoint.pop(GRADIENTS, None) is not None:
                text += '; the gradients of an unfinished accumulation are left out'
            runner.logger.warning(text)
        if self.config_wins and (kept or moved):
            meta = checkpoint['meta']
            config_wins(runner, checkpoint, meta['epoch'], meta['iter'])
            self._set_clocks(TrainingSize.of(runner))
            if kept:
                runner.logger.warning(f"resume: the config's values are used: {describe(kept)}")
        elif kept:
            take_over(runner.cfg, saved)
            runner.dump_config()
            runner.logger.warning(
                f"resume: the checkpoint's values are used: {describe(kept)}. To train on with "
                f"the config's, set {OPTION}.config_wins=True"
            )


def _due(clock: Clock, count: int) -> int:
    return clock.step_at(count + 1) - clock.step_at(count)
