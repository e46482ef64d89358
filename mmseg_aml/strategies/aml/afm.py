"""AFM: which blocks of the image does training black out?

AMLRIS, ICLR 2026, arXiv 2602.22740, section "Alignment-aware Filtering Mask".
E = expressions, N = blocks of an image.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ...transfer import to_device
from ..base import Masked, View
from ..masking.blocks import choose, pool_blocks, spared_blocks, upsample_scores


def block_scores(scores: Tensor, view: View, block_size: int) -> Tensor:
    """Score of a block (E, H_b, W_b): the lowest one of its pixels, bilinear from the map.

    So a block is below a threshold where the paper finds a weak pixel in it. Pixels in the
    padding do not count; a block of padding has inf.
    """
    pixels = upsample_scores(scores, view.size, view.valid)
    return pool_blocks(pixels.masked_fill(~view.valid, float('inf')), block_size, 'min')


@MODELS.register_module()
class AFM(BaseModule):
    """Masks a random part of the weakly aligned blocks.

    Weak is as in the paper: a block that holds a pixel below tau. What is drawn is not: the
    paper draws a share rho of the weak *pixels* and masks every block with a drawn one,
    which is every weak block (one of n weak pixels stays with probability (1 - rho)^n);
    here a share rho of the weak *blocks* is drawn. :mod:`.literal` is the paper as written.

    Args:
        threshold: tau, 0.4 by default.
        quantile: Instead of a threshold: tau is this quantile of the image's own blocks.
        ratio: rho, share of the weak blocks that is masked (rounded down).
        block_size: Side of a block in pixels.
        keep_target: At least this share of the target stays visible; blocks are spared at
            random, and the others are masked in their place while there are any.
    """

    def __init__(
        self,
        *,
        threshold: float | None = None,
        quantile: float | None = None,
        ratio: float = 0.25,
        block_size: int = 32,
        keep_target: float = 0.0,
    ) -> None:
        super().__init__()
        for name, share in dict(ratio=ratio, quantile=quantile, keep_target=keep_target).items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {share}')
        if threshold is not None and quantile is not None:
            raise ValueError('threshold and quantile exclude each other: give one of them')
        self.threshold = 0.4 if threshold is None else threshold
        self.quantile = quantile
        self.ratio = ratio
        self.block_size = block_size
        self.keep_target = keep_target

    def weak(self, scores: Tensor, view: View) -> Tensor:
        """(E, H_b, W_b) bool: blocks that may be masked."""
        found = block_scores(scores, view, self.block_size)
        if self.quantile is None:
            return found < self.threshold
        inside = found.masked_fill(found.isinf(), float('nan')).flatten(1)
        return found < inside.nanquantile(self.quantile, dim=1)[:, None, None]

    @torch.no_grad()
    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        """Chooses the blocks to mask; scores (E, h, w) in [0, 1], higher = better aligned."""
        weak = self.weak(scores, view)
        sparing = self.keep_target > 0
        draws = torch.rand(len(weak), 1 + sparing, *weak.shape[1:], generator=generator)
        draws = to_device(draws, weak.device).flatten(2)  # (E, 1 or 2, N)
        candidates = weak.flatten(1)
        count = (candidates.sum(1) * self.ratio).floor()
        if sparing:
            target = pool_blocks(view.targets & view.valid, self.block_size, 'sum').flatten(1)
            candidates = candidates & ~spared_blocks(target, self.keep_target, draws[:, 1])
        masked = choose(candidates, count, draws[:, 0]).view(weak.shape)
        return Masked(masked, weak, self.block_size)
