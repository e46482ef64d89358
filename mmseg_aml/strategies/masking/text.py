"""Masking of words in a referring expression, as BERT's pretraining does it.

MaskRIS, arXiv 2411.19067. E = expressions in the batch, L = text positions.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random
from typing import Any, NamedTuple

import torch

from ...structures import TextTokens


class Vocabulary(NamedTuple):
    """What text masking knows of a tokenizer: special ids are never masked."""

    size: int
    mask_id: int
    special: Collection[int]

    @classmethod
    def of(cls, tokenizer: Any) -> Vocabulary:
        """The vocabulary of a Hugging Face tokenizer.

        Raises:
            ValueError: The tokenizer has no mask token (CLIP).
        """
        if tokenizer.mask_token_id is None:
            raise ValueError(
                f'{type(tokenizer).__name__} has no mask token, so words cannot be masked: '
                'set model.loss_wrapper.text_ratio=0, or use a BERT or RoBERTa text encoder'
            )
        return cls(len(tokenizer), tokenizer.mask_token_id, frozenset(tokenizer.all_special_ids))


def mask_tokens(
    ids: Sequence[int],
    random: Random,
    vocabulary: Vocabulary,
    *,
    ratio: float = 0.15,
    shares: tuple[float, float] = (0.8, 0.1),
) -> list[int]:
    """Replaces words of one sentence at random.

    One number is drawn for every position, special or not, and one more for every random
    id: with the same ``random`` the ids are those of the published code.

    Args:
        ids: L token ids, special ones and padding included.
        random: Source of the draws.
        vocabulary: Of the tokenizer that made ``ids``.
        ratio: Share of the words that is chosen.
        shares: Of the chosen words, these shares become the mask token and a random id; the
            rest stays as it is.

    Returns:
        L ids.
    """
    masked = []
    for token in ids:
        draw = random.random()
        if draw < ratio and token not in vocabulary.special:
            draw /= ratio
            if draw < shares[0]:
                token = vocabulary.mask_id
            elif draw < sum(shares):
                token = random.randrange(vocabulary.size)
        masked.append(token)
    return masked


def mask_batch(
    tokens: TextTokens,
    generator: torch.Generator,
    vocabulary: Vocabulary,
    *,
    ratio: float,
    shares: tuple[float, float],
) -> TextTokens:
    """:func:`mask_tokens` on every row (E, L); the attention mask stays as it is."""
    random = Random(int(torch.randint(2**62, (), generator=generator)))
    rows = [
        mask_tokens(row, random, vocabulary, ratio=ratio, shares=shares)
        for row in tokens.ids.tolist()
    ]
    return TextTokens(torch.tensor(rows, device=tokens.ids.device), tokens.mask)
