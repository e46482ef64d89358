"""LAVT's light decoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from mmseg_aml.registry import MODELS


class FuseLevel(nn.Module):
    """Two 3x3 convolutions on an upsampled coarse map beside a fine one."""

    def __init__(self, in_channels: int, channels: int, norm_cfg: dict[str, Any]) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1, bias=False)
        self.norm1 = build_norm_layer(norm_cfg, channels)[1]
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.norm2 = build_norm_layer(norm_cfg, channels)[1]

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """(E, C', h, w) and (E, C, H, W) -> (E, channels, H, W)."""
        coarse = F.interpolate(coarse, fine.shape[2:], mode='bilinear', align_corners=True)
        x = self.norm1(self.conv1(torch.cat([coarse, fine], dim=1))).relu_()
        return self.norm2(self.conv2(x)).relu_()


@MODELS.register_module()
class LAVTHead(BaseDecodeHead):
    """Top-down decoder of LAVT (https://arxiv.org/abs/2112.02244) on the fused levels.

    Coarse to fine, upsample (align_corners=True), concatenate and convolve; one 1x1
    convolution gives background and foreground at the finest level. It reads plain levels,
    so it works on any four-level backbone or fusion. Convolutions start from PyTorch's
    default, as published.

    Args:
        in_channels: C_i of the levels, fine to coarse.
        channels: Width of the decoder; published: half of the coarsest level's, the default.
        norm_cfg: Norm after each 3x3 convolution.
        kwargs: As mmseg's ``BaseDecodeHead``.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int | None = None,
        *,
        num_classes: int = 2,
        norm_cfg: dict[str, Any] | None = None,
        dropout_ratio: float = 0.0,
        align_corners: bool = True,
        init_cfg: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        norm_cfg = norm_cfg or dict(type='BN')
        super().__init__(
            list(in_channels),
            channels or in_channels[-1] // 2,
            num_classes=num_classes,
            norm_cfg=norm_cfg,
            in_index=list(range(len(in_channels))),  # type: ignore[arg-type]
            input_transform='multiple_select',
            dropout_ratio=dropout_ratio,
            align_corners=align_corners,
            init_cfg=init_cfg,
            **kwargs,
        )
        coarse = in_channels[-1]
        self.levels = nn.ModuleList()  # coarse to fine
        for fine in reversed(in_channels[:-1]):
            self.levels.append(FuseLevel(coarse + fine, self.channels, norm_cfg))
            coarse = self.channels

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        """Levels (E, C_i, H_i, W_i), fine to coarse -> logits (E, 2, H_0, W_0)."""
        *fine, x = self._transform_inputs(inputs)
        for level, skip in zip(self.levels, reversed(fine)):
            x = level(x, skip)
        return self.cls_seg(x)
