"""All ranks validate the model that the first one saves."""

from __future__ import annotations

from mmengine.dist import broadcast, is_distributed
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mmseg_aml.registry import HOOKS


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Before a validation, give all ranks the buffers of rank 0.

    Weights are equal on all ranks, but each has seen other images, and plain batch norm's running
    statistics with them: the ranks would validate different models, and none but the first would
    be that of the checkpoint. (MMEngine's ``SyncBuffersHook`` takes the mean, which a run that is
    resumed inside an epoch cannot repeat.)
    """

    priority = 'LOW'  # after EMAHook has put its copy in place

    def before_val_epoch(self, runner: Runner) -> None:
        """Broadcast."""
        if is_distributed():
            for buffer in runner.model.buffers():
                broadcast(buffer, 0)
