"""From the host to the device: few copies, none of which waits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; the host goes on at once.

    A copy from ordinary memory first waits for all that the device has still to do; one from
    page-locked memory joins the queue.
    """
    if tensor.device == device:
        return tensor
    if tensor.device.type == 'cpu' and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def stack_alike(tensors: Sequence[Tensor]) -> Tensor | list[Tensor]:
    """One tensor if all have the same shape, else the list."""
    if len({(tensor.shape, tensor.dtype) for tensor in tensors}) == 1:
        return torch.stack(list(tensors))
    return list(tensors)
