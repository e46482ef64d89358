"""Makes the levels of a frozen tower comparable: one width, one context, places known."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ..fusions.cross_attention import position_code


class ContextLayer(nn.Module):
    """Pre-norm self-attention of the cells of a level, and a feed-forward network."""

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.query_key = nn.Linear(channels, 2 * channels)
        self.value = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.ffn = feed_forward(channels)

    def forward(self, x: Tensor, position: Tensor) -> Tensor:
        """x: (B, N, C), position: (N, C) -> (B, N, C)."""
        y = self.norm(x)
        query, key = self.query_key(y + position).chunk(2, -1)
        split = [
            t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, self.value(y))
        ]
        x = x + self.out(F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2))
        return x + self.ffn(x)


def feed_forward(channels: int, expansion: int = 2) -> nn.Sequential:
    """Norm, wide layer, GELU, and back."""
    return nn.Sequential(
        nn.LayerNorm(channels),
        nn.Linear(channels, expansion * channels),
        nn.GELU(),
        nn.Linear(expansion * channels, channels),
    )


def depthwise(channels: int) -> nn.Sequential:
    """3x3 depthwise and 1x1 convolution."""
    return nn.Sequential(
        nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
        nn.BatchNorm2d(channels),
        nn.GELU(),
        nn.Conv2d(channels, channels, 1),
    )


@MODELS.register_module()
class PixelEncoder(BaseModule):
    """Coarse to fine: project a level, add the coarser one, mix, attend; once per image.

    What depends on the sentence is left to the head, so that many sentences about one image
    cost little more than one.

    Args:
        in_channels: C_i of the levels, fine to coarse.
        channels: Width C of all levels that come out.
        attend: Levels whose cells attend to each other.
        heads: Attention heads, a divisor of C.
        dropout: Rate at which whole input channels are dropped in training.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        channels: int = 128,
        *,
        attend: Sequence[int] = (1, 2),
        heads: int = 4,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if channels % heads:
            raise ValueError(f'{heads} heads do not divide {channels} channels')
        count = len(in_channels)
        if not set(attend) <= set(range(count)):
            raise ValueError(f'attend={tuple(attend)} names levels that are not among {count}')
        self.channels = channels
        self.laterals = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(width),
                nn.Dropout2d(dropout),
                nn.Conv2d(width, channels, 1),
                nn.BatchNorm2d(channels),
            )
            for width in in_channels
        )
        self.mixers = nn.ModuleList(depthwise(channels) for _ in in_channels[:-1])
        self.refine = feed_forward(channels)
        self.position = nn.Linear(channels, channels, bias=False)
        self.context = nn.ModuleDict({str(i): ContextLayer(channels, heads) for i in attend})

    def forward(self, levels: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Levels (B, C_i, H_i, W_i) -> (B, C, H_i, W_i), which know their places."""
        x: Tensor | None = None
        found = []
        for i in reversed(range(len(levels))):
            lateral = self.laterals[i](levels[i])
            size = lateral.shape[-2:]
            if x is None:
                x = lateral
            else:
                x = lateral + F.interpolate(x, size, mode='bilinear')
                x = x + self.mixers[i](x)
            place = self.position(position_code(size[0], size[1], self.channels, x))  # (N, C)
            if str(i) in self.context:
                cells = self.context[str(i)](x.flatten(2).transpose(1, 2), place)
                x = cells.transpose(1, 2).unflatten(2, size)
            found.append(x + place.T.unflatten(1, size))
        cells = found[-1].flatten(2).transpose(1, 2)
        found[-1] = (cells + self.refine(cells)).transpose(1, 2).unflatten(2, size)
        return tuple(reversed(found))
