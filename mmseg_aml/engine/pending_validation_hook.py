"""The validation that a stopped run still owes."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mmseg_aml.engine.checkpoint_hook import VALIDATED
from mmseg_aml.registry import HOOKS


@HOOKS.register_module()
class PendingValidationHook(Hook):
    """Before a resumed training goes on, validate if the run was stopped while it should.

    A checkpoint is written before its validation. A run that ends between the two would resume
    with the next epoch, and what may be the best epoch would never be measured. A checkpoint
    whose validation had ended, but brought no new best one, is validated once more.
    """

    priority = 'LOWEST'  # all others are ready by then

    def __init__(self) -> None:
        self._resumed = False

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Only a resumed run owes anything."""
        self._resumed = bool(runner._resume)

    def before_train(self, runner: Runner) -> None:
        """Validate if it is due."""
        if self._resumed and self._due(runner):
            runner.logger.warning(
                f'validating after iteration {runner.iter}, which the stopped run had not done'
            )
            assert runner.val_loop is not None
            runner.val_loop.run()

    def _due(self, runner: Runner) -> bool:
        loop: Any = runner.train_loop
        if runner.val_loop is None or runner.message_hub.get_info(VALIDATED) == loop.iter:
            return False
        loop._decide_current_val_interval()
        if isinstance(loop, IterBasedTrainLoop):
            done, last = loop.iter, loop.max_iters
        elif loop.iter == loop.epoch * len(loop.dataloader):
            done, last = loop.epoch, loop.max_epochs
        else:
            return False  # inside an epoch
        return (
            done > 0 and done >= loop.val_begin and (done % loop.val_interval == 0 or done == last)
        )
