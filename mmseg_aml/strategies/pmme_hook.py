"""PMMEHook: steers and watches AML; it does no learning."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..registry import HOOKS
from .aml import BlockMasking
from .base import Schedule, interpolate
from .diagnostics import alignment_diagnostics
from .drawing import draw_training_sample


@HOOKS.register_module()
class PMMEHook(Hook):
    """Schedules AML by ``runner.iter`` (so that resume is right), logs and draws it.

    Scalars, every ``interval`` iterations, under ``train/aml/``: ``weak``, ``masked``,
    ``masked_target`` (shares), ``auc`` (0.5 = the map carries no signal), ``entropy``.

    Args:
        interval: Iterations between diagnostics. 0 logs nothing.
        draw_interval: Iterations between pictures of the batch's first sample. 0 draws none.
        warmup: Iterations before masking follows the map.
        warmup_mode: What happens until then: ``'none'`` (plain) or ``'random'`` blocks.
        threshold: Schedule of tau as (iteration, value) pairs, linear in between.
        ratio: Schedule of rho, likewise.

    Raises:
        TypeError: The model's ``loss_wrapper`` estimates no alignment.
    """

    priority = 'NORMAL'

    def __init__(
        self,
        *,
        interval: int = 50,
        draw_interval: int = 0,
        warmup: int = 0,
        warmup_mode: str = 'none',
        threshold: Schedule | None = None,
        ratio: Schedule | None = None,
    ) -> None:
        if warmup_mode not in ('none', 'random'):
            raise ValueError(f"warmup_mode must be 'none' or 'random', got {warmup_mode!r}")
        self.interval = interval
        self.draw_interval = draw_interval
        self.warmup = warmup
        self.warmup_mode = warmup_mode
        self.schedules = {
            name: [tuple(point) for point in schedule]
            for name, schedule in dict(threshold=threshold, ratio=ratio).items()
            if schedule
        }

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        wrapper = getattr(model, 'loss_wrapper', None)
        if not isinstance(wrapper, BlockMasking) or wrapper.estimator is None:
            raise TypeError(
                f'PMMEHook needs model.loss_wrapper=dict(type="mmseg_aml.AMLLossWrapper") (or '
                f'MaskRISLossWrapper with an estimator), this model has '
                f'{type(wrapper).__name__}: add the wrapper or drop the hook'
            )
        missing = [name for name in self.schedules if not hasattr(wrapper.filter, name)]
        if missing:
            raise TypeError(f'{type(wrapper.filter).__name__} has no {missing} to schedule')
        self.model, self.wrapper = model, wrapper

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        self.wrapper.mode = self.warmup_mode if runner.iter < self.warmup else 'aligned'
        for name, schedule in self.schedules.items():
            setattr(self.wrapper.filter, name, interpolate(schedule, runner.iter))

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        record = self.wrapper.last
        if record is None:
            return
        if self.interval and self.every_n_train_iters(runner, self.interval):
            for name, values in alignment_diagnostics(record, self.wrapper.filter).items():
                if not values.isnan().all():
                    runner.message_hub.update_scalar(f'train/aml/{name}', values.nanmean().item())
        if self.draw_interval and self.every_n_train_iters(runner, self.draw_interval):
            draw_training_sample(runner, self.model, data_batch, record)
