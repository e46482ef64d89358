"""Pixel-word attention and the language gate of LAVT, and the attention as a fusion of its own.

Paper: https://arxiv.org/abs/2112.02244, equations 1-5 and 6-7; constants and the rules for
padding and normalisation are those of the published network.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from mmseg_aml.registry import MODELS
from mmseg_aml.structures import TextFeatures

PADDING_SCORE = -1e4  # finite, so that an expression without any token attends evenly, not to NaN


def standardise(x: Tensor, eps: float = 1e-5) -> Tensor:
    """Instance normalisation of (E, N, C) over its N positions, without affine parameters.

    Always the statistics of this very image, in evaluation too; a constant channel becomes 0.
    Computed in float32 at least.
    """
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    centred = wide - wide.mean(1, keepdim=True)
    variance = centred.square().mean(1, keepdim=True)
    return (centred * (variance + eps).rsqrt()).to(x.dtype)


class PWAM(nn.Module):
    """Pixel-word attention: every pixel gathers the words that matter to it.

    Args:
        channels: C of the image tokens.
        text_channels: C of the text tokens.
        heads: Attention heads on contiguous groups of channels.
        dropout: Rate after both GELUs.

    Raises:
        ValueError: If ``heads`` does not divide ``channels``.
    """

    def __init__(
        self, channels: int, text_channels: int, *, heads: int = 1, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if channels % heads:
            raise ValueError(f'{heads} heads do not divide {channels} channels')
        self.heads = heads
        self.visual = nn.Linear(channels, channels)
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(text_channels, channels)
        self.value = nn.Linear(text_channels, channels)
        self.words = nn.Linear(channels, channels)
        self.out = nn.Linear(channels, channels)
        self.dropout = nn.Dropout(dropout)

    def reset_parameters(self) -> None:
        """PyTorch's default for all projections, as published."""
        for linear in (self.visual, self.query, self.key, self.value, self.words, self.out):
            linear.reset_parameters()

    def gather_words(self, x: Tensor, text: TextFeatures) -> Tensor:
        """Attend from (E, N, C) image tokens to the words and project: (E, N, C).

        The output projection is applied to the L words instead of to the N >> L attended
        tokens, and the heads are summed inside one product with (E, N, heads * L) weights:
        the same map, without any further (E, N, C) tensor. That is several times faster than
        a fused attention kernel followed by the projection, because L is only about 20.
        """
        split = (self.heads, -1)
        real = text.mask[:, :, None].to(x.dtype)  # (E, L, 1)
        query = standardise(self.query(x)).unflatten(-1, split).transpose(1, 2)  # (E, h, N, d)
        key = (self.key(text.tokens) * real).unflatten(-1, split)  # (E, L, h, d)
        value = (self.value(text.tokens) * real).unflatten(-1, split)
        # The published scale is that of all C channels, also with several heads.
        scores = query @ (key * x.shape[-1] ** -0.5).permute(0, 2, 3, 1)  # (E, h, N, L)
        padding = (1 - real.transpose(1, 2)[:, None]) * PADDING_SCORE  # (E, 1, 1, L)
        weights = (scores + padding).softmax(-1).to(value.dtype)
        projected = torch.einsum(
            'elhd,ohd->ehlo', value, self.words.weight.unflatten(-1, split).to(value.dtype)
        )
        words = weights.transpose(1, 2).flatten(2) @ projected.flatten(1, 2)  # (E, N, C)
        return words + self.words.bias

    def forward(self, x: Tensor, text: TextFeatures) -> Tensor:
        """Fuse image tokens (E, N, C) with ``text``: (E, N, C)."""
        visual = self.dropout(F.gelu(self.visual(x)))
        words = standardise(self.gather_words(x, text))
        return self.dropout(F.gelu(self.out(visual * words)))


class LanguageGate(nn.Module):
    """Adds the fused tokens to the image tokens, each channel weighted within (-1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, channels, bias=False)
        self.fc2 = nn.Linear(channels, channels, bias=False)

    def forward(self, x: Tensor, fused: Tensor) -> Tensor:
        """x + tanh(W2 relu(W1 fused)) * fused, all (E, N, C)."""
        return x + self.fc2(F.relu(self.fc1(fused))).tanh() * fused


@MODELS.register_module()
class PWAMFusion(BaseModule):
    """:class:`PWAM` and a LayerNorm on every level of a backbone that does not read text.

    What is left of LAVT's image tower when its gates are closed: the words act on what is
    handed out, never on what goes on, so the tower runs once per image. That is the network
    that ReLA's recipe trains (:mod:`mmseg_aml.models.checkpoints.rela`).

    Args:
        in_channels: Channels of the levels, fine to coarse.
        text_channels: C of the text tokens.
        heads: Attention heads per level; one by default.
        dropout: Rate inside PWAM.

    Raises:
        ValueError: If ``heads`` does not name one number per level.
    """

    def __init__(
        self,
        *,
        in_channels: Sequence[int],
        text_channels: int,
        heads: Sequence[int] | None = None,
        dropout: float = 0.0,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        heads = heads or [1] * len(in_channels)
        if len(heads) != len(in_channels):
            raise ValueError(f'{len(in_channels)} levels need as many heads, got {tuple(heads)}')
        self.fusions = nn.ModuleList(
            PWAM(channels, text_channels, heads=n, dropout=dropout)
            for channels, n in zip(in_channels, heads)
        )
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in in_channels)

    def forward(self, levels: Sequence[Tensor], text: TextFeatures) -> tuple[Tensor, ...]:
        """Levels (E, C_i, H_i, W_i) -> as many of the same shapes."""
        if len(levels) != len(self.fusions):
            raise ValueError(f'expected {len(self.fusions)} levels, got {len(levels)}')
        fused = []
        for level, fuse, norm in zip(levels, self.fusions, self.norms):
            tokens = norm(fuse(level.flatten(2).transpose(1, 2), text))
            fused.append(tokens.transpose(1, 2).reshape(level.shape))
        return tuple(fused)
