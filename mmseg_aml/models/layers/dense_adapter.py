"""The adapters of DETRIS: a narrow, densely connected branch beside a frozen tower.

Paper: AAAI 2025, https://arxiv.org/abs/2501.08580. Parameter names are those of the release.
E = expressions, L = text positions, N = patches, C = width of the tower, a = of the adapter.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConvNorm(nn.Module):
    """Convolution with bias over 1 or 2 axes (size kept), batch norm (eps 1e-3), ReLU."""

    def __init__(self, axes: int, in_channels: int, out_channels: int, kernel: int) -> None:
        super().__init__()
        conv, norm = ((nn.Conv1d, nn.BatchNorm1d), (nn.Conv2d, nn.BatchNorm2d))[axes - 1]
        self.conv = conv(in_channels, out_channels, kernel, padding=kernel // 2)
        self.bn = norm(out_channels, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """(E, in_channels, ...) -> (E, out_channels, ...)."""
        return self.bn(self.conv(x)).relu()


class DenseAdapter(nn.Module):
    """Down to ``hidden`` channels, three densely connected branches, and up again.

    Args:
        axes: 1 for words, 2 for patches.
        channels: Width C of the tower.
        hidden: Width a; a multiple of 16.

    Raises:
        ValueError: If ``hidden`` is not a multiple of 16.
    """

    def __init__(self, axes: int, channels: int, hidden: int) -> None:
        super().__init__()
        if hidden % 16:
            raise ValueError(f'adapter_channels must be a multiple of 16, got {hidden}')
        half, quarter, narrow = hidden // 2, hidden // 4, hidden // 16
        self.dense_branch1 = ConvNorm(axes, hidden, half, 1)
        self.dense_branch2 = nn.Sequential(
            ConvNorm(axes, hidden + half, narrow, 1), ConvNorm(axes, narrow, quarter, 3)
        )
        self.dense_branch3 = nn.Sequential(
            ConvNorm(axes, hidden + half + quarter, narrow, 1), ConvNorm(axes, narrow, quarter, 5)
        )
        self.D_fc1 = nn.Linear(channels, hidden)
        self.D_fc2 = nn.Linear(hidden, channels)

    def dense(self, h: Tensor) -> Tensor:
        """(E, a, ...) -> (E, a, ...): half of 1 x 1, a quarter each of kernels 3 and 5."""
        first = self.dense_branch1(h)
        second = self.dense_branch2(torch.cat([h, first], 1))
        third = self.dense_branch3(torch.cat([h, first, second], 1))
        return torch.cat([first, second, third], 1)


class TextAdapter(DenseAdapter):
    """Adapter on words; convolutions run over all slots, padding included, but the first."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__(1, channels, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """(E, L, C) -> (E, L, C), to be added."""
        h = self.D_fc1(x).relu()
        words = self.dense(h[:, 1:].transpose(1, 2)).transpose(1, 2)
        return self.D_fc2(h + torch.cat([h[:, :1], words], 1))


class CrossAligner(nn.Module):
    """Patches ask the words. There is no padding mask, and the answer replaces the patches."""

    def __init__(
        self, hidden: int, text_channels: int, channels: int, heads: int, drop: float
    ) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads, drop, batch_first=True)
        self.image_proj = nn.Linear(hidden, channels)
        self.text_proj = nn.Linear(text_channels, channels)
        self.back_proj = nn.Linear(channels, hidden)

    def forward(self, patches: Tensor, words: Tensor) -> Tensor:
        """(E, N, a) and (E, L, C_text) -> (E, N, a)."""
        keys = self.text_proj(words)
        found, _ = self.multihead_attn(self.image_proj(patches), keys, keys, need_weights=False)
        return self.back_proj(found)


class DenseAligner(DenseAdapter):
    """Adapter on patches that reads the words.

    Args:
        channels: Width C of the tower.
        hidden: Width a of the dense branches; a multiple of 16.
        text_channels: Width of the words.
        align_channels: Width of the attention.
        align_heads: Heads of the attention.
        align_drop: Dropout on its weights.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        text_channels: int,
        align_channels: int,
        align_heads: int,
        align_drop: float,
    ) -> None:
        super().__init__(2, channels, hidden)
        self.cross = CrossAligner(hidden, text_channels, align_channels, align_heads, align_drop)

    def reset_parameters(self) -> None:
        """As published: narrow normal for linear layers, Kaiming for convolutions."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]
            elif isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, words: Tensor, grid: tuple[int, int]) -> Tensor:
        """Tokens of the tower -> what is to be added to them.

        Args:
            x: (E, S + N, C), S special tokens before the patches, row by row.
            words: (E, L, C_text).
            grid: (rows, columns) of the patches.
        """
        h = self.D_fc1(x).relu()
        special, patches = h.split([h.shape[1] - grid[0] * grid[1], grid[0] * grid[1]], 1)
        picture = patches.transpose(1, 2).unflatten(2, grid)  # (E, a, rows, columns)
        dense = (self.dense(picture) + picture).flatten(2).transpose(1, 2)
        return self.D_fc2(h + torch.cat([special, self.cross(dense, words)], 1))
