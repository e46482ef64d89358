"""Square blocks of the network's input, as pure functions; they know no method.

E = expressions, (H, W) = input, (H_b, W_b) = grid of blocks, N = H_b * W_b.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ...transfer import to_device

Size = tuple[int, int]
_FILL = dict(max=float('-inf'), min=float('inf'), sum=0.0)


def block_grid(image_size: Size, block_size: int) -> Size:
    """(H_b, W_b): the last row and column may be cut by the image's edge."""
    return -(-image_size[0] // block_size), -(-image_size[1] // block_size)


def pool_blocks(pixels: Tensor, block_size: int, reduce: str) -> Tensor:
    """(E, H, W) -> (E, H_b, W_b): 'max', 'min' or 'sum' over the pixels of every block."""
    height, width = pixels.shape[-2:]
    rows, columns = block_grid((height, width), block_size)
    missing = (0, columns * block_size - width, 0, rows * block_size - height)
    blocks = F.pad(pixels.float(), missing, value=_FILL[reduce])
    blocks = blocks.unflatten(2, (columns, block_size)).unflatten(1, (rows, block_size))
    if reduce == 'sum':
        return blocks.sum((2, 4))
    return blocks.amax((2, 4)) if reduce == 'max' else blocks.amin((2, 4))


def valid_pixels(sizes: Sequence[Size], image_size: Size, device: torch.device) -> Tensor:
    """(E, H, W) bool, False in the padding right of and below each image of ``sizes``."""
    rows = torch.arange(image_size[0], device=device)
    columns = torch.arange(image_size[1], device=device)
    limits = to_device(torch.tensor(list(sizes)), device)
    inside_rows = rows[None, :, None] < limits[:, :1, None]
    return inside_rows & (columns[None, None] < limits[:, 1:, None])


def upsample_scores(scores: Tensor, image_size: Size, valid: Tensor | None = None) -> Tensor:
    """Score maps (E, h, w) -> pixels (E, H, W), bilinear.

    Cells that lie in the padding, if ``valid`` (E, H, W) is given, do not reach into the
    picture: at its edge the last cell inside goes on, as at the input's own edge.
    """
    cells = scores[:, None].float()
    if valid is None:
        return F.interpolate(cells, image_size, mode='bilinear')[:, 0]
    inside = F.adaptive_max_pool2d(valid[:, None].float(), cells.shape[-2:])
    weighted = F.interpolate(cells * inside, image_size, mode='bilinear')
    return (weighted / F.interpolate(inside, image_size, mode='bilinear').clamp_min(1e-6))[:, 0]


def choose(candidates: Tensor, count: Tensor, draws: Tensor) -> Tensor:
    """Keeps the ``count`` (E,) candidates (E, N) with the smallest ``draws`` (E, N)."""
    rank = draws.masked_fill(~candidates, 2.0).argsort(1).argsort(1)
    return candidates & (rank < count[:, None])


def spared_blocks(target: Tensor, keep: float, draws: Tensor) -> Tensor:
    """Blocks (E, N) bool drawn from the target until they hold ``keep`` of it.

    Args:
        target: (E, N) target pixels in every block.
        keep: Share of the target, 0 to 1.
        draws: (E, N); blocks are spared in this order.
    """
    order = draws.argsort(1)
    ordered = target.gather(1, order)
    before = ordered.cumsum(1) - ordered
    needed = (ordered > 0) & (before < keep * target.sum(1, keepdim=True))
    return torch.zeros_like(needed).scatter(1, order, needed)


def redistribute(masked: Tensor, area: Tensor, draws: Tensor) -> Tensor:
    """The same area anywhere: every masked block moves to one of equal ``area``.

    So cut blocks at an edge are traded for cut ones, and no block for padding.

    Args:
        masked: (E, H_b, W_b) bool. area: Valid pixels of the blocks. draws: In [0, 1).
    """
    flat, size, draw = (tensor.flatten(1) for tensor in (masked, area, draws))
    alike = size[:, :, None] == size[:, None]  # (E, N, N)
    rank = (alike & (draw[:, None] < draw[:, :, None])).sum(2)
    moved = rank < (alike & flat[:, None]).sum(2)
    return moved.view(masked.shape)


def apply_blocks(images: Tensor, blocks: Tensor, block_size: int) -> Tensor:
    """Sets masked blocks of normalised images (E, 3, H, W) to 0, the mean colour."""
    pixels = blocks.repeat_interleave(block_size, 1).repeat_interleave(block_size, 2)
    return images.masked_fill(pixels[:, None, : images.shape[-2], : images.shape[-1]], 0.0)
