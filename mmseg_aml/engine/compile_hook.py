"""``torch.compile`` of the two parts that take the time."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from mmseg_aml.registry import HOOKS


def compile_parts(model: Any, **options: Any) -> None:
    """Compile image tower and decode head of a segmentor in place; weights and keys stay.

    Args:
        model: A ``TextImageSegmentor``.
        options: Of ``torch.compile``.
    """
    model.backbone.compile(**options)
    # Module.compile() leaves methods that are called by name as they are.
    called = [(model.decode_head, 'forward')]
    called += [(model.backbone, name) for name in ('stem', 'read') if model.backbone_reads_text]
    for part, name in called:
        if hasattr(part, name):
            setattr(part, name, torch.compile(getattr(part, name), **options))


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles before the first iteration: that one takes minutes, and so does every new size.

    Args:
        mode: Of ``torch.compile``.
    """

    priority = 'VERY_LOW'

    def __init__(self, mode: str = 'default') -> None:
        self.mode = mode

    def before_train(self, runner: Runner) -> None:
        """Checkpoints are loaded by now."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        compile_parts(model, mode=self.mode)
