"""The way back from a letterboxed input to the photograph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ..datasets.transforms.letterbox import letterbox_matrices, warp


def unbox_logits(logits: Tensor, box: Sequence[int], shape: Sequence[int]) -> Tensor:
    """Logits of a letterbox, bilinear, at the pixels of the photograph.

    Args:
        logits: (K, C, h, w) that cover the whole letterbox.
        box: (H, W) of the letterbox in pixels.
        shape: (height, width) of the photograph.

    Returns:
        (K, C, height, width).
    """
    logits = F.interpolate(logits, tuple(box), mode='bilinear', align_corners=False)
    matrix, _, _ = letterbox_matrices(shape, box)
    rows = torch.arange(shape[0], dtype=torch.float64) * matrix[1, 1] + matrix[1, 2]
    columns = torch.arange(shape[1], dtype=torch.float64) * matrix[0, 0] + matrix[0, 2]
    y, x = (
        (2 * at / max(side - 1, 1) - 1).to(logits) for at, side in zip((rows, columns), (*box,))
    )
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], 2)
    grid = grid.expand(len(logits), -1, -1, -1)
    return F.grid_sample(logits, grid, padding_mode='border', align_corners=True)


def unbox_probabilities(logits: Tensor, box: Sequence[int], shape: Sequence[int]) -> np.ndarray:
    """Foreground probabilities at the photograph's pixels, as CRIS and DETRIS compute them.

    Sigmoid, bicubic to the letterbox (align_corners=True), then the bicubic affine :func:`warp`
    with a border of 0; values may lie a little outside [0, 1].

    Args:
        logits: (K, 1, h, w), foreground logits that cover the whole letterbox.
        box: (H, W) of the letterbox in pixels.
        shape: (height, width) of the photograph.

    Returns:
        (K, height, width) float32.
    """
    probability = F.interpolate(
        logits.float().sigmoid(), tuple(box), mode='bicubic', align_corners=True
    )
    _, back, _ = letterbox_matrices(shape, box)
    planes = probability[:, 0].cpu().numpy()
    return np.stack([warp(plane, back, shape, cubic=True) for plane in planes])
