"""Language-aware image features for any MMSegmentation decode head."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from ...registry import MODELS
from ...structures import TextFeatures
from ..layers.exporting import is_exporting


@lru_cache(maxsize=64)
def _axis_code(size: int, channels: int, device: torch.device) -> Tensor:
    position = (torch.arange(size) + 0.5) / size * 2 * math.pi
    frequency = 2.0 ** torch.arange(math.ceil(channels / 2)) / 2
    angle = position[:, None] * frequency[None].clamp(max=64.0)
    return torch.cat([angle.sin(), angle.cos()], 1)[:, :channels].to(device)


def position_code(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Sine code (H*W, C) of relative positions: first half rows, second half columns."""
    rows, columns = channels // 2, channels - channels // 2
    # Sizes of an exported graph may be symbols, which no cache knows.
    axis_code = _axis_code.__wrapped__ if is_exporting() else _axis_code
    y = axis_code(height, rows, like.device)[:, None].expand(height, width, rows)
    x = axis_code(width, columns, like.device)[None].expand(height, width, columns)
    return torch.cat([y, x], 2).reshape(height * width, channels).to(like.dtype)


class FusionLayer(nn.Module):
    """One level: pixels read the words, then (coarse levels) each other.

    x + W(GELU(V x) * LN(A(x, text))), pre-norm; then self-attention, if asked for, and a
    feed-forward network. The product with a projection of x lets a word select pixels; the
    norm keeps one word among many from being averaged away.
    """

    def __init__(self, channels: int, text_channels: int, heads: int, self_attention: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(channels)
        self.position = nn.Linear(channels, channels, bias=False)
        nn.init.normal_(self.position.weight, std=0.02)  # content first, place when it helps
        self.query = nn.Linear(channels, channels)
        self.key_value = nn.Linear(text_channels, 2 * channels)
        self.words_norm = nn.LayerNorm(channels)
        self.value_of_pixel = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.self_norm = nn.LayerNorm(channels) if self_attention else None
        self.self_qkv = nn.Linear(channels, 3 * channels) if self_attention else None
        self.self_out = nn.Linear(channels, channels) if self_attention else None
        self.ffn = nn.Sequential(
            nn.LayerNorm(channels),
            nn.Linear(channels, 2 * channels),
            nn.GELU(),
            nn.Linear(2 * channels, channels),
        )

    def forward(self, x: Tensor, position: Tensor, text: TextFeatures) -> Tensor:
        """x: (E, N, C), position: (N, C) -> (E, N, C)."""
        position = self.position(position)
        y = self.norm(x) + position
        key, value = self.key_value(text.tokens).chunk(2, -1)
        words = self.words_norm(self._attend(self.query(y), key, value, text.mask[:, None, None]))
        x = x + self.out(F.gelu(self.value_of_pixel(y)) * words)
        if self.self_norm is not None and self.self_qkv is not None and self.self_out is not None:
            y = self.self_norm(x) + position
            x = x + self.self_out(self._attend(*self.self_qkv(y).chunk(3, -1)))
        return x + self.ffn(x)

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        split = [t.unflatten(-1, (self.heads, -1)).transpose(1, 2) for t in (query, key, value)]
        return F.scaled_dot_product_attention(*split, attn_mask=mask).transpose(1, 2).flatten(2)


@MODELS.register_module()
class CrossAttentionFusion(BaseModule):
    """Makes multi-level image features language-aware, shapes unchanged.

    Args:
        in_channels: C_i of every level of the backbone.
        text_channels: C of the text encoder.
        levels: Levels to fuse; the others pass through untouched. Name those that the head
            reads: a fused level that nothing reads has parameters without gradient.
        self_attention: Levels whose pixels also attend to each other (cost (H_i W_i)^2),
            which relations between objects need.
        depth: Layers per level; an object that is named by its neighbour takes two.
        head_channels: Channels of one attention head.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        text_channels: int,
        *,
        levels: Sequence[int] | None = None,
        self_attention: Sequence[int] = (),
        depth: int = 1,
        head_channels: int = 32,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        count = len(in_channels)
        chosen = sorted({i % count for i in (range(count) if levels is None else levels)})
        attending = {i % count for i in self_attention}
        if not attending <= set(chosen):
            raise ValueError(f'self_attention levels {attending} must be among levels {chosen}')
        self.layers = nn.ModuleDict()
        for i in chosen:
            heads = max(1, in_channels[i] // head_channels)
            if in_channels[i] % heads:
                raise ValueError(
                    f'level {i} has {in_channels[i]} channels, which {heads} heads do not divide: '
                    f'choose another head_channels than {head_channels}'
                )
            self.layers[str(i)] = nn.ModuleList(
                FusionLayer(in_channels[i], text_channels, heads, i in attending)
                for _ in range(depth)
            )

    def forward(self, visual: Sequence[Tensor], text: TextFeatures) -> tuple[Tensor, ...]:
        """Levels (E, C_i, H_i, W_i) -> the same shapes, language-aware."""
        levels = list(visual)
        for key, layers in self.layers.items():
            level = levels[int(key)]
            _, channels, height, width = level.shape
            position = position_code(height, width, channels, level)
            pixels = level.flatten(2).transpose(1, 2)  # (E, H*W, C)
            for layer in cast(nn.ModuleList, layers):
                pixels = layer(pixels, position, text)
            levels[int(key)] = pixels.transpose(1, 2).unflatten(2, (height, width)).contiguous()
        return tuple(levels)
