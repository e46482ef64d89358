"""BatchNorm's running statistics with several views and with activation checkpointing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def frozen_batch_statistics(module: nn.Module) -> Iterator[None]:
    """Normalise with batch statistics but leave the running ones alone.

    The norms do all that they do else, so that a checkpointed part, which runs again in the
    backward pass and then outside of this context, keeps the same tensors both times.
    """
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm)]
    kept = [(norm, _freeze(norm)) for norm in norms if norm.track_running_stats]
    try:
        yield
    finally:
        for norm, state in kept:
            _unfreeze(norm, state)


def update_statistics_once(module: nn.Module) -> None:
    """Have the norms of ``module`` learn in the forward pass only.

    Activation checkpointing (``with_cp``, MMEngine's ``activation_checkpointing``) runs a part
    again in the backward pass; by itself a norm in it would take every batch twice, and those of
    :func:`frozen_batch_statistics`, too. Idempotent; adds no key to ``state_dict``.
    """
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and _before not in norm._forward_pre_hooks.values():
            norm.register_forward_pre_hook(_before)
            # Also when checkpointing stops early: then an exception leaves the norm in its middle.
            norm.register_forward_hook(_after, always_call=True)


def _in_backward() -> bool:
    # How torch.utils.checkpoint tells, too; there is no public way. Compiled code has no hooks
    # that run in its backward pass.
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def _before(norm: nn.Module, inputs: Any) -> None:
    if _in_backward() and isinstance(norm, _BatchNorm) and norm.track_running_stats:
        norm._recomputed = _freeze(norm)  # pyright: ignore[reportArgumentType]


def _after(norm: nn.Module, inputs: Any, output: Any) -> None:
    if _in_backward() and isinstance(norm, _BatchNorm) and norm.track_running_stats:
        _unfreeze(norm, norm.__dict__.pop('_recomputed'))


_State = tuple['float | None', 'Tensor | None']


def _freeze(norm: _BatchNorm) -> _State:
    state = norm.momentum, norm.num_batches_tracked
    norm.momentum = 0.0
    norm.num_batches_tracked = torch.zeros((), dtype=torch.long)  # SyncBatchNorm asks for one
    return state


def _unfreeze(norm: _BatchNorm, state: _State) -> None:
    norm.momentum, norm.num_batches_tracked = state
