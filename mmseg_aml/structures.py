"""Records that travel between the rooms; shapes are checked where they are built.

E = expressions in the batch, L = text positions, C = channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from mmseg.structures import SegDataSample
from torch import Tensor

from .transfer import to_device


class TextTokens(NamedTuple):
    """Token ids as the text encoder's own tokenizer made them.

    ids: (E, L) int64, right padded. mask: (E, L) bool, True = real token. starts: (E, L) bool,
    True = first token of a word; False at special tokens and padding. None where the tokenizer
    does not say.
    """

    ids: Tensor
    mask: Tensor
    starts: Tensor | None = None

    def to(self, device: torch.device) -> TextTokens:
        """On another device; the host does not wait for it."""
        return TextTokens(*(None if t is None else to_device(t, device) for t in self))  # type: ignore


class _TextFeatures(NamedTuple):
    tokens: Tensor
    mask: Tensor
    sentence: Tensor


class TextFeatures(_TextFeatures):
    """Encoded referring expressions.

    tokens: (E, L, C). mask: (E, L) bool, True = real token. sentence: (E, C).

    Raises:
        ValueError: If the shapes or the dtype of ``mask`` do not agree.
    """

    __slots__ = ()

    def __new__(cls, tokens: Tensor, mask: Tensor, sentence: Tensor) -> TextFeatures:
        if tokens.ndim != 3 or mask.shape != tokens.shape[:2] or mask.dtype != torch.bool:
            raise ValueError(
                f'expected tokens (E, L, C) and mask (E, L) bool, got tokens '
                f'{tuple(tokens.shape)} and mask {tuple(mask.shape)} {mask.dtype}'
            )
        if sentence.shape != (tokens.shape[0], tokens.shape[2]):
            raise ValueError(
                f'expected sentence (E, C) = {(tokens.shape[0], tokens.shape[2])}, '
                f'got {tuple(sentence.shape)}'
            )
        return super().__new__(cls, tokens, mask, sentence)


class _TextImageFeatures(NamedTuple):
    visual: tuple[Tensor, ...]
    text: TextFeatures
    fused: tuple[Tensor, ...]


class TextImageFeatures(_TextImageFeatures):
    """What ``TextImageSegmentor.encode`` returns.

    visual: per level (E, C_i, H_i, W_i), before text is mixed in where the host
    allows it: what PMME compares with the text. text: :class:`TextFeatures`.
    fused: per level (E, C_i, H_i, W_i), what a plain decode head reads.

    Raises:
        ValueError: If a level does not hold one map per expression.
    """

    __slots__ = ()

    def __new__(
        cls, visual: tuple[Tensor, ...], text: TextFeatures, fused: tuple[Tensor, ...]
    ) -> TextImageFeatures:
        expressions = text.tokens.shape[0]
        for name, levels in (('visual', visual), ('fused', fused)):
            for i, level in enumerate(levels):
                if level.ndim != 4 or level.shape[0] != expressions:
                    raise ValueError(
                        f'expected {name}[{i}] of shape (E={expressions}, C, H, W), '
                        f'got {tuple(level.shape)}'
                    )
        return super().__new__(cls, tuple(visual), text, tuple(fused))


@dataclass
class ExpressionGroup:
    """The K data samples (one per referring expression) of one image.

    Deliberately not a Sequence: MMEngine's ``pseudo_collate`` transposes
    sequences, and images of one batch may have different numbers of expressions.
    """

    samples: list[SegDataSample]
