"""Neck, decoder and projector of DETRIS (the design of CRIS); parameter names of the release.

E = expressions, L = text positions, C = width, N = h * w pixels of one map.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def conv_norm(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    """Convolution without bias (size kept), batch norm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
    )


class TextGate(nn.Module):
    """Attention of every pixel to the one token of the sentence: a gate per channel.

    With one key all weights are 1, so that only the value and output projections matter;
    the others exist in checkpoints, and their gradient is zero.
    """

    def __init__(self, channels: int, heads: int) -> None:
        super().__init__()
        self.multihead_attn = nn.MultiheadAttention(channels, heads)

    def forward(self, picture: Tensor, sentence: Tensor) -> Tensor:
        """(E, C, h, w) and (E, C) -> (E, C, h, w)."""
        attention = self.multihead_attn
        width = attention.embed_dim
        weight, bias = attention.in_proj_weight[2 * width :], attention.in_proj_bias[2 * width :]
        gate = attention.out_proj(F.linear(sentence, weight, bias))
        return picture * gate[..., None, None]


class AddCoordinates(nn.Module):
    """A convolution on the map and two more channels, x and y from -1 to 1."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = conv_norm(channels + 2, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """(E, C, h, w) -> (E, C, h, w)."""
        height, width = x.shape[-2:]
        rows = torch.linspace(-1, 1, height, device=x.device, dtype=x.dtype)
        columns = torch.linspace(-1, 1, width, device=x.device, dtype=x.dtype)
        y, z = torch.meshgrid(rows, columns, indexing='ij')
        coordinates = torch.stack([z, y]).expand(len(x), -1, -1, -1)
        return self.conv1(torch.cat([x, coordinates], 1))


class GatedNeck(nn.Module):
    """Three maps of one size, gated by the sentence, become one.

    Args:
        in_channels: Widths of the three maps.
        channels: C.
        text_channels: Width of the sentence.
        heads: Heads of the gates' attention (only their number of parameters counts).
    """

    def __init__(
        self, in_channels: list[int], channels: int, text_channels: int, heads: int
    ) -> None:
        super().__init__()
        first, second, third = in_channels
        self.fusion3, self.fusion4, self.fusion5 = (TextGate(channels, heads) for _ in range(3))
        self.txt_proj = nn.Linear(text_channels, channels)
        self.f3_proj = conv_norm(first, channels, 1)
        self.f4_proj = conv_norm(second, channels, 1)
        self.f5_proj = conv_norm(third, channels, 1)
        self.f5_proj[0] = nn.ConvTranspose2d(third, channels, 1, bias=False)  # as published
        self.aggr = conv_norm(3 * channels, channels, 1)
        self.coordconv = nn.Sequential(AddCoordinates(channels), conv_norm(channels, channels, 3))

    def forward(self, levels: tuple[Tensor, ...], sentence: Tensor) -> Tensor:
        """Maps (E, C_i, h, w) and sentence (E, C_text) -> (E, C, h, w)."""
        sizes = [tuple(level.shape[-2:]) for level in levels]
        if len(set(sizes)) > 1:
            raise ValueError(
                f'DETRISHead reads three maps of one size, got {sizes}: it needs a vision '
                'transformer, such as DETRISDINOv2'
            )
        token = self.txt_proj(sentence)
        projections = (self.f3_proj, self.f4_proj, self.f5_proj)
        gates = (self.fusion3, self.fusion4, self.fusion5)
        gated = [
            gate(project(level), token) for project, gate, level in zip(projections, gates, levels)
        ]
        x = self.aggr(torch.cat(gated, 1))
        return x + self.coordconv(x)


def sine_code(length: int, channels: int, like: Tensor) -> Tensor:
    """(length, channels): sin in even and cos in odd channels of p * 10000^(-2j / channels)."""
    frequency = torch.arange(0, channels, 2, device=like.device, dtype=torch.float32)
    frequency = torch.exp(frequency * (-torch.log(torch.tensor(10000.0)) / channels))
    angle = torch.arange(length, device=like.device, dtype=torch.float32)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], 2).flatten(1).to(like.dtype)


def sine_code_2d(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """(height * width, channels): the first half codes the column, the second the row."""
    columns = sine_code(width, channels // 2, like).expand(height, -1, -1)
    rows = sine_code(height, channels // 2, like)[:, None].expand(-1, width, -1)
    return torch.cat([columns, rows], 2).flatten(0, 1)


class DecoderLayer(nn.Module):
    """Pixels attend to pixels, then to words; both answers are normed before they are added."""

    def __init__(self, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        attention: dict[str, Any] = dict(dropout=dropout, batch_first=True)
        self.self_attn_norm = nn.LayerNorm(channels)
        self.cross_attn_norm = nn.LayerNorm(channels)
        self.self_attn = nn.MultiheadAttention(channels, heads, **attention)
        self.multihead_attn = nn.MultiheadAttention(channels, heads, **attention)
        self.ffn = nn.Sequential(
            nn.Linear(channels, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.LayerNorm(hidden),
            nn.Linear(hidden, channels),
        )
        self.norm1 = nn.LayerNorm(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.norm3 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, words: Tensor, padding: Tensor, pixel_code: Tensor, word_code: Tensor
    ) -> Tensor:
        """Pixels (E, N, C), words (E, L, C), padding (E, L) bool -> (E, N, C)."""
        a = self.norm1(x)
        q = a + pixel_code
        x = x + self.dropout(self.self_attn_norm(self.self_attn(q, q, a, need_weights=False)[0]))
        found, _ = self.multihead_attn(
            self.norm2(x) + pixel_code,
            words + word_code,
            words,
            key_padding_mask=padding,
            need_weights=False,
        )
        x = x + self.dropout(self.cross_attn_norm(found))
        return x + self.dropout(self.ffn(self.norm3(x)))

    def word_weights(
        self, x: Tensor, words: Tensor, padding: Tensor, pixel_code: Tensor, word_code: Tensor
    ) -> Tensor:
        """(E, N, L): how every pixel shares its attention among the words, mean of the heads."""
        a = self.norm1(x)
        q = a + pixel_code
        x = x + self.self_attn_norm(self.self_attn(q, q, a, need_weights=False)[0])
        query = self.norm2(x) + pixel_code
        return self.multihead_attn(query, words + word_code, words, key_padding_mask=padding)[1]


class Decoder(nn.Module):
    """Transformer decoder whose queries are the pixels."""

    def __init__(self, layers: int, channels: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            DecoderLayer(channels, heads, hidden, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(channels)

    def inputs(self, picture: Tensor, words: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
        """What the first layer reads."""
        height, width = picture.shape[-2:]
        pixel_code = sine_code_2d(height, width, picture.shape[1], picture)
        word_code = sine_code(words.shape[1], words.shape[2], words)
        return picture.flatten(2).transpose(1, 2), words, ~mask, pixel_code, word_code

    def forward(self, picture: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(E, C, h, w), words (E, L, C) and their mask (E, L) -> (E, C, h, w)."""
        x, *rest = self.inputs(picture, words, mask)
        for layer in self.layers:
            x = layer(x, *rest)
        return self.norm(x).transpose(1, 2).unflatten(2, picture.shape[-2:])

    def word_weights(self, picture: Tensor, words: Tensor, mask: Tensor) -> Tensor:
        """(E, L, h, w): how the pixels share their attention among the words in the last layer."""
        x, *rest = self.inputs(picture, words, mask)
        *others, last = cast('Iterable[DecoderLayer]', self.layers)
        for layer in others:
            x = layer(x, *rest)
        keys, padding, pixel_code, word_code = rest
        weights = last.word_weights(x, keys, padding, pixel_code, word_code)
        return weights.transpose(1, 2).unflatten(2, picture.shape[-2:])


class Projector(nn.Module):
    """Four times the size, then a 3 x 3 kernel made from the sentence."""

    def __init__(self, in_channels: int, channels: int, text_channels: int) -> None:
        super().__init__()

        def upsample() -> nn.Module:
            return nn.Upsample(scale_factor=2, mode='bilinear', align_corners=False)

        self.vis = nn.Sequential(
            upsample(),
            conv_norm(in_channels, in_channels, 3),
            upsample(),
            conv_norm(in_channels, channels, 3),
            nn.Conv2d(channels, channels, 1),
        )
        self.txt = nn.Linear(text_channels, channels * 9 + 1)

    def forward(self, picture: Tensor, sentence: Tensor) -> Tensor:
        """(E, C, h, w) and (E, C_text) -> logits (E, 1, 4h, 4w)."""
        x = self.vis(picture)
        weights = self.txt(sentence)
        kernels = weights[:, :-1].unflatten(1, (x.shape[1], 3, 3))
        # One group per expression: each map meets its own kernel.
        logits = F.conv2d(
            x.flatten(0, 1)[None], kernels, weights[:, -1], padding=1, groups=len(kernels)
        )
        return logits.transpose(0, 1)
