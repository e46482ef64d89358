"""Sine position code (DETR, https://arxiv.org/abs/2005.12872)."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def sine_positions(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Position code (height * width, channels), row major, in fp32 on the device of ``like``.

    The first half of the channels codes y, the second x: the 1-based index over the
    length, times 2 pi; sine on even and cosine on odd channels, wavelength base 10000.
    """
    half = channels // 2
    k = torch.arange(half, device=like.device)
    divisor = 10000 ** (2 * torch.div(k, 2, rounding_mode='floor') / half)

    def axis(length: int) -> Tensor:
        at = torch.arange(1, length + 1, device=like.device, dtype=torch.float32)
        angle = (at / (length + 1e-6) * (2 * math.pi))[:, None] / divisor
        return torch.where(k % 2 == 0, angle.sin(), angle.cos())  # (length, half)

    y = axis(height)[:, None].expand(-1, width, -1)
    x = axis(width)[None].expand(height, -1, -1)
    return torch.cat((y, x), -1).flatten(0, 1)
