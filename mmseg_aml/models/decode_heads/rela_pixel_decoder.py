"""ReLA's pixel decoder: Mask2Former's deformable encoder and one step of a feature pyramid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from mmcv.cnn import ConvModule
from torch import Tensor, nn

from ..layers import DeformableLayer, reference_points, sine_positions


class PixelFeatures(NamedTuple):
    """levels: (E, C, h, w) each, coarse to fine. mask: (E, C, H_0, W_0), what masks are made of."""

    levels: list[Tensor]
    mask: Tensor


class PixelDecoder(nn.Module):
    """Levels at stride 4, 8, 16, 32 -> :class:`PixelFeatures`; always in float32.

    Args:
        in_channels: Channels of the levels, fine to coarse.
        channels: Width C.
        num_layers: Deformable layers.
        num_heads: Heads of the attentions.
        num_points: Sampling points per head and level.
        inner: Width of the feed-forward networks.
        norm_groups: Groups of the group norms.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int,
        *,
        num_layers: int,
        num_heads: int,
        num_points: int,
        inner: int,
        norm_groups: int,
    ) -> None:
        super().__init__()
        finest, *pyramid = in_channels
        self.channels = channels
        self.input_proj = nn.ModuleList(  # coarse to fine
            nn.Sequential(nn.Conv2d(width, channels, 1), nn.GroupNorm(norm_groups, channels))
            for width in reversed(pyramid)
        )
        self.level_embed = nn.Parameter(torch.randn(len(pyramid), channels))
        self.layers = nn.ModuleList(
            DeformableLayer(
                channels, heads=num_heads, levels=len(pyramid), points=num_points, inner=inner
            )
            for _ in range(num_layers)
        )
        norm = dict(type='GN', num_groups=norm_groups)
        self.lateral = ConvModule(finest, channels, 1, bias=False, norm_cfg=norm, act_cfg=None)
        self.output = ConvModule(channels, channels, 3, padding=1, bias=False, norm_cfg=norm)
        self.mask_features = nn.Conv2d(channels, channels, 1)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for projection in self.input_proj:
            nn.init.xavier_uniform_(projection[0].weight)  # type: ignore[index]
            nn.init.zeros_(projection[0].bias)  # type: ignore[index]
        for conv in (self.lateral.conv, self.output.conv, self.mask_features):
            nn.init.kaiming_uniform_(cast(Tensor, conv.weight), a=1)
        nn.init.zeros_(self.mask_features.bias)  # type: ignore[arg-type]

    def forward(self, levels: Sequence[Tensor]) -> PixelFeatures:
        """(E, C_i, H_i, W_i), fine to coarse -> :class:`PixelFeatures`."""
        with torch.autocast(levels[0].device.type, enabled=False):
            kind = self.mask_features.weight.dtype  # float32, but of a model made half
            finest, *pyramid = (level.to(kind) for level in levels)
            maps = [proj(level) for proj, level in zip(self.input_proj, reversed(pyramid))]
            maps = self._run_layers(maps)
            up = F.interpolate(maps[-1], finest.shape[-2:], mode='bilinear', align_corners=False)
            return PixelFeatures(maps, self.mask_features(self.output(self.lateral(finest) + up)))

    def _run_layers(self, maps: list[Tensor]) -> list[Tensor]:
        sizes = [(level.shape[-2], level.shape[-1]) for level in maps]
        x = torch.cat([level.flatten(2).transpose(1, 2) for level in maps], 1)
        positions = torch.cat(
            [
                sine_positions(*size, self.channels, x) + level
                for size, level in zip(sizes, self.level_embed)
            ]
        )
        positions = positions.to(x.dtype)
        references = reference_points(sizes, x)
        for layer in self.layers:
            x = layer(x, positions, references, sizes)
        parts = x.split([height * width for height, width in sizes], 1)
        return [part.transpose(1, 2).unflatten(2, size) for part, size in zip(parts, sizes)]
