"""The paper's AFM as written, for study: pixels are drawn, and nearly every weak block goes."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor

from ...registry import MODELS
from ...transfer import to_device
from ..base import Masked, View
from ..masking.blocks import pool_blocks, upsample_scores


@MODELS.register_module()
class LiteralAFM(BaseModule):
    """Draws a share of the weak pixels and masks every block that holds a drawn one.

    Args:
        threshold: tau. ratio: rho, share of the weak pixels. block_size: In pixels.
    """

    def __init__(
        self, *, threshold: float = 0.4, ratio: float = 0.25, block_size: int = 32
    ) -> None:
        super().__init__()
        self.threshold = threshold
        self.ratio = ratio
        self.block_size = block_size
        print_log(
            f'LiteralAFM masks (nearly) every weak block: one of n weak pixels stays with '
            f'probability {1 - ratio:g}^n, and a block has {block_size**2} pixels. The paper as '
            "written, for study: train with 'mmseg_aml.AFM'",
            'current',
            logging.WARNING,
        )

    @torch.no_grad()
    def forward(self, scores: Tensor, view: View, generator: torch.Generator) -> Masked:
        """As :meth:`AFM.forward`."""
        pixels = upsample_scores(scores, view.size, view.valid)
        weak = view.valid & (pixels < self.threshold)
        drawn = to_device(torch.rand(weak.shape, generator=generator), weak.device) < self.ratio
        size = self.block_size
        masked, any_weak = (pool_blocks(part, size, 'max') > 0 for part in (weak & drawn, weak))
        return Masked(masked, any_weak, size)
