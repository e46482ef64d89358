"""AFM: which blocks of the image does training black out?

AMLRIS, ICLR 2026, arXiv 2602.22740, section "Alignment-aware Filtering Mask".
Blocks are squares of the network's input; E = expressions, H_b x W_b = block grid.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from ..registry import MODELS

Size = tuple[int, int]


# --- pure functions ----------------------------------------------------------


def block_grid(image_size: Size, block_size: int) -> Size:
    """(H_b, W_b): the last row and column may be cut by the image's edge."""
    return -(-image_size[0] // block_size), -(-image_size[1] // block_size)


def pool_blocks(pixels: Tensor, block_size: int, reduce: str) -> Tensor:
    """(E, H, W) -> (E, H_b, W_b), 'max' or 'sum' over the pixels of every block."""
    rows, columns = block_grid(tuple(pixels.shape[-2:]), block_size)  # type: ignore[arg-type]
    missing = (0, columns * block_size - pixels.shape[-1], 0, rows * block_size - pixels.shape[-2])
    fill = float('-inf') if reduce == 'max' else 0.0
    blocks = F.pad(pixels.float(), missing, value=fill)
    blocks = blocks.unflatten(2, (columns, block_size)).unflatten(1, (rows, block_size))
    return blocks.amax((2, 4)) if reduce == 'max' else blocks.sum((2, 4))


def valid_pixels(sizes: Sequence[Size], image_size: Size, device: torch.device) -> Tensor:
    """(E, H, W) bool, False in the padding right of and below each image."""
    rows = torch.arange(image_size[0], device=device)
    columns = torch.arange(image_size[1], device=device)
    limits = torch.tensor(list(sizes), device=device)
    inside_rows = rows[None, :, None] < limits[:, :1, None]
    return inside_rows & (columns[None, None] < limits[:, 1:, None])


def upsample_scores(scores: Tensor, image_size: Size) -> Tensor:
    """Score maps (E, h, w) -> pixels (E, H, W), bilinear as in the paper."""
    return F.interpolate(scores[:, None].float(), image_size, mode='bilinear')[:, 0]


def block_scores(scores: Tensor, image_size: Size, block_size: int, valid: Tensor) -> Tensor:
    """Score of a block (E, H_b, W_b): the best one of its valid pixels.

    A pixel counts with its up-sampled score and with that of the patch it lies in, so a
    block below a threshold touches nothing that is aligned at or above it. Blocks
    without valid pixels are -inf.
    """
    patches = F.interpolate(scores[:, None].float(), image_size, mode='nearest')[:, 0]
    pixels = torch.maximum(upsample_scores(scores, image_size), patches)
    return pool_blocks(pixels.masked_fill(~valid, float('-inf')), block_size, 'max')


def choose(candidates: Tensor, count: Tensor, draws: Tensor) -> Tensor:
    """Keeps the ``count`` (E,) candidates (E, N) with the smallest ``draws`` (E, N)."""
    rank = draws.masked_fill(~candidates, 2.0).argsort(1).argsort(1)
    return candidates & (rank < count[:, None])


def spare_target(masked: Tensor, target: Tensor, keep: float, draws: Tensor) -> Tensor:
    """Gives back masked blocks until at least ``keep`` of the target stays visible.

    Args:
        masked: (E, N) bool. target: (E, N) target pixels in every block.
        keep: Share of the target, 0 to 1.
        draws: (E, N); blocks are given up in this order.
    """
    order = draws.argsort(1)
    hidden = (target * masked).gather(1, order).cumsum(1)
    allowed = hidden <= (1 - keep) * target.sum(1, keepdim=True)
    return masked & torch.zeros_like(masked).scatter(1, order, allowed)


def redistribute(masked: Tensor, valid: Tensor, draws: Tensor) -> Tensor:
    """As many masked blocks as before, anywhere among the valid ones: the control 'random'."""
    shape = masked.shape
    return choose(valid.flatten(1), masked.flatten(1).sum(1), draws.flatten(1)).view(shape)


def apply_blocks(images: Tensor, blocks: Tensor, block_size: int) -> Tensor:
    """Sets masked blocks of normalised images (E, 3, H, W) to 0, the mean colour."""
    pixels = blocks.repeat_interleave(block_size, 1).repeat_interleave(block_size, 2)
    return images.masked_fill(pixels[:, None, : images.shape[-2], : images.shape[-1]], 0.0)


def release_blocks(
    scores: Tensor,
    image_size: Size,
    threshold: float,
    permute: Callable[[int], Tensor],
    block_size: int = 32,
) -> Tensor:
    """The published release's selection, with its index fault, bit for bit.

    The up-sampled map is cut to (block, pixel in block) pairs; of the K weak pairs
    max(1, K // 4) are drawn, and *both* columns are used as block numbers, clamped to the
    last block. So next to the block of a weak pixel, the block whose number is the
    pixel's offset goes too.

    Args:
        scores: (E, h, w). image_size: Square, divisible by ``block_size``.
        permute: K -> a permutation of range(K); called once per sample with weak pixels.

    Returns:
        (E, H_b, W_b) bool, True = masked.
    """
    rows, columns = (side // block_size for side in image_size)
    if image_size != (rows * block_size, columns * block_size) or rows != columns:
        raise ValueError(
            f'the release masks square images divisible by {block_size}, got {image_size}: '
            "use the filter 'mmseg_aml.AFM'"
        )
    pixels = upsample_scores(scores, image_size)
    patches = pixels.unflatten(2, (columns, block_size)).unflatten(1, (rows, block_size))
    patches = patches.permute(0, 1, 3, 2, 4).reshape(len(scores), rows * columns, -1)
    masked = torch.zeros(len(scores), rows * columns, dtype=torch.bool, device=scores.device)
    for sample, weak in zip(masked, patches < threshold):
        pairs = weak.nonzero()
        if len(pairs):
            drawn = permute(len(pairs)).to(pairs.device)[: max(1, len(pairs) // 4)]
            sample[pairs[drawn].clamp(max=rows * columns - 1).flatten()] = True
    return masked.unflatten(1, (rows, columns))


# --- modules -----------------------------------------------------------------


@MODELS.register_module()
class AFM(BaseModule):
    """Masks a random part of the weakly aligned blocks.

    Args:
        threshold: tau; a block is weak if no pixel of it reaches this score.
        quantile: If set, tau is this quantile of the image's own valid blocks instead.
        ratio: rho, share of the weak blocks that is masked (rounded down).
        block_size: Side of a block in pixels.
        select: ``'block'`` draws blocks. ``'pixel'`` is the paper as written: a share rho
            of the weak *pixels* is drawn, and a block with any drawn pixel is masked, so
            that a block of n weak pixels survives with probability (1 - rho)^n.
        max_area: At most this share of the valid blocks is masked.
        keep_target: At least this share of the target stays visible.
    """

    def __init__(
        self,
        *,
        threshold: float = 0.4,
        quantile: float | None = None,
        ratio: float = 0.25,
        block_size: int = 32,
        select: str = 'block',
        max_area: float = 1.0,
        keep_target: float = 0.0,
    ) -> None:
        super().__init__()
        if select not in ('block', 'pixel'):
            raise ValueError(f"select must be 'block' or 'pixel', got {select!r}")
        for name, share in dict(ratio=ratio, max_area=max_area, keep_target=keep_target).items():
            if not 0 <= share <= 1:
                raise ValueError(f'{name} must lie in [0, 1], got {share}')
        self.threshold = threshold
        self.quantile = quantile
        self.ratio = ratio
        self.block_size = block_size
        self.select = select
        self.max_area = max_area
        self.keep_target = keep_target
        if select == 'pixel':
            print_log(
                "AFM(select='pixel') masks (nearly) every weak block: one of n weak pixels stays "
                f'with probability {1 - ratio:g}^n, and a block has {block_size**2} pixels. The '
                "paper as written, for study: train with select='block'",
                'current',
                logging.WARNING,
            )

    def weak(self, scores: Tensor, image_size: Size, valid: Tensor) -> Tensor:
        """(E, H_b, W_b) bool: blocks that may be masked. ``valid``: (E, H, W) bool."""
        pooled = block_scores(scores, image_size, self.block_size, valid)
        inside = pooled.isfinite()
        if self.quantile is None:
            return inside & (pooled < self.threshold)
        per_image = pooled.masked_fill(~inside, float('nan')).flatten(1)
        threshold = per_image.nanquantile(self.quantile, dim=1)
        return inside & (pooled < threshold[:, None, None])

    @torch.no_grad()
    def forward(
        self,
        scores: Tensor,
        image_size: Size,
        *,
        valid_sizes: Sequence[Size] | None = None,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Chooses the blocks to mask.

        Args:
            scores: (E, h, w) in [0, 1], higher = better aligned.
            image_size: (H, W) of the (padded) input.
            valid_sizes: (h, w) of every image without padding. Default: no padding.
            targets: (E, H, W) bool, needed for ``keep_target``.
            generator: CPU generator of the draws.

        Returns:
            (E, H_b, W_b) bool, True = masked.
        """
        size, device = self.block_size, scores.device
        valid = valid_pixels(valid_sizes or [image_size] * len(scores), image_size, device)
        grid = block_grid(image_size, size)
        draws = torch.rand(len(scores), *grid, generator=generator).to(device).flatten(1)
        inside = pool_blocks(valid, size, 'max').flatten(1) > 0
        weak = self.weak(scores, image_size, valid).flatten(1)
        if self.select == 'block':
            chosen, count = weak, (weak.sum(1) * self.ratio).floor()
        else:
            chosen = self._drawn_pixels(scores, image_size, valid, generator).flatten(1)
            count = chosen.sum(1)
        count = torch.minimum(count, (inside.sum(1) * self.max_area).floor())
        masked = choose(chosen, count, draws)
        if self.keep_target > 0:
            if targets is None:
                raise ValueError('keep_target needs the targets')
            covered = pool_blocks(targets & valid, size, 'sum').flatten(1)
            masked = spare_target(masked, covered, self.keep_target, draws)
        return masked.unflatten(1, grid)

    def _drawn_pixels(
        self, scores: Tensor, image_size: Size, valid: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        weak = valid & (upsample_scores(scores, image_size) < self.threshold)
        drawn = torch.rand(weak.shape, generator=generator).to(weak.device) < self.ratio
        return pool_blocks(weak & drawn, self.block_size, 'max') > 0


@MODELS.register_module()
class ReleaseAFM(BaseModule):
    """The filter of the published release: see :func:`release_blocks`."""

    def __init__(self, *, threshold: float = 0.4, block_size: int = 32) -> None:
        super().__init__()
        self.threshold = threshold
        self.block_size = block_size

    def weak(self, scores: Tensor, image_size: Size, valid: Tensor) -> Tensor:
        """(E, H_b, W_b) bool: blocks with a pixel below the threshold."""
        weak = upsample_scores(scores, image_size) < self.threshold
        return pool_blocks(weak & valid, self.block_size, 'max') > 0

    @torch.no_grad()
    def forward(
        self,
        scores: Tensor,
        image_size: Size,
        *,
        valid_sizes: Sequence[Size] | None = None,
        targets: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """As :meth:`AFM.forward`; padding and targets are unknown to the release."""

        def permute(count: int) -> Tensor:
            return torch.randperm(count, generator=generator)

        return release_blocks(scores, image_size, self.threshold, permute, self.block_size)
