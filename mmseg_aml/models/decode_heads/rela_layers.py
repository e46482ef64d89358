"""ReLA's attentions between regions, pixels and words; E = expressions, Q = regions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """``LN(x + MHA(query, key, value))`` with the parameters of PyTorch's attention.

    Args:
        channels: C.
        heads: Attention heads, divides C.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(channels, heads, batch_first=True)
        self.norm = nn.LayerNorm(channels)
        nn.init.xavier_uniform_(self.attn.out_proj.weight)

    def forward(
        self, x: Tensor, query: Tensor, key: Tensor, value: Tensor, blocked: Tensor | None = None
    ) -> Tensor:
        """Attend, all (E, n, C); ``blocked`` (E, Q, T) bool for all heads alike.

        One fused kernel with a mask that all heads share: PyTorch's own forward copies it
        for every head.
        """
        weights = self.attn.in_proj_weight.chunk(3)
        biases = self.attn.in_proj_bias.chunk(3)
        q, k, v = (
            F.linear(part, weight, bias).unflatten(-1, (self.attn.num_heads, -1)).transpose(1, 2)
            for part, weight, bias in zip((query, key, value), weights, biases)
        )
        mask = None if blocked is None else ~blocked[:, None]
        read = F.scaled_dot_product_attention(q, k, v.to(q.dtype), attn_mask=mask)
        return self.norm(x + self.attn.out_proj(read.transpose(1, 2).flatten(2)))


class FeedForward(nn.Module):
    """``LN(x + Linear(ReLU(Linear x)))``."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(channels, inner)
        self.linear2 = nn.Linear(inner, channels)
        self.norm = nn.LayerNorm(channels)
        for linear in (self.linear1, self.linear2):
            nn.init.xavier_uniform_(linear.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(E, Q, C) -> (E, Q, C)."""
        return self.norm(x + self.linear2(F.relu(self.linear1(x))))


class LanguageAttention(nn.Module):
    """Regions read the words; the result is added with a small learned weight.

    Padded slots are attended to as well, as published. The projection of the words starts at
    zero and the weight at 0.1 * sigmoid(0).

    Args:
        channels: C.
        text_channels: Channels of the words.
        heads: Attention heads.
    """

    def __init__(self, channels: int, text_channels: int, heads: int) -> None:
        super().__init__()
        self.project = nn.Linear(text_channels, channels, bias=False)
        self.read = Attention(channels, heads)
        self.weight = nn.Parameter(torch.zeros(()))
        nn.init.zeros_(self.project.weight)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """Regions (E, Q, C), words (E, L, text_channels) -> (E, Q, C)."""
        words = self.project(words)
        return x + 0.1 * self.weight.sigmoid() * self.read(x, x, words, words)


class RegionLayer(nn.Module):
    """Regions read pixels (RIA), perhaps the words, then each other (RLA), then think.

    Args:
        channels: C.
        heads: Attention heads.
        inner: Width of the feed-forward network.
    """

    def __init__(self, channels: int, *, heads: int, inner: int) -> None:
        super().__init__()
        self.pixels = Attention(channels, heads)
        self.regions = Attention(channels, heads)
        self.ffn = FeedForward(channels, inner)

    def forward(
        self,
        x: Tensor,
        place: Tensor,
        key: Tensor,
        value: Tensor,
        blocked: Tensor,
        language: LanguageAttention | None = None,
        words: Tensor | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            x: Regions (E, Q, C).
            place: Position of every region (Q, C).
            key: Pixels with position code (E, T, C).
            value: Pixels (E, T, C).
            blocked: (E, Q, T) bool, pixels that a region does not see.
            language: Attention to ``words`` between the two, where a layer has it.
            words: (E, L, text_channels).

        Returns:
            (E, Q, C).
        """
        # A region that would see nothing sees everything.
        blocked = blocked & ~blocked.all(-1, keepdim=True)
        x = self.pixels(x, x + place, key, value, blocked)
        if language is not None and words is not None:
            x = language(x, words)
        at = x + place
        x = self.regions(x, at, at, x)
        return self.ffn(x)
