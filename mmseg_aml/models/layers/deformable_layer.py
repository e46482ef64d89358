"""Layer of a multi-scale deformable encoder (Deformable DETR, Mask2Former)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from .deformable_attention import DeformableAttention, Sizes


class DeformableLayer(nn.Module):
    """Deformable self-attention and a ReLU feed-forward network, each with residual, post-norm.

    Args:
        channels: C.
        heads: Attention heads, divides C.
        levels: Levels of the tokens.
        points: Sampling points per head and level.
        inner: Width of the feed-forward network.
    """

    def __init__(self, channels: int, *, heads: int, levels: int, points: int, inner: int) -> None:
        super().__init__()
        self.self_attn = DeformableAttention(channels, heads, levels, points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, inner)
        self.linear2 = nn.Linear(inner, channels)
        self.norm2 = nn.LayerNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor, positions: Tensor, references: Tensor, sizes: Sizes) -> Tensor:
        """Update the tokens of all levels.

        Args:
            x: (E, T, C).
            positions: (T, C).
            references: (T, 2), where the tokens lie in their level.
            sizes: (height, width) per level.

        Returns:
            (E, T, C).
        """
        x = self.norm1(x + self.self_attn(x + positions, references, x, sizes))
        return self.norm2(x + self.linear2(F.relu(self.linear1(x))))
