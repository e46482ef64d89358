"""PMMEHook: watches AML; it neither learns nor steers."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ...registry import HOOKS
from ..masking.diagnostics import alignment_diagnostics
from ..masking.drawing import draw_training_sample
from ..masking.masker import Record
from ..two_views import TwoViews


@HOOKS.register_module()
class PMMEHook(Hook):
    """Logs and draws what an alignment estimator sees and what goes dark.

    Scalars, every ``interval`` iterations, under ``train/aml/``: ``weak``, ``masked`` (shares
    of the blocks), ``masked_target`` (share of the target), ``auc`` (0.5 = the map carries no
    signal), ``entropy``. Put it into ``default_hooks``, a dict that configs merge:
    ``custom_hooks`` is a list, which would replace that of the baseline.

    Args:
        interval: Iterations between diagnostics. 0 logs nothing.
        draw_interval: Iterations between pictures of the batch's first sample. 0 draws none.

    Raises:
        TypeError: The model's ``loss_wrapper`` estimates no alignment; an option of version
            0.1 that steered AML, which says where it belongs now.
    """

    priority = 'NORMAL'

    def __init__(self, *, interval: int = 50, draw_interval: int = 0, **steering: Any) -> None:
        if steering:
            raise TypeError(
                f'PMMEHook only watches: it takes no {", ".join(steering)}. In model.loss_wrapper, '
                'AMLLossWrapper takes warmup as a share of the training, and its filter '
                'threshold and ratio as numbers'
            )
        self.interval = interval
        self.draw_interval = draw_interval

    def before_train(self, runner: Runner) -> None:
        model: Any = runner.model.module if is_model_wrapper(runner.model) else runner.model
        wrapper: Any = getattr(model, 'loss_wrapper', None)
        masker = wrapper.masker if isinstance(wrapper, TwoViews) else None
        if masker is None or masker.estimator is None:
            raise TypeError(
                f'PMMEHook needs model.loss_wrapper=dict(type="mmseg_aml.AMLLossWrapper") (or '
                f'MaskRISLossWrapper with an estimator), this model has '
                f'{type(wrapper).__name__}: add the wrapper or drop the hook'
            )
        self.model, self.wrapper = model, wrapper

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        record: Record | None = self.wrapper.last
        if record is None:
            return
        if self.interval and self.every_n_train_iters(runner, self.interval):
            for name, values in alignment_diagnostics(record).items():
                if not values.isnan().all():
                    runner.message_hub.update_scalar(f'train/aml/{name}', values.nanmean().item())
        if self.draw_interval and self.every_n_train_iters(runner, self.draw_interval):
            draw_training_sample(runner, self.model, data_batch, record)
