"""Activation checkpointing of MMSegmentation's and MMEngine's parts without re-entering autograd.

Condition: PyTorch's ``checkpoint`` takes ``use_reentrant`` for True where it is not given.
Reason: MMSegmentation (``with_cp``) and MMEngine (``activation_checkpointing``) do not give it.
Re-entrant checkpointing of two passes lets the ranks of DDP drift apart in silence, and forbids
``torch.autograd.grad``, by which one view's graph is freed before the next is built.
Upstream: https://github.com/pytorch/pytorch/blob/main/torch/utils/checkpoint.py warns since 2.4
that the default is going to change.
Delete when: it has changed.
"""

from __future__ import annotations

import functools
from typing import Any


def checkpoint_without_reentering() -> None:
    """Make ``use_reentrant=False`` the default; who gives it gets what was given."""
    import torch.utils.checkpoint
    from mmengine.runner import activation_checkpointing

    module: Any = torch.utils.checkpoint
    original = module.checkpoint
    if hasattr(original, 'default_reentrant'):
        return

    @functools.wraps(original)
    def checkpoint(function: Any, *args: Any, use_reentrant: bool | None = None, **kw: Any) -> Any:
        return original(function, *args, use_reentrant=bool(use_reentrant), **kw)

    checkpoint.default_reentrant = False  # type: ignore[attr-defined]
    module.checkpoint = checkpoint
    framework: Any = activation_checkpointing
    if hasattr(framework, 'checkpoint'):
        framework.checkpoint = checkpoint
