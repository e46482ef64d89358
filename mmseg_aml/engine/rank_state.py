"""What a training holds beside the weights and the optimizer, and each rank for itself.

Gradients that wait for the rest of their accumulation window, and running statistics of batch
norms that are not synchronised.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_rank, get_world_size
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from torch import Tensor

from mmseg_aml.engine.checkpoints import bare_model

GRADIENTS = 'accumulated_gradients'
BUFFERS = 'rank_buffers'


def rank_state(runner: Runner) -> dict[str, Any]:
    """What a checkpoint of this moment needs; nothing in most cases. All ranks must call it."""
    gradients, buffers = waiting_gradients(runner), different_buffers(runner)
    state = {GRADIENTS: gradients, BUFFERS: buffers}
    return {key: value for key, value in state.items() if value is not None}


def waiting_gradients(runner: Runner) -> dict[str, Tensor] | None:
    """The gradients of an unfinished window by parameter name; None between two windows.

    Those of several ranks are replaced by their average, in the running training too: the update
    to come averages over the ranks anyway, and a resumed run, of which all ranks start with the
    average, then adds the very same numbers.
    """
    wrapper: Any = runner.optim_wrapper
    if not isinstance(wrapper, OptimWrapper) or wrapper.should_update():
        return None
    trained = {n: p for n, p in bare_model(runner).named_parameters() if p.requires_grad}
    if get_world_size() > 1:
        device = next(iter(trained.values())).device
        present = torch.tensor([p.grad is not None for p in trained.values()], device=device)
        present = present.to(torch.int32)
        all_reduce(present, op='max')
        for parameter, anywhere in zip(trained.values(), present.tolist()):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                all_reduce(parameter.grad, op='mean')
    return {n: p.grad.detach().cpu() for n, p in trained.items() if p.grad is not None}


def different_buffers(runner: Runner) -> list[dict[str, Tensor]] | None:
    """Each rank's buffers that are in checkpoints; None if all ranks have the same."""
    if get_world_size() == 1:
        return None
    model = bare_model(runner)
    kept = model.state_dict()
    mine = {n: b.detach().cpu() for n, b in model.named_buffers() if n in kept}
    everyone: list[dict[str, Tensor]] = all_gather_object(mine)
    same = all(torch.equal(b, rank[n]) for rank in everyone[1:] for n, b in everyone[0].items())
    return None if same else everyone


def put_back(runner: Runner, state: dict[str, Any]) -> None:
    """Give the model what :func:`rank_state` kept.

    Buffers of another number of ranks are left out: then all have those of rank 0.
    """
    model = bare_model(runner)
    gradients = state.get(GRADIENTS, {})
    for name, parameter in model.named_parameters():
        if name in gradients:
            parameter.grad = gradients[name].to(parameter.device, parameter.dtype, copy=True)
    everyone = state.get(BUFFERS, [])
    if len(everyone) == get_world_size():
        buffers = dict(model.named_buffers())
        for name, value in everyone[get_rank()].items():
            buffers[name].copy_(value)
